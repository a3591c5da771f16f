"""Our train step and the same in PyTorch: layer by layer, then the objective, then whole steps.

Both are float32 and get the same numbers; layers get the same input, so that no error adds up.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[bench]'")

from benchmarks.jax_draws import step_draws  # noqa: E402
from benchmarks.parity import (  # noqa: E402
    batch_tensors,
    compare,
    relative,
    visible_part,
)
from benchmarks.torch_reference import draws as torch_draws  # noqa: E402
from benchmarks.torch_reference import layers as torch_layers  # noqa: E402
from benchmarks.torch_reference import model as torch_model  # noqa: E402
from benchmarks.torch_reference import objective as torch_objective  # noqa: E402
from benchmarks.torch_reference import training  # noqa: E402
from benchmarks.torch_reference.weights import state_dict  # noqa: E402
from igm_jax import (  # noqa: E402
    diffusion,
    losses,
    masking,
    parallel,
)
from igm_jax.inputs import Inputs  # noqa: E402
from igm_jax.models import IGM, AuxTokens, Condition, Encoder, Generator, layers  # noqa: E402
from igm_jax.models.adapter import adapt  # noqa: E402
from igm_jax.models.generator import AdaLN  # noqa: E402
from igm_jax.models.generator import Block as GeneratorBlock  # noqa: E402
from igm_jax.models.igm import Projector  # noqa: E402
from igm_jax.training.config import ExperimentConfig  # noqa: E402
from igm_jax.training.optimizer import learning_rate_schedule, make_optimizer  # noqa: E402
from igm_jax.training.program import build_program  # noqa: E402
from igm_jax.training.state import TrainState, taught  # noqa: E402

CONFIG = tiny.config(
    {"model.encoder.depth": 2, "model.generator.depth": 2, "model.generator.width": 24}
)
RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def both(module, reference, *inputs, method=None):
    """Output of a linen module and of its PyTorch counterpart with the same random parameters."""
    given = [jnp.asarray(x) if isinstance(x, np.ndarray) else x for x in inputs]
    shapes = jax.eval_shape(module.init, jax.random.key(0), *given).get("params", {})
    params = jax.tree.map(lambda x: jnp.asarray(0.3 * normal(*x.shape)), shapes)
    ours = jax.jit(module.apply)({"params": params}, *given)
    reference.load_state_dict(state_dict(params), strict=True)
    return ours, reference


def tensor(x):
    return torch.tensor(np.asarray(x).astype(np.int64 if x.dtype == np.int32 else x.dtype))


def close(ours, theirs, tolerance=1e-5):
    ours, theirs = np.asarray(ours), theirs.detach().numpy()
    assert ours.shape == theirs.shape
    scale = max(1.0, np.abs(theirs).max())
    assert np.abs(ours - theirs).max() <= tolerance * scale


# Layer by layer


def test_patches():
    clip = normal(2, 6, 4, 3)
    theirs = torch_layers.patchify(torch.tensor(clip), 3)
    close(layers.patchify(jnp.asarray(clip), layers.Patch(3)), theirs, 0)
    close(clip, torch_layers.unpatchify(theirs, 3, 4), 0)


def test_position():
    close(*(lambda o, r: (o, r()))(*both(layers.PositionEmbedding((3, 5), 8),
                                         torch_layers.Position(3, 5, 8))))  # fmt: skip


@pytest.mark.parametrize(
    ("module", "reference"),
    [
        (layers.SelfAttention(4, "float32"), torch_layers.Attention(16, 4)),
        (layers.Mlp(40, "float32"), torch_layers.Mlp(16, 40)),
        (layers.Block(4, 40, "float32"), torch_layers.Block(16, 4, 40)),
    ],
    ids=["attention", "mlp", "block"],
)
def test_layer(module, reference):
    x = normal(3, 10, 16)
    ours, reference = both(module, reference, x)
    close(ours[0] if isinstance(ours, tuple) else ours, reference(torch.tensor(x)))


def test_time_embedding():
    t = np.array([0, 1, 500, 999], np.int32)
    # Angles up to 999: one rounding of the frequency is 6e-5 in the phase.
    close(
        diffusion.time_embedding(jnp.asarray(t), 16),
        torch_layers.time_embedding(tensor(t), 16),
        1e-4,
    )


def test_schedules():
    for name in diffusion.SCHEDULES:
        for steps in (10, 1000):
            close(diffusion.alpha_bar(name, steps), torch_objective.alpha_bar(name, steps), 1e-6)


def conditions(order):
    """Our condition, tokens in `order`, and theirs, in the natural order."""
    pooled, visible = normal(3, 16), normal(3, 4, 16)
    ours = Condition(jnp.asarray(pooled), jnp.asarray(visible), jnp.asarray(order))
    which = np.full((3, 12), 4)
    for b in range(3):
        for j in range(4):
            which[b, order[b, j]] = j
    features = np.concatenate([visible, pooled[:, None]], axis=1)
    return ours, torch_model.Condition(torch.tensor(features), torch.tensor(which))


@pytest.fixture
def order():
    return np.asarray(masking.random_order(jax.random.key(3), 3, 12))


def in_order(x, order):
    return np.take_along_axis(np.asarray(x), order[..., None], axis=1)


@pytest.mark.parametrize("layer", ["adaln", "block"])
def test_generator_layer(layer, order):
    ours_c, theirs_c = conditions(order)
    x, time = normal(3, 12, 24), normal(3, 24)
    g = CONFIG.model.generator
    module = AdaLN("float32") if layer == "adaln" else GeneratorBlock(g)
    reference = torch_model.AdaLN(24, 16) if layer == "adaln" else torch_model.GeneratorBlock(g, 16)
    ours, reference = both(module, reference, in_order(x, order), ours_c, time)
    theirs = reference(torch.tensor(x), theirs_c, torch.tensor(time))
    close(ours[0] if layer == "block" else ours, torch_layers.select(theirs, tensor(order)))


@pytest.mark.parametrize("over", ["tokens", "batch"])
def test_adapter(over):
    c = dataclasses.replace(
        CONFIG.model, adapter=dataclasses.replace(CONFIG.model.adapter, eta=0.4, over=over)
    )
    tokens = normal(3, 5, 16)
    seen = np.array([[0, 3, 7, 2, 11]] * 3)
    adapted, pooled = adapt(jnp.asarray(tokens), c.adapter)
    theirs = torch_model.adapt(torch.tensor(tokens), torch.tensor(seen), 12, c)
    close(adapted, theirs.features[:, :-1])
    close(pooled, theirs.features[:, -1])
    assert theirs.which[0].tolist() == [0, 5, 3, 1, 5, 5, 5, 2, 5, 5, 5, 4]


def test_projector():
    z = normal(6, 16)
    ours, reference = both(Projector(10), torch_model.Projector(16, 10), z)
    close(ours, reference(torch.tensor(z)))


def test_encoder_with_mask_and_aux(order):
    clip, z, t = normal(3, 8, 6, 3), normal(3, 16), np.array([0, 400, 999], np.int32)
    keep, aux = order[:, :5], AuxTokens(jnp.asarray(z), jnp.asarray(t), jnp.asarray(t[::-1]))
    module = Encoder(CONFIG.model.encoder)
    ours, reference = both(module, torch_model.Encoder(CONFIG.model.encoder), clip, keep, aux)
    told = torch_model.Aux(torch.tensor(z), tensor(t), tensor(t[::-1].copy()))
    close(ours, reference(torch.tensor(clip), tensor(keep), told), 2e-5)


@pytest.mark.parametrize("each_token", [False, True])
def test_generator_with_mask_and_drops(order, each_token):
    ours_c, theirs_c = conditions(order)
    clip, t = normal(3, 8, 6, 3), np.array([0, 400, 999], np.int32)
    dropped = np.array([False, True, False])
    g, e = CONFIG.model.generator, CONFIG.model.encoder
    reference = torch_model.Generator(g, e)
    reference.each_token = each_token
    ours, reference = both(Generator(g, layers.Patch(4)), reference, clip, ours_c, t, dropped)
    close(ours, reference(torch.tensor(clip), theirs_c, tensor(t), torch.tensor(dropped)), 2e-5)


def test_losses():
    z, z_hat, queue = normal(5, 8), normal(5, 8), normal(7, 8)
    ours = losses.distribution_idempotency_loss(
        *map(jnp.asarray, (z, z_hat, queue)), target_temperature=0.05, temperature=0.1
    )
    theirs = torch_objective.kl_of_similarities(*map(torch.tensor, (z, z_hat, queue)), 0.05, 0.1)
    close(ours, theirs)


# The objective, and whole steps

TWO_VIEWS = {
    "data.crops": 2,
    "data.mirror": 0.5,
    "data.rotation": (0.3, 1.2, 0.3),
    "data.streams": ("joint", "motion"),
    "model.encoder.channels": 6,
    "objective.condition_drop": 0.0,
    "objective.feature_weight": 4.0,
    "objective.distribution_weight": 0.0,
    "objective.entropy_weight": 8.0,
    "objective.entropy": "second_order",
    "objective.aux_tokens": False,
    "objective.own_t": True,
    "objective.max_t": 0.15,
}
RECIPES = {  # the keys by which configs/base.py and configs/paper_literal.py differ from tiny's
    "default": TWO_VIEWS,
    "paper literal": {},
    "teacher and projector": {
        **TWO_VIEWS,
        "objective.distribution_weight": 0.5,
        "objective.ema_decay": 0.75,
        "objective.max_t": 0.5,
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
        self.inputs = Inputs(tiny.LAYOUT, data.streams, mean, (0.7,) * channels)
        self.program = build_program(self.config, self.inputs, 40, jax.devices()[:1])
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
            self.config, self.inputs, params, np.asarray(self.state.queue),
            total_steps=10, steps_per_epoch=5,
        )  # fmt: skip

    def batch(self, seed):
        rng, bodies = np.random.default_rng(seed), self.config.data.bodies
        present = rng.random((8, bodies)) < 0.7
        present[:, 0] |= ~present.any(axis=1)
        clip, other = rng.normal(size=(2, 8, bodies, 8, 6, 3)).astype(np.float32)
        raw = {"clip": clip, "present": present}
        return raw | {"other": other} if self.config.data.crops == 2 else raw


@pytest.mark.parametrize("recipe", RECIPES)
def test_loss_terms_and_gradients(recipe):
    pair = Pair(RECIPES[recipe])
    pair.trainer.step_count = 3
    raw = jax.tree.map(jnp.asarray, pair.batch(1))
    key = jax.random.key(7)
    differences = compare(pair.trainer, pair.state, raw, key, pair.config, pair.inputs)
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
    close(state.queue, pair.trainer.queue, 1e-4)
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
