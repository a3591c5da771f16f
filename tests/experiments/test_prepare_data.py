import dataclasses
import json
import os
import random
import shlex
import subprocess
import sys
import time

import numpy as np
import pytest
from commands import ROOT, assert_refused, experiment, output, run

from igm_jax.data import synthetic
from igm_jax.data.formats import ntu60, ntu_writer
from igm_jax.data.formats.prepare import prepare_store
from igm_jax.data.store import SkeletonStore


@pytest.fixture
def prepare(tmp_path):
    def prepare(*flags, cwd=tmp_path):
        return run(cwd, "prepare_data.py", *flags)

    return prepare


@pytest.fixture
def raw(tmp_path):
    """Two good files of NW-UCLA and one of no frames."""
    folder = tmp_path / "raw" / "all_sqe"
    folder.mkdir(parents=True)
    for subject, frames in ((1, 4), (2, 7), (3, 0)):
        record = {"label": 1 + subject, "skeletons": [[[0.0, 0.1, 3.0]] * 20] * frames}
        (folder / f"a01_s{subject:02d}_e00_v01.json").write_text(json.dumps(record))
    return folder.parent


def test_next_command_has_a_protocol_that_a_run_can_use(prepare, tmp_path):
    """One subject leaves nobody to fit on in `xsub`."""
    layout = {"name": "p3", "joints": ["a", "b", "c"], "parents": [None, 0, 1]}
    rows = [f"{i},walk,5" for i in range(6)]
    (tmp_path / "layout.json").write_text(json.dumps(layout))
    (tmp_path / "labels.csv").write_text("\n".join(["clip,label,subject", *rows]))
    for i in range(6):
        np.save(tmp_path / f"{i}.npy", np.ones((4 if i else 1, 3, 2)))
    made = prepare("--dataset=custom", f"--source={tmp_path}", "--out=my s").stdout
    *_, line = made.splitlines()
    assert "\nremark: 1 of 6 clips have one frame, so no motion, such as '0'\n" in made
    assert "\nremark: a run can train, but no probe can judge it: " in made
    assert "no clip is marked as test: add clips, or change their split in labels.csv" in made
    assert shlex.split(line)[3:6] == [
        "--config=configs/custom.py:split",
        "--config.data.path=my s",
        "--config.name=my s",
    ]


def test_a_class_that_only_the_test_has_is_told(prepare, tmp_path):
    layout = {"name": "p3", "joints": ["a", "b", "c"], "parents": [None, 0, 1]}
    rows = [f"{i},{'kick' if i == 1 else 'walk'},{i + 1}" for i in range(6)]
    (tmp_path / "layout.json").write_text(json.dumps(layout))
    (tmp_path / "labels.csv").write_text("\n".join(["clip,label,subject", *rows]))
    for i in range(6):
        np.save(tmp_path / f"{i}.npy", np.ones((4, 3, 2)))
    made = prepare("--dataset=custom", f"--source={tmp_path}", "--out=store").stdout
    assert "\nremark: protocol xsub: only test has the classes kick\n" in made


def test_synthetic_from_any_folder_to_the_default_place(prepare, tmp_path):
    result = prepare("--dataset=synthetic", "--num_clips=12", "--seed=5")
    assert (result.returncode, result.stderr) == (0, "")
    store = SkeletonStore.open(tmp_path / "data" / "synthetic")
    assert (len(store), store.dataset) == (12, "synthetic")
    assert f"{store.path}: 12 clips of" in result.stdout
    command = result.stdout.splitlines()[-1]
    assert command == "next: python experiments/pretrain.py --config=configs/synthetic.py"
    SkeletonStore.verify(store.path)


def test_flags_of_the_generator_are_refused_elsewhere(prepare, raw):
    flags = ("--dataset=nw_ucla", f"--source={raw}")
    assert_refused(prepare(*flags, "--num_clips=7"), "--num_clips: nw_ucla is not generated")


def test_bad_clip_is_skipped_by_name_and_refused_on_demand(prepare, raw, tmp_path):
    flags = ("--dataset=nw_ucla", f"--source={raw}", f"--out={tmp_path / 'out'}")
    assert_refused(prepare(*flags, "--strict"), "'a01_s03_e00_v01'", "it has no frame")
    assert not (tmp_path / "out").exists()
    result = prepare(*flags)
    assert result.returncode == 0
    assert "skipped a01_s03_e00_v01: it has no frame" in result.stdout
    assert "2 clips of 2 classes, 2 subjects, 1 cameras" in result.stdout
    assert "4 to 7 frames" in result.stdout
    assert result.stdout.endswith(f"nw_ucla.py --config.data.path={tmp_path / 'out'}\n")
    assert len(SkeletonStore.open(tmp_path / "out")) == 2
    assert_refused(prepare(*flags), str(tmp_path / "out"), "exists already")
    (raw / "all_sqe" / "a01_s02_e00_v01.json").unlink()
    assert prepare(*flags, "--overwrite").returncode == 0
    assert len(SkeletonStore.open(tmp_path / "out")) == 1


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ((), ("--dataset is missing", "nw_ucla", "synthetic")),
        (("--dataset=ntu",), ("--dataset=ntu is unknown", "nw_ucla", "synthetic")),
        (("--datset=nw_ucla",), ("unknown flag --datset", "did you mean --dataset?")),
        (("nw_ucla",), ("argument 'nw_ucla' is no flag",)),
        (("--num_clips=many",), ("--num_clips=many",)),
        (("--dataset=nw_ucla",), ("--source is missing", "download")),
        (("--dataset=nw_ucla", "--source=/nowhere"), ("/nowhere: no such folder", "download")),
        (("--dataset=synthetic", "--source=x"), ("--source=x", "leave the flag out")),
        (("--dataset=nw_ucla", "--source=x", "--min_score=0.5"), ("--min_score", "no scores")),
        (("--dataset=custom", "--source=x", "--min_score=nan"), ("min_score nan", "from 0")),
        (("--dataset=synthetic", f"--out={__file__}/store"), (__file__,)),
    ],
)
def test_bad_input_is_one_line(flags, told, prepare):
    assert_refused(prepare(*flags), *told)


# The command, but for committing after each clip instead of every two seconds.
EAGER = """
import runpy
import sys

if __name__ == "__main__":
    from igm_jax.data.formats import prepare

    prepare._COMMIT_EVERY = -1.0
    del sys.argv[0]
    runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_killed_with_its_workers_at_any_moment_it_goes_on_to_the_same_bytes(tmp_path):
    clips = [dataclasses.replace(c, frames=c.frames[:, :30]) for c in synthetic.generate(96)]
    source = ntu_writer.write(tmp_path / "ntu.zip", clips)
    prepare_store(tmp_path / "whole", ntu60.read(source), source=str(source))
    (tmp_path / "eager.py").write_text(EAGER)
    script, out = ROOT / "experiments" / "prepare_data.py", tmp_path / "out"
    flags = ["--dataset=ntu60", f"--source={source}", f"--out={out}", "--workers=2"]
    command = [sys.executable, str(tmp_path / "eager.py"), str(script), *flags]
    env = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{script.parent}"}
    journal, moment, lines = tmp_path / ".out.partial" / "journal.jsonl", random.Random(0), 1
    for _ in range(2):
        process = subprocess.Popen(
            command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        wanted = lines + moment.randint(1, 30)
        while not journal.exists() or journal.read_bytes().count(b"\n") < wanted:
            assert process.poll() is None, process.stdout.read().decode()
            time.sleep(0.001)
        process.kill()
        process.communicate(timeout=60)  # which waits for the workers, too: they hold the pipe
        assert process.returncode == -9 and not out.exists()
        lines = journal.read_bytes().count(b"\n")
        assert wanted <= lines < 97
    output(ROOT, *experiment("prepare_data.py", *flags))
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        ".out.lock",
        ".whole.lock",
        "eager.py",
        "ntu.zip",
        "out",
        "whole",
    ]
    for name in ("frames.npy", "clips.npy", "meta.json"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
