"""The objective and whole training steps against the same in PyTorch, in float32."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[bench]'")

from benchmarks import sizes  # noqa: E402
from igm_jax import losses, parallel  # noqa: E402
from igm_jax.models import IGM  # noqa: E402
from igm_jax.reading import Reading  # noqa: E402
from igm_jax.training.config import ExperimentConfig  # noqa: E402
from igm_jax.training.optimizer import learning_rate_schedule, make_optimizer  # noqa: E402
from igm_jax.training.program import build_program  # noqa: E402
from igm_jax.training.state import TrainState, taught  # noqa: E402
from torch_reference import draws as torch_draws  # noqa: E402
from torch_reference import model as torch_model  # noqa: E402
from torch_reference import training  # noqa: E402
from torch_reference.jax_draws import step_draws  # noqa: E402
from torch_reference.parity import batch_tensors, compare, relative, visible_part  # noqa: E402
from torch_reference.weights import state_dict  # noqa: E402

TWO_VIEWS = {
    "data.crops": 2,
    "data.mirror": 0.5,
    "data.rotation": (0.3, 1.2, 0.3),
    "data.streams": ("joint", "motion"),
    "model.encoder.channels": 6,
    "objective.condition_drop": 0.0,
    "objective.feature_weight": 1.0,
    "objective.distribution_weight": 0.0,
    "objective.entropy_weight": 8.0,
    "objective.entropy": "second_order",
    "objective.aux_tokens": False,
    "objective.own_t": True,
    "objective.max_t_share": 0.15,
}
RECIPES = {  # the keys by which configs/base.py and configs/paper_literal.py differ from tiny's
    "default": TWO_VIEWS,
    "tokens of poses": {
        **TWO_VIEWS,
        "objective.distribution_weight": 0.1,
        "model.encoder.patch_joints": 0,
        "model.encoder.patch_frames": 2,
    },
    "paper literal": {},
    "teacher and projector": {
        **TWO_VIEWS,
        "objective.distribution_weight": 0.5,
        "objective.ema_decay": 0.75,
        "objective.max_t_share": 0.5,
        "model.projector_width": 10,
    },
    "nothing hidden, through x̂0": {
        "data.bodies": 1,
        "data.streams": ("bone",),
        "model.adapter.over": "batch",
        "objective.mask_ratio": 0.0,
        "objective.reencode_mask_ratio": 0.0,
        "objective.clean_gradient": True,
        "objective.target_gradient": False,
        "objective.entropy_weight": 0.2,
        "objective.schedule": "cosine",
    },
}


class Pair:
    """Both sides of one experiment with the same random parameters."""

    def __init__(self, changes):
        # A step of 1e-3 after a warm-up of two: then all parts of the schedule are passed.
        lengths = {"optimizer.warmup_epochs": 0.4, "objective.ramp_epochs": 0}
        self.config = tiny.config({**lengths, **changes})
        data, channels = self.config.data, 3 * len(self.config.data.streams)
        rng = np.random.default_rng(5)
        mean = tuple(rng.normal(size=channels).tolist())
        self.reading = Reading(
            tiny.LAYOUT,
            data.coordinates,
            self.config.model.encoder.frames,
            data.bodies,
            data.streams,
            mean,
            (0.7,) * channels,
        )
        self.program = build_program(self.config, self.reading, 40, jax.devices()[:1])
        assert (self.program.total_steps, self.program.steps_per_epoch) == (10, 5)
        params = tiny.random_params(IGM(self.config.model))
        queue = rng.normal(size=self.program.restore_target.queue.shape).astype(np.float32)
        optimizer = make_optimizer(
            self.config.optimizer, learning_rate_schedule(self.config.optimizer, 10, 5)
        )
        self.state = TrainState(
            step=jnp.int32(0),
            params=params,
            teacher=jax.tree.map(
                jnp.copy, taught(params) if self.config.objective.ema_decay else {}
            ),
            opt_state=optimizer.init(params),
            queue=losses.normalize(jnp.asarray(queue)),
        )
        self.trainer = training.Trainer(
            self.config,
            self.reading,
            params,
            np.asarray(self.state.queue),
            total_steps=10,
            steps_per_epoch=5,
        )

    def batch(self, seed):
        rng, bodies = np.random.default_rng(seed), self.config.data.bodies
        present = rng.random((8, bodies)) < 0.7
        present[:, 0] |= ~present.any(axis=1)
        clip, other = rng.normal(size=(2, 8, bodies, 8, 6, 3)).astype(np.float32)
        raw = {"clip": clip, "present": present}
        return raw | {"other": other} if self.config.data.crops == 2 else raw


@pytest.mark.parametrize("name", sizes.SIZES)
def test_the_sizes_of_the_benchmark_have_a_reference(name):
    config = sizes.size(name, batch=8)
    params = jax.eval_shape(
        build_program(config, sizes.reading(config), 40).init, jax.random.key(0)
    )
    ours = sum(x.size for x in jax.tree.leaves(params.params))
    assert sum(x.numel() for x in torch_model.IGM(config.model).parameters()) == ours


@pytest.mark.parametrize("recipe", RECIPES)
def test_loss_terms_and_gradients(recipe):
    pair = Pair(RECIPES[recipe])
    pair.trainer.step_count = 3
    raw = jax.tree.map(jnp.asarray, pair.batch(1))
    key = jax.random.key(7)
    differences = compare(pair.trainer, pair.state, raw, key, pair.config, pair.reading)
    assert {"loss", "loss_gen", "loss_feat"} <= differences.keys() and len(differences) > 40
    wrong = {name: d for name, d in differences.items() if not d <= 1e-4}
    assert not wrong, wrong


def test_five_steps():
    """Augmentation, gradients, clipping, schedule, AdamW, decay masks, teacher and queue."""
    pair = Pair(RECIPES["teacher and projector"])
    everywhere = parallel.replicated(pair.program.mesh)
    seed_key, state = jax.device_put((jax.random.key(11), pair.state), everywhere)
    start = {name: p.detach().clone() for name, p in pair.trainer.model.named_parameters()}
    for step in range(5):
        raw = pair.batch(step)
        draws = step_draws(pair.config, 8, jax.random.fold_in(seed_key, step))
        terms = pair.trainer.step(**batch_tensors(raw, "cpu"), draws=draws)
        batch = parallel.to_devices(pair.program.mesh, raw)
        state, metrics = pair.program.step(state, batch, seed_key)
        for name, value in terms.items():
            assert relative(metrics[name], value) <= 1e-4, (step, name)
        if step == 1:  # the first step has a rate of 0
            one_step_apart = moved_apart(state, pair, start)
            assert max(one_step_apart.values()) <= 1e-4, one_step_apart
    assert float(terms["grad_norm"]) > pair.config.optimizer.clip_norm  # clipped, that is
    apart = moved_apart(state, pair, start)
    assert max(apart.values()) <= 1e-4, apart
    assert relative(state.queue, pair.trainer.queue) <= 1e-4
    if state.teacher:
        theirs = pair.trainer.teacher.state_dict()
        for name, ours in state_dict(state.teacher).items():
            pair = (visible_part(name, x) for x in (ours, theirs[name]))
            assert relative(*pair) <= 1e-4


def moved_apart(state, pair, start):
    """Of each parameter: the difference of the two sides relative to its length."""
    theirs = dict(pair.trainer.model.named_parameters())
    assert any(relative(start[n], theirs[n].detach()) > 1e-4 for n in theirs)
    return {
        name: relative(visible_part(name, ours), visible_part(name, theirs[name].detach()))
        for name, ours in state_dict(state.params).items()
    }


def test_every_key_of_the_two_recipes_is_covered():
    """A key that configs/base.py or paper_literal.py sets otherwise than a recipe above would not
    be compared: the choices (strings, switches) of both occur."""
    configs = [tiny.config(changes).objective for changes in RECIPES.values()]
    for field in dataclasses.fields(ExperimentConfig().objective):
        if field.type in ("bool", bool):
            assert {getattr(c, field.name) for c in configs} == {True, False}, field.name


def test_fresh_draws_are_like_ours():
    config = tiny.config(TWO_VIEWS)
    ours = step_draws(config, 8, jax.random.key(0))
    theirs = torch_draws.draw(config, 8, torch.device("cpu"))
    shape = lambda x: (tuple(x.shape), x.dtype)  # noqa: E731
    for field in dataclasses.fields(ours):
        a, b = getattr(ours, field.name), getattr(theirs, field.name)
        parts = zip(a, b, strict=True) if isinstance(a, tuple) else [(a, b)]
        assert all(shape(x) == shape(y) for x, y in parts), field.name
    assert (theirs.order.sort(dim=1).values == torch.arange(12)).all()
