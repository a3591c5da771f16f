"""generate, embed and export from end to end, and what they say to bad input."""

import numpy as np
import pytest
import tiny
from commands import refused, run

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
    files = ("one.npy", "runs/tiny/generated", "--out=features.npz")
    result = run(folder, "embed.py", "runs/tiny", *files)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("features.npz: 16 features of 6 clips by runs/tiny, step 5, in")
    with np.load(folder / "features.npz") as file:
        names, values = file["names"].tolist(), file["features"]
    assert names == ["one.npy", *made.clips["name"].tolist()]
    encode, _ = igm_jax.load_encoder(folder / "runs/tiny")
    np.testing.assert_allclose(values[0], encode(real[0].frames[None])[0], atol=1e-5)


def test_what_is_refused_in_one_line(folder):
    (folder / "empty.npy").touch()
    refused(run(folder, "embed.py", "runs/tiny", "empty.npy"), "empty.npy: ", "no NumPy array")
    refused(run(folder, "embed.py", "runs/tiny", "x.skeleton"), "x.skeleton: no such file")
    generate = ("generate.py", "runs/tiny", "--out=new")
    refused(run(folder, *generate, "--unconditional"), "condition_drop=0.1")
    refused(run(folder, *generate, "--clips=clip0"), "no clip 'clip0'")
    assert not (folder / "new").exists()


def test_the_export_says_how_near_it_is(folder):
    pytest.importorskip("safetensors")
    result = run(folder, "export.py", "runs/tiny", "--format=safetensors")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("runs/tiny/encoder.safetensors: 0.0 MB")
    assert (folder / "runs/tiny/encoder.safetensors").is_file()
