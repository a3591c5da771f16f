"""The objective: its value against a slow reference, and what may influence what, by gradients.

A metric's gradient says on what it depends. One compiled function for each config gives the
gradient of any weighted sum of the metrics with respect to everything that goes in.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from slow_igm import SlowObjective, draws

from igm_jax import diffusion, losses
from igm_jax.models import IGM
from igm_jax.training.objectives import ClipBatch, feature_diagnostics
from igm_jax.training.objectives.igm import igm_objective

KEY = jax.random.key(22)  # of six clips three count in L_ide, see `draws`
ALL_ON = {
    "objective.feature_weight": 0.7,
    "objective.distribution_weight": 1.3,
    "objective.entropy_weight": 0.2,
    "objective.condition_drop": 0.3,
    "objective.max_t_share": 0.7,
    "objective.input_noise": 0.1,
    "objective.clean_clip": 1.5,
}
ANOTHER_WAY = {
    **ALL_ON,
    "objective.entropy": "second_order",
    "objective.ema_decay": 0.9,
    "model.projector_width": 10,
    "objective.schedule": "cosine",
    "objective.reencode_mask_ratio": 0.25,
}
TWO_VIEWS = {
    **ANOTHER_WAY,
    "data.crops": 2,
    "objective.own_t": True,
    "objective.max_t_share": 0.4,
    "objective.max_feature_t_share": 0.3,
    "objective.generation_loss": "velocity",
    "model.generator.predicts": "clip",
}
PRESENT = [[True, True], [True, False], [False, True], [True, True], [True, False], [True, True]]


class World:
    """A config with random parameters, a batch and a queue, and the gradients of its metrics."""

    def __init__(self, changes, present=PRESENT):
        self.config = tiny.config(changes)
        self.model = IGM(self.config.model)
        self.alpha_bar = diffusion.alpha_bar(
            self.config.objective.schedule, self.config.objective.diffusion_steps
        )
        self.params = tiny.random_params(self.model, seed=0)
        ema = self.config.objective.ema_decay > 0
        self.teacher = tiny.random_params(self.model, seed=1) if ema else {}
        rng = np.random.default_rng(2)
        self.present = jnp.asarray(present)
        self.clip = jnp.asarray(rng.normal(size=(*self.present.shape, 8, 6, 3)), jnp.float32)
        self.other = None
        if self.config.data.crops == 2:
            self.other = jnp.asarray(rng.normal(size=self.clip.shape), jnp.float32)
        width = self.config.model.projector_width or self.config.model.encoder.width
        rows = self.config.objective.queue_size
        self.queue = losses.normalize(jnp.asarray(rng.normal(size=(rows, width)), jnp.float32))
        self._compiled = jax.jit(
            jax.value_and_grad(self._weighted_sum, argnums=(0, 1, 2, 3), has_aux=True)
        )
        self.apply = jax.jit(self.model.apply, static_argnames="method")

    def _weighted_sum(self, params, teacher, queue, clip, present, ramp, key, weights):
        loss, output = igm_objective(
            params,
            teacher,
            queue,
            ClipBatch(clip, present, self.other),
            key,
            model=self.model,
            config=self.config.objective,
            alpha_bar=self.alpha_bar,
            ramp=ramp,
        )
        total = sum(weights[name] * value for name, value in output.metrics.items())
        return total, (loss, output)

    def run(self, metric="loss", **inputs):
        """(loss, output), and the gradients of `metric` by params, teacher, queue and clip."""
        names = ("loss", "loss_gen", "loss_feat", "loss_dist", "loss_entropy")
        names += ("cos_generated", "cos_aux")
        given = {
            "params": self.params,
            "teacher": self.teacher,
            "queue": self.queue,
            "clip": self.clip,
            "present": self.present,
            "ramp": 1.0,
            "key": KEY,
        }
        given |= inputs
        given["ramp"] = jnp.float32(given["ramp"])
        (_, (loss, output)), gradients = self._compiled(
            *given.values(), {n: jnp.float32(n == metric) for n in names}
        )
        assert metric in output.metrics
        return loss, output, dict(zip(("params", "teacher", "queue", "clip"), gradients))


# Few, because each is a compilation: choices that do not meddle with each other share one.
WORLDS = {
    "all": ALL_ON,
    "another": ANOTHER_WAY,
    "two views": TWO_VIEWS,
    "frozen": {**ALL_ON, "objective.target_gradient": False},
    "through, no aux, unmasked": {
        **ALL_ON,
        "objective.aux_tokens": False,
        "objective.clean_gradient": True,
        "objective.mask_ratio": 0,
        "objective.reencode_mask_ratio": 0,
    },
    "generative": {
        "objective.condition_drop": 0,
        "objective.feature_weight": 0,
        "objective.distribution_weight": 0,
    },
}


@functools.cache
def world(name):
    return World(WORLDS[name])


def zero(tree):
    return not any(np.any(x) for x in jax.tree.leaves(tree))


def nonzero(tree):
    """Every array of the tree has an entry that is not zero, and all are finite."""
    leaves = jax.tree.leaves(tree)
    return bool(leaves) and all(np.any(x) and np.isfinite(x).all() for x in leaves)


# The value


@pytest.mark.parametrize("name", ["all", "another", "two views"])
def test_against_a_slow_reference(name):
    w = world(name)
    loss, output, _ = w.run(ramp=0.6)
    values, features, references = SlowObjective(w, KEY)(ramp=0.6)
    assert output.metrics.keys() == values.keys()
    for key, value in values.items():
        np.testing.assert_allclose(output.metrics[key], value, rtol=2e-4, atol=2e-5, err_msg=key)
    assert loss == output.metrics["loss"]
    np.testing.assert_allclose(output.features, features, atol=1e-5)
    np.testing.assert_allclose(output.references, references, atol=1e-5)


def test_ramp_of_zero_is_the_generative_loss_alone():
    """As if nothing had ever been re-encoded: value and gradients, of f and g."""
    w = world("all")
    off = World(
        {
            **ALL_ON,
            **WORLDS["generative"],
            "objective.entropy_weight": 0,
            "objective.condition_drop": 0.3,
        }
    )
    on, off = w.run(ramp=0.0), off.run()
    assert set(off[1].metrics) == {"loss", "loss_gen"}
    np.testing.assert_allclose(on[0], off[1].metrics["loss_gen"], rtol=1e-6)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        on[2]["params"],
        off[2]["params"],
    )


# What may influence what


def test_aux_tokens_exist_for_generated_clips_only():
    """No gradient to their projections where nothing is re-encoded, or where they are turned off,
    and none from the generative loss; and the features of real clips do not change with them."""
    aux = lambda gradients: gradients["params"]["encoder"]["aux"]  # noqa: E731
    assert nonzero(aux(world("all").run()[2]))
    assert zero(aux(world("all").run("loss_gen")[2]))
    assert zero(aux(world("generative").run()[2]))
    assert zero(aux(world("through, no aux, unmasked").run()[2]))

    w = world("all")
    other = {**w.params["encoder"], "aux": tiny.random_params(w.model, 7)["encoder"]["aux"]}
    before, after = w.run()[1], w.run(params={**w.params, "encoder": other})[1]
    np.testing.assert_array_equal(before.features, after.features)
    np.testing.assert_array_equal(before.references, after.references)
    assert before.metrics["loss_gen"] == after.metrics["loss_gen"]
    assert abs(before.metrics["loss_feat"] - after.metrics["loss_feat"]) > 1e-4


def test_targets_get_no_gradient():
    w = world("another")
    for metric in ("loss", "loss_feat", "loss_dist"):
        loss, _, gradients = w.run(metric)
        assert zero(gradients["teacher"]) and zero(gradients["queue"])
        assert nonzero(gradients["params"]["encoder"])
    other = tiny.random_params(w.model, 7)
    assert abs(w.run(teacher=other)[0] - loss) > 1e-3  # though the teacher does count
    assert zero(world("all").run()[2]["queue"])


def test_neither_generated_clip_nor_noisy_feature_leads_back_to_the_clip():
    """Where a teacher makes the target, x̂0 and z_t' are all that is left of the clip in L_ide."""
    for metric in ("loss_feat", "loss_dist"):
        gradients = world("another").run(metric)[2]
        assert zero(gradients["clip"]) and nonzero(gradients["params"]["encoder"]["aux"])


def test_distribution_loss_never_pulls_its_target():
    """As if the targets were frozen; the feature loss pulls both sides, unless told not to."""
    free, frozen = world("all"), world("frozen")
    a, b = (w.run("loss_dist")[2]["params"] for w in (free, frozen))
    assert nonzero(a["encoder"])
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6), a, b)
    a, b = (w.run("loss_feat")[2] for w in (free, frozen))
    assert np.any(a["clip"]) and zero(b["clip"])
    assert nonzero(b["params"]["encoder"])
    assert free.run()[0] == frozen.run()[0]


@pytest.mark.parametrize("metric", ["loss_feat", "loss_dist"])
def test_generator_learns_from_idempotency_only_if_told_so(metric):
    assert zero(world("all").run(metric)[2]["params"]["generator"])
    told = world("through, no aux, unmasked").run(metric)[2]["params"]["generator"]
    assert nonzero(told["out"]) and nonzero(told["blocks"]["attention"])
    assert nonzero(world("all").run("loss_gen")[2]["params"]["generator"]["blocks"])


def test_encoder_learns_from_the_generative_loss():
    assert nonzero(world("all").run("loss_gen")[2]["params"]["encoder"]["blocks"])


def test_projector_serves_the_idempotency_losses_alone():
    w = world("another")
    _, output, gradients = w.run("loss_feat")
    assert output.references.shape == (6, 10) and output.features.shape == (6, 16)
    assert nonzero(gradients["params"]["projector"]["out"]["kernel"])
    assert zero(w.run("loss_gen")[2]["params"]["projector"])


def test_absent_bodies_influence_nothing():
    w = world("all")
    absent = ~np.asarray(w.present)
    _, before, gradients = w.run()
    assert not np.any(gradients["clip"][absent])
    assert np.any(gradients["clip"][~absent], axis=(1, 2, 3)).all()
    clip = w.clip.at[absent].set(1e3)
    _, after, _ = w.run(clip=clip)
    jax.tree.map(np.testing.assert_array_equal, before, after)
    # The same body without being absent does count.
    _, counted, _ = w.run(present=jnp.ones_like(w.present))
    assert np.abs(before.features - counted.features)[absent.any(axis=1)].max() > 1e-2


@pytest.mark.parametrize("name", ["all"])
def test_only_clips_that_left_a_trace_are_held_to_idempotency(name):
    """x̂0 from nearly pure noise, or generated without its condition, says nothing of the clip."""
    w = world(name)
    t, conditioned = draws(w, jax.random.split(KEY, 5)[2])
    counts = conditioned & (t <= 700)
    assert counts.any() and (~conditioned).any() and (conditioned & (t > 700)).any()
    for metric in ("loss_feat", "cos_generated"):
        touched = np.any(np.asarray(w.run(metric)[2]["clip"]), axis=(1, 2, 3, 4))
        assert touched.tolist() == counts.tolist()


def test_batch_of_which_no_clip_counts():
    w, key = world("all"), jax.random.key(34)
    t, conditioned = draws(w, jax.random.split(key, 5)[2])
    assert not (conditioned & (t <= 700)).any()
    _, output, gradients = w.run(key=key)
    assert output.metrics["loss_feat"] == 0 and output.metrics["loss_dist"] == 0
    assert all(np.isfinite(x).all() for x in jax.tree.leaves((output, gradients)))
    assert zero(w.run("loss_feat", key=key)[2])


# The choices


def test_masked_tokens_do_not_reach_the_feature_and_unmasked_ones_do():
    """By the entropy term, which depends on f(x) and on nothing else."""

    def tokens_seen(name):
        w = world(name)
        gradient = np.asarray(w.run("loss_entropy")[2]["clip"])[np.asarray(w.present)]
        return np.any(gradient.reshape(-1, 2, 4, 6, 3), axis=(2, 4)).sum(axis=(1, 2))

    assert set(tokens_seen("all")) == {6}
    assert set(tokens_seen("through, no aux, unmasked")) == {12}


def test_unmasked_objective_has_all_losses():
    loss, output, gradients = world("through, no aux, unmasked").run()
    assert {"loss_gen", "loss_feat", "loss_dist", "loss_entropy"} <= output.metrics.keys()
    assert np.isfinite(loss) and nonzero(gradients["params"]["encoder"]["blocks"])


def test_filter_over_the_batch_lets_clips_influence_each_other():
    """L_gen of one clip, all others being absent: with MDFF over tokens they cannot matter."""
    only = jnp.asarray([[True, True]] + 5 * [[False, False]])
    over_batch = {**WORLDS["generative"], "model.adapter.over": "batch", "data.bodies": 1}
    runs = (
        (world("generative").run("loss_gen", present=only), False),
        (World(over_batch, only[:, :1]).run("loss_gen"), True),
    )
    for (_, _, gradients), others_matter in runs:
        touched = np.any(np.asarray(gradients["clip"]), axis=(1, 2, 3, 4))
        assert touched.tolist() == [True] + 5 * [others_matter]


def test_diagnostics_show_a_collapse():
    spread = feature_diagnostics(jnp.eye(6), 0.5)
    collapsed = feature_diagnostics(jnp.ones((6, 6)), 0.5)
    assert np.isclose(spread["effective_rank"], 6) and np.isclose(collapsed["effective_rank"], 1)
    assert np.isclose(spread["mean_cosine"], 0) and np.isclose(collapsed["mean_cosine"], 1)
    lam = 6 / (6 * 0.5**2)
    for diagnostics, eigenvalues in ((spread, np.ones(6)), (collapsed, np.array([6.0]))):
        x = lam * eigenvalues
        np.testing.assert_allclose(diagnostics["coding_length"], np.log1p(x).sum(), rtol=1e-5)
        beyond = np.log1p(x) - x + x**2 / 2
        np.testing.assert_allclose(diagnostics["residual"], -beyond.sum(), rtol=1e-5)
        np.testing.assert_allclose(diagnostics["second_term"], -(x**2).sum() / 2, rtol=1e-5)
        np.testing.assert_allclose(diagnostics["radius"], x.max(), rtol=1e-5)
