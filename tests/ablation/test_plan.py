"""Grids and the jobs that they become."""

import dataclasses
import json
import sys
import types

import numpy as np
import pytest
import tiny
from ablation_jobs import ROWS, finish, plan
from absl import flags
from ml_collections import config_flags

from igm_jax.ablation import plan as ablation
from igm_jax.errors import InputError
from igm_jax.training.config import ExperimentConfig
from igm_jax.training.mapping import from_mapping, to_mapping

# Grids


def test_named_grids_start_with_what_the_others_are_compared_to():
    rows = ablation.parse_grid("constraints")
    assert list(rows) == ["L_gen alone", "feature", "distribution", "both"]
    pulls = {**rows["feature"], **rows["distribution"]}
    assert rows["L_gen alone"] == {**pulls, "objective.entropy_weight": 0}
    assert rows["both"] == {}
    assert {row["objective.name"] for row in ablation.parse_grid("objectives").values()} == {
        "masked_autoencoding",
        "motion_prediction",
        "spectral_contrastive",
        "momentum_contrast",
        "igm",
    }


def test_inline_grid_is_every_combination():
    rows = ablation.parse_grid("objective.mask_ratio=0.5, 0.7; data.coordinates=body")
    assert rows == {
        "mask_ratio=0.5 coordinates=body": {
            "objective.mask_ratio": 0.5,
            "data.coordinates": "body",
        },
        "mask_ratio=0.7 coordinates=body": {
            "objective.mask_ratio": 0.7,
            "data.coordinates": "body",
        },
    }
    (row,) = ablation.parse_grid("data.crop=(0.5,1.0);train.tensorboard=True").values()
    assert row == {"data.crop": (0.5, 1.0), "train.tensorboard": True}
    rows = ablation.parse_grid("model.encoder.depth=1,2;model.generator.depth=1")
    assert "model.encoder.depth=2 model.generator.depth=1" in rows


def test_grid_from_a_file(tmp_path):
    (tmp_path / "grid.json").write_text(json.dumps(ROWS))
    assert ablation.parse_grid(f"{tmp_path}/grid.json") == ROWS


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("constrants", "did you mean 'constraints'"),
        ("a=1;b", "'b' is no KEY=VALUE"),
        ("a=1;a=2", "'a=2' .* something twice"),
        ("a=1,1", "'a=1,1' .* something twice"),
        ("a=[1],(1)", "no distinct folders"),
        ('{"row": {}', "Expecting"),
        ('{"a": {}, "a": {"seed": 1}}', "'a' is there twice: rename one"),
        ("[]", "needs {row name"),
        ('{"row": 3}', "needs {row name"),
        ("{}", "no distinct folders"),
        ('{"..": {}}', "no distinct folders"),
        ('{"A b": {}, "a/b": {}}', "no distinct folders"),
    ],
)
def test_grid_that_is_none(text, told, tmp_path):
    if text[0] in "[{":
        (tmp_path / "x.json").write_text(text)
        text = f"{tmp_path}/x.json"
    with pytest.raises(InputError, match=told):
        ablation.parse_grid(text)


# Jobs


@pytest.mark.parametrize("name", ablation.GRIDS)
def test_named_grid_fits_the_config(name, tmp_path):
    by_camera = {"data.crop": None, "data.mirror": None, "data.rotation": None}
    jobs = plan(tmp_path, ablation.parse_grid(name), config=tiny.config(by_camera))
    assert len({job.config for job in jobs}) == len(jobs)


@pytest.mark.parametrize("coordinates", [2, 3])
def test_objectives_are_compared_in_the_plane_and_in_space(coordinates, tmp_path):
    """A config that leaves joints and channels to the store stays so in every row."""
    given = {"model.encoder.joints": 0, "model.encoder.channels": 0}
    for job in plan(tmp_path, ablation.parse_grid("objectives"), given=given):
        channels = coordinates * len(job.config.data.streams)
        encoder = job.config.fitted(17, channels, 2).model.encoder
        assert (encoder.joints, encoder.channels) == (17, channels), job.row


def test_every_row_has_every_seed_and_early_tables_have_all_rows(tmp_path):
    jobs = plan(tmp_path, given={"train.epochs": 3})
    assert [(job.row, job.seed) for job in jobs] == [
        ("first", 0),
        ("second row", 0),
        ("first", 1),
        ("second row", 1),
    ]
    assert jobs[3].folder == tmp_path / "second-row" / "seed1"
    config = {"train.epochs": 3, "objective.mask_ratio": 0.25, "seed": 1}
    assert jobs[3].config == tiny.config(config)
    assert list(jobs[3].commands) == ["pretrain", "linear_probe", "knn"]
    assert not any(tmp_path.iterdir())


def test_flags_make_the_config_of_the_job(tmp_path, monkeypatch):
    """Parsed as pretrain.py parses them, for each type of value; a row overrules a flag."""
    path = tmp_path / "config.py"
    path.write_text(
        "import json, ml_collections\n"
        f"VALUES = json.loads({json.dumps(to_mapping(tiny.config()))!r})\n"
        "def tuples(x):\n"
        "    return {k: tuple(v) if isinstance(v, list) else tuples(v) if isinstance(v, dict)"
        " else v for k, v in x.items()}\n"
        "def get_config():\n"
        "    return ml_collections.ConfigDict(tuples(VALUES))\n"
    )
    given = {"train.epochs": 3, "name": "a name", "objective.mask_ratio": 0.75}
    row = {
        "objective.mask_ratio": 0,
        "data.crop": [0.25, 1],
        "probe.learning_rates": (0.5,),
        "train.tensorboard": True,
        "objective.target_gradient": False,
        "data.coordinates": "camera",
    }
    (job,) = ablation.plan(
        tiny.config(given), {"row": row}, [7], tmp_path, config_file=str(path), given=given
    )
    assert job.overrides["data.crop"] == (0.25, 1.0)
    argv = ["pretrain.py", *job.flags]
    monkeypatch.setattr(sys, "argv", argv)
    values = flags.FlagValues()
    holder = config_flags.DEFINE_config_file("config", None, lock_config=True, flag_values=values)
    values(argv)
    assert from_mapping(ExperimentConfig, holder.value.to_dict()) == job.config


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"objective.mask_ratoi": 0.5}, "'objective.mask_ratoi' .did you mean 'mask_ratio'"),
        ({"objetcive.mask_ratio": 0.5}, "did you mean 'objective'"),
        ({"objective.mask_ratio": "0.5"}, "needs float, not '0.5'"),
        ({"train.epochs": 2.5}, "needs int, not 2.5"),
        ({"objective.mask_ratio": 2}, "needs 0 <= ratio < 1"),
        ({"objective": 2}, "one by one"),
        ({"objective": {"mask_ratio": 0.5}}, "one by one"),
        ({"name.x": 2}, "'name' is no group"),
        ({"seed": 2}, "--seeds"),
    ],
)
def test_row_that_the_config_refuses_is_named(row, told, tmp_path):
    with pytest.raises(InputError, match=f"row 'bad': .*{told}"):
        plan(tmp_path, {"good": {}, "bad": row})


def test_rows_that_are_the_same_run_are_named(tmp_path):
    for row in ({}, {"name": "other"}, {"train.log_every": 7}):
        with pytest.raises(InputError, match="rows 'a' and 'b' give the same run"):
            plan(tmp_path, {"a": {}, "b": row})
    assert len(plan(tmp_path, {"a": {}, "b": {"data.path": "elsewhere"}}, seeds=(0,))) == 2


def test_data_that_no_probe_can_judge_is_told_before_any_runs(tmp_path, monkeypatch):
    store = tiny.write_store(tmp_path / "store")
    clips = np.array(store.clips)
    clips["label"] = -1
    unlabelled = dataclasses.replace(store, clips=clips)
    monkeypatch.setattr(ablation, "open_dataset", lambda *_: unlabelled)
    jobs = plan(tmp_path / "out", {"plain": {}}, seeds=(0,), given={"data.path": str(store.path)})
    with pytest.raises(InputError, match=r"row 'plain': its probes .* part 'train' .* a label"):
        ablation.check_clips(jobs)


def test_folder_with_a_run_of_other_data_is_named(tmp_path, monkeypatch):
    """Finished runs too, whose numbers would otherwise stand in a table of the new data."""
    store = types.SimpleNamespace(meta={"sha256": {"frames.npy": "new"}})
    monkeypatch.setattr(ablation, "open_dataset", lambda *_: store)
    config = {"data.path": str(tmp_path)}
    jobs = plan(tmp_path, given=config)
    finish(jobs[0])
    ablation.check_data(jobs)  # written by a version that did not say
    environment = jobs[0].folder / "environment.json"
    environment.write_text(json.dumps({"data": {"frames.npy": "new"}}))
    ablation.check_data(jobs)
    environment.write_text(json.dumps({"data": {"frames.npy": "old"}}))
    with pytest.raises(InputError, match=r"seed0 was trained on other data .*choose another --out"):
        ablation.check_data(jobs)
    for name in ("linear_probe.json", "knn.json"):
        (jobs[0].folder / name).unlink()
    ablation.check_data(jobs)  # without a checkpoint it begins again


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"train.batch_size": 500}, r"row 'odd': .* clips to pre-train on, fewer than"),
        ({"objective.queue_size": 500}, r"row 'odd': objective.queue_size=500 is more than the"),
        ({"data.leave_out": ("dance",)}, r"row 'odd': .*dance"),
        (
            {"model.encoder.joints": 0, "model.encoder.patch_joints": 4},
            r"row 'odd': model.encoder.joints=6 is not a multiple",
        ),
        ({"data.path": "nowhere"}, r"data set 'synthetic' is not at nowhere"),
    ],
)
def test_row_that_does_not_fit_the_data_is_named_before_any_runs(row, told, tmp_path):
    store = tiny.write_store(tmp_path / "store")
    given = {"data.path": str(store.path)}
    jobs = plan(tmp_path / "out", {"plain": {}, "odd": row}, seeds=(0,), given=given)
    ablation.check_clips(jobs[:1])
    with pytest.raises(InputError, match=told):
        ablation.check_clips(jobs)


def test_folder_of_another_grid_is_refused(tmp_path):
    """ensemble.py adds all runs of a folder. A grid that grew is welcome."""
    finish(plan(tmp_path)[0])
    other = {"third": {"objective.mask_ratio": 0.75}}
    plan(tmp_path, {**other, **ROWS})
    with pytest.raises(
        InputError, match=r"holds the runs of another grid \(first\).*choose another"
    ):
        plan(tmp_path, other)


def test_folder_with_a_run_of_another_config_is_named(tmp_path):
    finish(plan(tmp_path)[1])
    plan(tmp_path)
    other = {**ROWS, "second row": {"objective.mask_ratio": 0.75}}
    with pytest.raises(InputError, match=r"second-row/seed0 holds .*mask_ratio: 0.25 → 0.75"):
        plan(tmp_path, other)
    for name in ("linear_probe.json", "knn.json"):
        (tmp_path / "second-row" / "seed0" / name).unlink()
    plan(tmp_path, other)  # without a checkpoint there is nothing to lose
    (tmp_path / "second-row" / "seed0" / "checkpoints" / "5").mkdir(parents=True)
    with pytest.raises(InputError, match="second-row/seed0"):
        plan(tmp_path, other)
