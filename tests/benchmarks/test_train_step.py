"""The commands that time a step, at a tiny size: `gpu.sh --smoke`, and bad input."""

import json
import os
import sys

import pytest
from commands import ROOT, finish


def run(*arguments):
    env = os.environ | {"PYTHON": sys.executable}
    return finish(ROOT, *arguments, env=env)


def test_everything_that_is_run_on_a_gpu_runs(tmp_path):
    pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[bench]'")
    done = run("bash", "benchmarks/gpu.sh", "--smoke", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    written = json.loads((tmp_path / "smoke.json").read_text())
    (result,) = written["results"]
    assert result["ratio"] > 0 and result["flops"] > 0 and written["machine"]["cpu"]
    for side in ("ours", "torch"):
        # A tenth of a gigabyte at least is what a process with such a library holds.
        assert 1e8 < result[side]["peak_bytes"] < 1e10 and len(result[side]["rounds_ms"]) == 1
        assert result[side]["mfu"] > 0
        # Bounded by memory and FLOPs pass by pass, a step reaches more of that than of FLOPs alone.
        assert result[side]["of_bound"] > result[side]["mfu"]
    assert "| 8 |" in (tmp_path / "attention.log").read_text()
    assert "numbers compared" in (tmp_path / "parity.log").read_text()


@pytest.mark.parametrize(
    ("flag", "told"),
    [
        ("--sizes=ntu_maskd", "did you mean 'ntu_masked'?"),
        ("--sizes=configs/none.py", "no such config file"),
        ("--before=none.json", "none.json: No such file"),
    ],
)
def test_bad_input_is_refused_in_one_line(flag, told):
    done = run(sys.executable, "benchmarks/train_step.py", flag)
    assert done.returncode == 1 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and told in line
