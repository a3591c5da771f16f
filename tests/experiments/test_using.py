"""generate, embed and export from end to end, and what they say to bad input."""

import signal

import numpy as np
import pytest
import tiny
from commands import assert_refused, experiment, run, start

import igm_jax
from igm_jax.data import SkeletonStore
from igm_jax.training import loop


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a store and a finished run, small enough to be made here."""
    folder = tmp_path_factory.mktemp("using")
    store = tiny.write_store(folder / "store")
    changes = {"data.path": str(folder / "store"), "train.epochs": 1}
    changes |= {"objective.condition_drop": 0.0, "objective.feature_weight": 0}
    changes |= {"objective.distribution_weight": 0, "optimizer.warmup_epochs": 0.5}
    loop.pretrain(tiny.config(changes), store, folder / "runs" / "tiny")
    return folder


def test_generated_clips_are_embedded_like_raw_files(folder):
    """The generated store is read by the next command, beside a file that nobody prepared."""
    result = run(folder, "generate.py", "runs/tiny", "--t=30", "--count=5", "--seed=1")
    assert result.returncode == 0, result.stderr
    line, follows = result.stdout.splitlines()
    assert line == (
        "runs/tiny/generated: 5 clips of 8 frames in metres, one step from t=30, conditioned on "
        "features of real clips, in the coordinates of the camera"
    )
    assert follows == "next: python experiments/inspect_data.py runs/tiny/generated"
    made = SkeletonStore.open(folder / "runs/tiny/generated")
    real = SkeletonStore.open(folder / "store")
    for clip in made:
        of = real[real.clips["name"].tolist().index(clip.name.removeprefix("generated-"))]
        assert clip.facts[1:] == of.facts[1:] and clip.camera > 0

    np.save(folder / "one.npy", real[0].frames)
    np.save(folder / "flat.npy", real[0].frames[..., :2])
    files = ("one.npy", "flat.npy", "runs/tiny/generated", "--skip", "--out=embedded/features.npz")
    result = run(folder, "embed.py", "runs/tiny", *files)
    assert result.returncode == 0, result.stderr
    told = "skipped flat.npy: has 2 coordinates for each joint, and the run reads 3: "
    assert result.stderr.startswith(told) and len(result.stderr.splitlines()) == 1
    told = "embedded/features.npz: 16 features of 6 clips by runs/tiny, step 5, in"
    assert result.stdout.startswith(told)
    with np.load(folder / "embedded/features.npz") as file:
        names, values = file["names"].tolist(), file["features"]
    assert names == ["one.npy", *made.clips["name"].tolist()]
    encode, _ = igm_jax.load_encoder(folder / "runs/tiny")
    np.testing.assert_allclose(values[0], encode(real[0].frames[None])[0], atol=1e-5)


def test_hidden_joints_are_generated_and_their_error_is_told(folder):
    flags = ("--hide=left hand,right hand", "--hide_frames=2:5", "--count=4", "--steps=2")
    result = run(folder, "generate.py", "runs/tiny", *flags, "--out=inpainted")
    assert result.returncode == 0, result.stderr
    error, line, _ = result.stdout.splitlines()
    assert error.startswith(
        "hidden: 2 of 6 joints in 3 of 8 frames; mean error of a hidden joint over 4 clips, in "
        "metres: "
    )
    ours, plain = (float(part.split(";")[0]) for part in error.split(": ")[2:])
    assert "linear interpolation in time" in error and 0 < plain < ours < 100
    assert "2 DDIM steps of the hidden part, conditioned" in line
    made = SkeletonStore.open(folder / "inpainted")
    assert len(made) == 4 and np.isfinite(made.frames).all()


def test_actions_of_files_recordings_and_streams(folder):
    """A run gets its head by the command that predict.py names, and then all three work."""
    store = SkeletonStore.open(folder / "store")
    np.save(folder / "two.npy", store[0].frames[0])
    command = "make one with python experiments/linear_probe.py runs/tiny"
    assert_refused(run(folder, "predict.py", "runs/tiny", "two.npy"), command)
    assert run(folder, "linear_probe.py", "runs/tiny").returncode == 0
    assert (folder / "runs/tiny/linear_probe.npz").is_file()

    result = run(folder, "predict.py", "runs/tiny", "two.npy", "--window=5", "--stride=4")
    assert (result.returncode, result.stderr) == (0, "")
    title, name, *_, files, latency = result.stdout.splitlines()
    assert title.startswith("linear probe of runs/tiny, step 5, of 3 actions")
    assert name.startswith("two.npy: ") and name.endswith(" windows of 5 frames")
    assert files == "  runs/tiny/timelines/two.csv and .png"
    assert latency.endswith(" ms a window (warm)")
    assert (folder / "runs/tiny/timelines/two.png").stat().st_size > 1000
    head, *rows = (folder / "runs/tiny/timelines/two.csv").read_text().splitlines()
    assert head == "clip,start,stop,action,probability,swing,circle,jerk"
    assert rows[0].startswith("two.npy,0,5,") and len(rows) == int(name.split()[1])

    text = "".join(" ".join(map(str, frame.ravel())) + "\n" for frame in store[0].frames[0])
    watch = experiment("predict.py", "runs/tiny", "--watch", "--window=5", "--stride=4")
    process = start(folder, *watch)
    answers, ready = process.communicate(text, timeout=120)
    assert process.returncode == 0 and "ready for 6 joints (tiny6)" in ready
    assert len(answers.splitlines()) == len(rows)
    for line, row in zip(answers.splitlines(), rows):
        _, _, stop, action, share, *_ = row.split(",")
        assert line.startswith(f"frame {stop}: {action} {100 * float(share):.1f} %")

    process = start(folder, *watch)
    process.stdin.write(text)
    process.stdin.flush()
    assert process.stdout.readline().startswith("frame 5: ")
    process.send_signal(signal.SIGINT)  # Ctrl-C
    _, ended = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in ended

    longer = np.repeat(store[0].frames, 9, axis=1)
    np.save(folder / "long.npy", longer)
    told = f"long.npy: has {longer.shape[1]} frames", "slide a window over it with --window="
    for skip, code, names in (
        ("--skip", 0, ["two.npy", "two.npy"]),
        ("--noskip", 1, ["two.npy"]),  # the clips before are kept
    ):
        files = ("two.npy", "long.npy", "two.npy", skip, f"--out=tables/{skip}.csv")
        result = run(folder, "predict.py", "runs/tiny", *files)
        assert result.returncode == code, result.stderr
        assert all(word in result.stderr for word in told)
        _, *rows = (folder / f"tables/{skip}.csv").read_text().splitlines()
        assert [row.split(",")[0] for row in rows] == names


def test_what_is_refused_in_one_line(folder):
    (folder / "empty.npy").touch()
    assert_refused(run(folder, "embed.py", "runs/tiny", "empty.npy"), "empty.npy: is empty")
    assert_refused(run(folder, "embed.py", "runs/tiny", "x.skeleton"), "x.skeleton: no such file")
    generate = ("generate.py", "runs/tiny", "--out=new")
    assert_refused(run(folder, *generate, "--unconditional"), "condition_drop=0.1")
    assert_refused(run(folder, *generate, "--clips=clip0"), "no clip 'clip0'")
    ignored = "--t=3", "--steps=2", "--clips=clip000", "--unconditional"
    told = "leave --t, --steps, --clips, --unconditional, --out"
    assert_refused(run(folder, *generate, "--table", *ignored), told)
    hidden = "--hide=left hnad", "--hide_frames=2:5"
    assert_refused(run(folder, *generate, *hidden), "did you mean 'left hand'")
    assert not (folder / "new").exists()


def test_the_export_says_how_near_it_is(folder):
    pytest.importorskip("safetensors")
    out = "exported/encoder.safetensors"  # in a folder that is made
    result = run(folder, "export.py", "runs/tiny", "--format=safetensors", f"--out={out}")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(f"{out}: 0.0 MB")
    assert (folder / out).is_file()
    # The file says how it reads a clip, so a flag that would say it again is no choice.
    again = ("import_weights.py", out, "--out=runs/again", "--bodies=1")
    told = "--bodies: the file says it: leave the flag out"
    assert_refused(run(folder, *again), told)
