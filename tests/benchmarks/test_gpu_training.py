"""Training on a GPU by one script, at a tiny size: `gpu_training.sh --smoke`."""

import json
import os
import sys

from commands import ROOT, finish


def test_training_ends_in_its_knn_and_resumes(tmp_path):
    env = os.environ | {"PYTHON": sys.executable}
    command = ("bash", "benchmarks/gpu_training.sh", "--smoke", str(tmp_path))
    done = finish(ROOT, *command, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "100 clips of 24 classes" in done.stdout
    judged = json.loads((tmp_path / "run-100-2" / "knn.json").read_text())
    assert judged["step"] == judged["total_steps"]
    assert "joint coordinates" in done.stdout
    again = finish(ROOT, *command, env=env)
    assert again.returncode == 0 and "clips of 24 classes" not in again.stdout
    assert f"resumed after step {judged['step']:,}" in again.stderr
