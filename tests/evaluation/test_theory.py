"""The theory on a run: against plain NumPy, and on data whose answer is known."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest

from igm_jax import losses
from igm_jax.data import protocols
from igm_jax.errors import InputError
from igm_jax.evaluation import theory
from igm_jax.evaluation.generate import LoadedGenerator
from igm_jax.evaluation.generation_quality import descriptor
from igm_jax.evaluation.given import given_of_store
from igm_jax.evaluation.run import load_run


@pytest.fixture(scope="module")
def stages(finished):
    return theory.stages(load_run(finished.folder), 4)


@pytest.fixture(scope="module")
def indices(finished):
    return protocols.split(finished.store, "xsub", "train")


def test_stages_are_the_untrained_networks_and_the_kept_checkpoints(finished, stages):
    assert [stage.name for stage in stages] == ["untrained", "step 5", "step 10"]
    run = load_run(finished.folder)
    assert [s.name for s in theory.stages(run, 1)] == ["untrained", "step 10"]
    assert [s.name for s in theory.stages(load_run(finished.folder, 5), 9)][1:] == ["step 5"]
    with pytest.raises(InputError, match="--checkpoints=0: give at least 1"):
        theory.stages(run, 0)


def test_series_of_the_coding_length_and_where_it_converges():
    """Its parts by eigenvalues; the least ε is that at which the radius is 1."""
    unit = losses.normalize(jnp.asarray(np.random.default_rng(0).normal(size=(40, 6)) + 0.5))
    values = np.linalg.eigvalsh(np.asarray(unit, np.float64).T @ np.asarray(unit, np.float64))
    least = theory.least_distortion(unit)
    assert least == pytest.approx(np.sqrt(6 / 40 * values.max()), rel=1e-5) and least > 1
    for row in theory.expansion(unit, (0.5, least)):
        x = 6 / (40 * row["distortion"] ** 2) * values
        total, first, second = (23 / 40 * y.sum() for y in (np.log1p(x), x, -(x**2) / 2))
        expected = [total, first, second, first + second - total, x.max()]
        got = [row[k] for k in ("coding_length", "first", "second", "residual", "radius")]
        np.testing.assert_allclose(got, expected, rtol=1e-3)
    assert row["radius"] == pytest.approx(1, rel=1e-4)
    axes = jnp.tile(jnp.eye(6), (7, 1))  # the best spread that there is
    assert theory.least_distortion(axes) == pytest.approx(1)


def with_clips(stage, made):
    """The stage with a generator that makes these clips, one [n, M, T, V, C] for each draw."""
    todo = iter(made)
    one_step = lambda self, given, t, **_: next(todo)(given)  # noqa: E731
    fake = type("Fake", (LoadedGenerator,), {"one_step": one_step})
    return dataclasses.replace(stage, generator=fake(stage.run, {}))


def test_graph_of_a_generator_that_is_known(finished, stages, indices):
    """Half of the draws return the clip itself, the others the next clip of the list."""
    store, n = finished.store, len(indices)
    stage = with_clips(
        stages[-1], [lambda given: given.clip, lambda given: np.roll(given.clip, -1, axis=0)]
    )
    features = theory.seen_features(stage, store, indices)
    assert features.shape == (n, 16)
    graph = theory.graph(stage, store, indices, features, draws=2)
    given = given_of_store(store, indices, stage.run.reading)
    first = descriptor(given.clip, given.present, stage.run.reading)
    assert len(np.unique(first, axis=0)) == n  # so that each clip is nearest to itself
    joint = (np.eye(n) / 2 + np.roll(np.eye(n), 1, axis=1) / 2) / n
    joint = (joint + joint.T) / 2
    adjacency = n * joint  # all row sums are 1 / n
    values = np.sort(np.abs(np.linalg.eigvalsh(adjacency)))[::-1]
    label = store.clips["label"][indices]
    assert graph["own_%"] == 50
    assert graph["squares"] == pytest.approx((values**2).sum(), rel=1e-3)
    assert graph["tail"] == pytest.approx((values[16:] ** 2).sum(), rel=1e-3)
    np.testing.assert_allclose(graph["singular_values"], values, atol=1e-3)
    impure = (joint * (label[:, None] != label[None])).sum()
    assert graph["impurity_%"] == pytest.approx(100 * impure, rel=1e-3)
    unit = np.asarray(losses.normalize(features), np.float64)
    product = unit @ unit.T / n
    factor = (adjacency * product).sum() / (product**2).sum()
    error = ((adjacency - factor * product) ** 2).sum()
    assert graph["error"] == pytest.approx(error, rel=1e-3) and error >= graph["tail"] - 1e-3


def test_test_clips_have_no_part_and_all_numbers_are_json(finished, stages):
    store = finished.store
    found = [theory.measure(stage, store, clips=16, draws=2) for stage in stages[::2]]
    json.dumps(found)
    assert [stage["clips"] for stage in found] == [16, 16]
    assert all(0 <= stage["probe_error_%"] <= 100 for stage in found)
    assert found[0]["graph"]["own_%"] != found[1]["graph"]["own_%"] or found[0] != found[1]
    clips = np.array(store.clips)
    test = protocols.split(store, "xsub", "test")
    clips["label"][test] = (clips["label"][test] + 1) % 3
    other = dataclasses.replace(store, clips=clips)
    assert theory.measure(stages[-1], other, clips=16, draws=2) == found[-1]


def test_a_run_without_a_generator_has_no_graph(finished, stages):
    stage = dataclasses.replace(stages[-1], generator=None)
    assert theory.measure(stage, finished.store, clips=16)["graph"] is None
