"""The head of a linear probe names actions from raw clips as the probe did from the store."""

import dataclasses
import functools
import re

import jax.numpy as jnp
import numpy as np
import pytest

from igm_jax import metrics, run_folder
from igm_jax.data import protocols
from igm_jax.errors import InputError
from igm_jax.evaluation import judge
from igm_jax.evaluation.head import probe_head
from igm_jax.evaluation.run import load_run
from igm_jax.evaluation.scores import load_scores, save_scores
from igm_jax.prediction.predictor import load_predictor


@pytest.fixture(scope="module")
def probed(finished):
    """The finished run with the head of a linear probe; the file is removed again."""
    run = load_run(finished.folder)
    run = dataclasses.replace(run, places=(str(finished.store.path),))
    judge.evaluate(run, functools.partial(judge.evaluate_linear, save=True), baselines=False)
    yield run
    (finished.folder / run_folder.probe_scores()).unlink()


def test_raw_clips_get_the_scores_of_the_probe(probed, finished):
    scores = load_scores(probed.folder / run_folder.probe_scores())
    predictor, store = load_predictor(probed.folder), finished.store
    position = {str(name): i for i, name in enumerate(store.clips["name"])}
    clips = [store[position[name]] for name in scores.clips]
    np.testing.assert_allclose(predictor.logits(clips), scores.scores, atol=1e-4)
    expected = metrics.calibrated_probabilities(scores.scores, scores.temperature)
    np.testing.assert_allclose(predictor.probabilities(clips), expected, atol=1e-4)
    one = predictor.probabilities(clips[3:4])[0]
    np.testing.assert_allclose(one, expected[3], atol=1e-4)
    names, shares = zip(*predictor.top(one, 2))
    order = np.argsort(-one)[:2]
    assert names == tuple(store.class_names[i] for i in order)
    assert shares == tuple(one[order])


def test_what_the_head_knows(probed, finished):
    head, store = probe_head(probed), finished.store
    assert head.class_names == store.class_names and head.temperature > 0
    assert dataclasses.replace(head, temperature=1.5).calibrated
    certain = metrics.fit_temperature(np.eye(3), np.arange(3))  # all right: no temperature fits
    assert not dataclasses.replace(head, temperature=certain).calibrated
    length = store.clips["length"][protocols.split(store, "xsub", "train")]
    assert head.lengths == (length.min(), int(np.median(length)), length.max())
    too_long = dataclasses.replace(store[0], frames=np.repeat(store[0].frames, 9, axis=1))
    predictor = load_predictor(probed.folder)
    predictor.check_length(store[0])
    with pytest.raises(InputError, match=rf"had {head.lengths[0]} to .*--window={head.lengths[1]}"):
        predictor.check_length(too_long)
    predictor.check_window(2 * head.lengths[2])
    with pytest.raises(InputError, match=rf"--window=5000 .*choose --window={head.lengths[1]}"):
        predictor.check_window(5000)


def test_tensors_are_one_dense_layer(probed):
    head, rng = probe_head(probed), np.random.default_rng(0)
    x = rng.normal(size=(4, probed.config.model.encoder.feature_width)).astype(np.float32)
    ours = x @ head.tensors["head.fc.weight"].T + head.tensors["head.fc.bias"]
    tokens = np.repeat(x[:, None], probed.config.model.encoder.num_tokens, axis=1)
    expected = head.logits(head.params, jnp.asarray(tokens), jnp.ones((4, 1), bool))
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4)


def test_a_run_without_a_head_names_the_command(probed, finished):
    other = dataclasses.replace(probed, step=5)
    with pytest.raises(InputError, match=r"belongs to step 10, .* --checkpoint=5"):
        probe_head(other)
    with pytest.raises(InputError, match=r"has no head 'linear_probe-10pct\.npz'"):
        probe_head(probed, "linear_probe-10pct.npz")
    (probed.folder / "ridge.json").write_text("{}")
    with pytest.raises(InputError, match=r"ridge\.json is no head: choose a linear_probe….npz"):
        probe_head(probed, "ridge.json")
    path = probed.folder / run_folder.probe_scores()
    moved = path.rename(path.with_stem("linear_probe-10pct"))
    try:
        command = re.escape(f"make one with python experiments/linear_probe.py {probed.folder}")
        with pytest.raises(InputError, match=f"{command}, or choose --head=linear_probe-10pct.npz"):
            load_predictor(probed.folder)
        assert load_predictor(probed.folder, head=moved.name).head.temperature > 0
    finally:
        moved.rename(path)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"data": '{"frames.npy": "other"}'}, "other data than"),
        ({"streams": "bone", "protocol": "xview"}, "other protocol and streams than"),
    ],
)
def test_a_head_of_other_data_is_refused_and_not_recommended(probed, change, told):
    """As a probe with --transfer leaves it beside the results of the run."""
    path = probed.folder / run_folder.probe_scores()
    other = path.with_stem("linear_probe-elsewhere")
    save_scores(other, dataclasses.replace(load_scores(path), **change))
    moved = path.rename(path.with_name("moved"))
    try:
        with pytest.raises(InputError, match=rf"elsewhere.npz was trained on {told} the run"):
            load_predictor(probed.folder, head=other.name)
        with pytest.raises(InputError, match=rf"linear_probe\.py {probed.folder}$"):
            load_predictor(probed.folder)
    finally:
        moved.rename(path)
        other.unlink()
