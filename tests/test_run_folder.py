"""Files of a run folder: written at once, and read although a process was killed."""

import json
import os

import numpy as np
import pytest

from igm_jax import run_folder
from igm_jax.errors import InputError


def test_json_survives(tmp_path):
    path = tmp_path / run_folder.CONFIG
    assert run_folder.read_json(path) is None
    run_folder.write_json(path, {"ä": [1, 2.5]})
    assert run_folder.read_json(path) == {"ä": [1, 2.5]}
    assert [p.name for p in tmp_path.iterdir()] == [run_folder.CONFIG]


@pytest.mark.parametrize("text", ["", '{"a": ', "[1]", "\ufeff{}"])
def test_what_is_no_json_object_counts_as_missing(text, tmp_path):
    path = tmp_path / "x.json"
    path.write_text(text, encoding="utf-8")
    assert run_folder.read_json(path) is None


def test_failed_write_keeps_the_old_file_and_names_it(tmp_path, monkeypatch):
    path = tmp_path / run_folder.KNN
    run_folder.write_json(path, {"rows": [1]})

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left") as caught:
        run_folder.write_json(path, {"rows": [2]})
    assert caught.value.filename == str(path)
    assert json.loads(path.read_text(encoding="utf-8")) == {"rows": [1]}


def test_reports_without_the_line_that_a_kill_cut(tmp_path):
    path = tmp_path / run_folder.METRICS
    assert run_folder.read_reports(path) == []
    path.write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "lo', encoding="utf-8")
    assert run_folder.read_reports(path) == [{"step": 1, "loss": 2.0}]
    path.write_text('{"step": 1}\n{"loss": 2.0}\n', encoding="utf-8")
    with pytest.raises(InputError, match="line 2 is damaged"):
        run_folder.read_reports(path)


def test_newest_step_counts_complete_checkpoints_only(tmp_path):
    assert run_folder.newest_step(tmp_path) == 0
    for name in ("5", "40", "7.orbax-checkpoint-tmp-1"):
        (tmp_path / run_folder.CHECKPOINTS / name).mkdir(parents=True)
    assert run_folder.checkpoint_steps(tmp_path) == [5, 40]
    assert run_folder.newest_step(tmp_path) == 40


def test_newest_run(tmp_path):
    with pytest.raises(InputError, match="no run under"):
        run_folder.newest_run(tmp_path)
    for age, name in enumerate(("new", "old")):
        (tmp_path / name).mkdir()
        log = tmp_path / name / run_folder.METRICS
        log.touch()
        os.utime(log, (1000 - age, 1000 - age))
        (tmp_path / name / run_folder.CONFIG).touch()
    assert run_folder.newest_run(tmp_path).name == "new"
    assert run_folder.runs_in(tmp_path) == ["new", "old"]


def test_names_of_results():
    names = {run_folder.linear_probe(x, y) for x in ("100%", "1%") for y in (False, True)}
    assert len(names) == 4 and "linear_probe.json" in names and "linear_probe-1pct.json" in names
    assert run_folder.probe_scores("1%", True) == "linear_probe-1pct-augmented.npz"


def test_arrays_survive_without_pickle(tmp_path):
    path = tmp_path / run_folder.probe_scores()
    with pytest.raises(InputError, match="does not exist"):
        run_folder.read_arrays(path)
    arrays = {"scores": np.eye(2, dtype=np.float32), "names": np.array(["ä", "long"])}
    run_folder.write_arrays(path, arrays)
    read = run_folder.read_arrays(path)
    assert read.keys() == arrays.keys() and [p.name for p in tmp_path.iterdir()] == [path.name]
    for name, array in arrays.items():
        np.testing.assert_array_equal(read[name], array)
    with pytest.raises(ValueError, match="'names' holds Python objects"):
        run_folder.write_arrays(path, {"names": np.array([None])})
    np.testing.assert_array_equal(run_folder.read_arrays(path)["names"], arrays["names"])
    np.savez(path, names=np.array([{}]))  # a file that would have to be unpickled
    with pytest.raises(InputError, match="is damaged"):
        run_folder.read_arrays(path)
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(InputError, match="is damaged"):
        run_folder.read_arrays(path)


def test_subsets_are_in_the_order_of_their_numbers(tmp_path):
    for seed in (10, 2, 7):
        folder = tmp_path / run_folder.subset_folder(seed)
        (folder / run_folder.TRAINED / run_folder.CHECKPOINTS / "3").mkdir(parents=True)
        run_folder.write_json(folder / run_folder.HEAD, {})
        if seed != 7:  # which is not judged yet
            run_folder.write_json(folder / run_folder.RESULT, {"subset": seed})
    assert [row["subset"] for row in run_folder.subset_results(tmp_path)] == [2, 10]
    assert run_folder.finetuned_subset(tmp_path).name == "subset-2"
