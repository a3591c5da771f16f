"""The ablation command with the true scripts: stopped, gone on with, and asked again."""

import json
import pathlib
import signal
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).parents[2]
CONFIG = f"--config={ROOT}/configs/synthetic.py:smoke"
GRID = (
    "--grid=objective.mask_ratio=0.5,0.7",
    "--seeds=3",
    "--workers=2",
    "--out=runs/ratios",
    "--config.train.epochs=16",
    "--config.train.log_every=1",
    "--config.train.knn_every=16",
    "--config.train.checkpoint_every=16",
    # Less to compile.
    "--config.objective.name=spectral_contrastive",
    "--config.probe.epochs=2",
)


def start(folder, script, *flags):
    return subprocess.Popen(
        [sys.executable, str(ROOT / "experiments" / script), *flags],
        cwd=folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def run(folder, script, *flags):
    process = start(folder, script, *flags)
    try:
        return process.communicate(timeout=300), process.returncode
    finally:
        process.terminate()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ablate")
    (_, stderr), code = run(folder, "prepare_data.py", "--dataset=synthetic", "--num_clips=128")
    assert code == 0, stderr
    return folder


def test_stopped_command_goes_on_and_ends_in_a_table(folder):
    out = folder / "runs" / "ratios"
    process = start(folder, "ablate.py", CONFIG, *GRID)
    deadline = time.monotonic() + 240
    logs = [out / f"mask_ratio={r}" / "seed3" / "metrics.jsonl" for r in (0.5, 0.7)]
    while not any(path.exists() and path.stat().st_size for path in logs):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    stdout, stderr = process.communicate(timeout=120)
    assert (process.returncode, stdout) == (75, "")
    assert stderr.splitlines()[-1] == "SIGTERM: stopped; the same command goes on"
    assert not list(out.glob("*/seed3/knn.json"))

    (stdout, stderr), code = run(folder, "ablate.py", CONFIG, *GRID)
    assert code == 0, stderr
    written = [path.read_text() for path in out.glob("*/seed3.log")]
    assert any("SIGTERM: saved step" in log and "resumed after step" in log for log in written)
    assert "synthetic-xsub-smoke, validation accuracy in %, 16 epochs, seeds 3:" in stdout
    rows = [line for line in stdout.splitlines() if line.startswith("| mask_ratio=")]
    names = [row.split("|")[1].strip() for row in rows]
    assert names == ["mask_ratio=0.5", "mask_ratio=0.7"]
    assert (out / "table.md").read_text() == stdout
    table = json.loads((out / "table.json").read_text())
    for name, row in zip(names, table["rows"]):
        folder_ = out / name / "seed3"
        config = json.loads((folder_ / "config.json").read_text())
        assert row["overrides"] == {"objective.mask_ratio": config["objective"]["mask_ratio"]}
        assert (config["seed"], config["train"]["epochs"]) == (3, 16)
        probe = json.loads((folder_ / "linear_probe.json").read_text())["rows"][0]
        assert row["columns"]["linear"]["values"] == {"3": probe["validation_linear"]}
        assert row["columns"]["effective rank"]["mean"] > 1
    assert table["split"] == "validation" and table["hardware"]["devices"] == ["cpu"]

    # What is done is not done again; the test split needs no new run.
    before = {p: p.stat().st_mtime_ns for p in out.glob("*/**/*")}
    (stdout, stderr), code = run(folder, "ablate.py", CONFIG, *GRID, "--test")
    assert (code, stderr) == (0, "") and "test accuracy in %" in stdout
    assert {p: p.stat().st_mtime_ns for p in out.glob("*/**/*")} == before


def test_refused_in_one_line_before_anything_starts(folder):
    (folder / "grid.json").write_text(json.dumps({"a": {}, "b": {"train.epohcs": 3}}))
    (stdout, stderr), code = run(folder, "ablate.py", CONFIG, "--grid=grid.json")
    assert (code, stdout) == (1, "")
    (line,) = stderr.splitlines()
    assert line.startswith(
        "error: row 'b': config has no key 'train.epohcs' (did you mean 'epochs'"
    )
    assert not (folder / "runs" / "ablations").exists()
