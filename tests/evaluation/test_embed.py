"""Features of many raw clips are those of `encode`, and the files hold them without pickle."""

import csv
import dataclasses
import importlib.util

import numpy as np
import pytest

import igm_jax
from igm_jax import features
from igm_jax.errors import InputError
from igm_jax.evaluation.embed import check_suffix, check_units, embed, save
from igm_jax.evaluation.run import load_run


@pytest.fixture(scope="module")
def run(finished):
    return load_run(finished.folder)


def test_clips_of_all_lengths_in_batches(monkeypatch, finished, run):
    monkeypatch.setattr(features, "BATCH_SIZE", 4)
    clips = [finished.store[i] for i in range(6)]
    embedded = embed(run, iter(clips))
    encode, _ = igm_jax.load_encoder(finished.folder)
    for clip, ours in zip(clips, embedded.features, strict=True):
        np.testing.assert_allclose(ours, encode(clip.frames[None])[0], atol=1e-5)
    assert embedded.names == [clip.name for clip in clips]
    assert embedded.labels.tolist() == [clip.label for clip in clips]


@pytest.mark.parametrize("suffix", [".npz", ".csv", ".parquet"])
def test_files_hold_names_and_features(finished, run, tmp_path, suffix):
    clips = [dataclasses.replace(finished.store[i], name=f"clip, {i} ü") for i in range(3)]
    embedded, path = embed(run, clips), tmp_path / f"features{suffix}"
    parquet = pytest.importorskip("pyarrow.parquet") if suffix == ".parquet" else None
    save(path, embedded)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    if suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            assert file["names"].tolist() == embedded.names
            np.testing.assert_array_equal(file["features"], embedded.features)
    elif parquet:
        table = parquet.read_table(path)
        assert table.column_names == ["name", "label", "features"]
        assert table["name"].to_pylist() == embedded.names
        assert table["label"].to_pylist() == embedded.labels.tolist()
        values = np.array(table["features"].to_pylist(), np.float32)
        np.testing.assert_array_equal(values, embedded.features)
    else:
        with path.open(encoding="utf-8", newline="") as file:
            head, *rows = csv.reader(file)
        assert head[:3] == ["name", "label", "f0"] and [r[0] for r in rows] == embedded.names
        values = np.array([row[2:] for row in rows], np.float32)
        np.testing.assert_array_equal(values, embedded.features)


def test_parquet_without_its_library(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs pyarrow.*igm_jax\[export\]"):
        check_suffix(tmp_path / "x.parquet")


def test_what_is_refused(finished, run, tmp_path):
    clip = finished.store[0]
    flat = dataclasses.replace(clip, frames=clip.frames[..., :2])
    with pytest.raises(InputError, match=r"clip000: clips have shape"):
        embed(run, [flat])
    with pytest.raises(InputError, match=r"ends in \.npz or \.csv or \.parquet"):
        save(tmp_path / "features.pkl", embed(run, [clip]))


def with_streams(run, *streams):
    """The run, reading these streams; statistics of each are those of the joints."""
    first, width = run.reading.streams.index("joint") * 3, 3 * len(streams)
    config = dataclasses.replace(
        run.config,
        model=dataclasses.replace(
            run.config.model,
            encoder=dataclasses.replace(run.config.model.encoder, channels=width),
        ),
    )
    mean, std = (x[first : first + 3] * len(streams) for x in (run.reading.mean, run.reading.std))
    reading = dataclasses.replace(run.reading, streams=streams, mean=mean, std=std)
    return dataclasses.replace(run, config=config, reading=reading)


@pytest.mark.parametrize("streams", [("joint",), ("bone",), ("motion", "joint")])
@pytest.mark.parametrize(("scale", "much"), [(1000, r"[\d,]{3,} times"), (0.001, r"1/[\d,]{3,}")])
def test_a_clip_in_other_units_is_refused(finished, run, streams, scale, much):
    run, clip = with_streams(run, *streams), finished.store[0]
    check_units(run, clip)
    scaled = dataclasses.replace(clip, frames=clip.frames * np.float32(scale))
    with pytest.raises(InputError, match=rf"clip000: its body is {much} as large .* their unit"):
        check_units(run, scaled)


def test_units_that_cannot_be_known(finished, run):
    """Of motion alone a still body has none, and weights from elsewhere may have no statistics."""
    clip = finished.store[0]
    large = dataclasses.replace(clip, frames=clip.frames * np.float32(1000))
    with pytest.raises(InputError, match="times as large as"):  # by the joints it is known
        check_units(with_streams(run, "joint"), large)
    check_units(with_streams(run, "motion"), large)
    plain = run.reading.standardised(np.zeros(len(run.reading.std)), np.ones(len(run.reading.std)))
    check_units(dataclasses.replace(run, reading=plain), large)
    point = dataclasses.replace(clip, frames=np.ones_like(clip.frames))
    check_units(run, point)
