"""The ablation command with the true scripts: stopped, resumed, and asked again."""

import json
import signal
import time

import pytest
from commands import ROOT, assert_refused, experiment, output, run, start

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


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ablate")
    output(folder, *experiment("prepare_data.py", "--dataset=synthetic", "--num_clips=128"))
    return folder


def test_stopped_command_goes_on_and_ends_in_a_table(folder):
    out = folder / "runs" / "ratios"
    process = start(folder, *experiment("ablate.py", CONFIG, *GRID))
    deadline = time.monotonic() + 240
    logs = [out / f"mask_ratio={r}" / "seed3" / "metrics.jsonl" for r in (0.5, 0.7)]
    while not any(path.exists() and path.stat().st_size for path in logs):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    stdout, stderr = process.communicate(timeout=120)
    assert (process.returncode, stdout) == (75, "")
    assert stderr.splitlines()[-1] == "SIGTERM: stopped; the same command resumes"
    assert not list(out.glob("*/seed3/knn.json"))

    stdout = output(folder, *experiment("ablate.py", CONFIG, *GRID))
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
    assert "frames.npy" in json.loads((folder_ / "environment.json").read_text())["data"]
    before = {p: p.stat().st_mtime_ns for p in out.glob("*/**/*")}
    again = run(folder, "ablate.py", CONFIG, *GRID, "--test")
    assert (again.returncode, again.stderr) == (0, "") and "test accuracy in %" in again.stdout
    assert {p: p.stat().st_mtime_ns for p in out.glob("*/**/*")} == before


def test_refused_in_one_line_before_anything_starts(folder):
    (folder / "grid.json").write_text(json.dumps({"a": {}, "b": {"train.epohcs": 3}}))
    result = run(folder, "ablate.py", CONFIG, "--grid=grid.json")
    assert_refused(result, "row 'b': config has no key 'train.epohcs' (did you mean 'epochs'")
    assert not (folder / "runs" / "ablations").exists()
