"""Every layer and loss against its PyTorch counterpart, in float32.

Each layer gets the same input on both sides, so that no error adds up.
"""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[bench]'")

from igm_jax import diffusion, losses, masking  # noqa: E402
from igm_jax.models import (  # noqa: E402
    AuxTokens,
    Condition,
    Encoder,
    Generator,
    Hardware,
    blocks,
    layers,
)
from igm_jax.models.adapter import adapt  # noqa: E402
from igm_jax.models.backbone import Projector  # noqa: E402
from igm_jax.models.generator import AdaLN  # noqa: E402
from igm_jax.models.generator import Block as GeneratorBlock  # noqa: E402
from torch_reference import layers as torch_layers  # noqa: E402
from torch_reference import model as torch_model  # noqa: E402
from torch_reference import objective as torch_objective  # noqa: E402
from torch_reference.weights import state_dict  # noqa: E402

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


def assert_close(ours, theirs, tolerance=1e-5):
    ours, theirs = np.asarray(ours), theirs.detach().numpy()
    assert ours.shape == theirs.shape
    scale = max(1.0, np.abs(theirs).max())
    assert np.abs(ours - theirs).max() <= tolerance * scale


@pytest.mark.parametrize("patch_joints", [1, 2, 0])
def test_patches(patch_joints):
    clip, patch = normal(2, 6, 4, 3), layers.Patch(3, patch_joints)
    grid = torch_layers.grid(
        SimpleNamespace(frames=6, joints=4, patch_frames=3, patch_joints=patch_joints)
    )
    assert grid == patch.grid(6, 4)
    theirs = torch_layers.patchify(torch.tensor(clip), *grid)
    assert_close(layers.patchify(jnp.asarray(clip), patch), theirs, 0)
    assert_close(clip, torch_layers.unpatchify(theirs, *grid, (6, 4, 3)), 0)


def test_position():
    assert_close(
        *(lambda o, r: (o, r()))(
            *both(layers.PositionEmbedding((3, 5), 8), torch_layers.Position(3, 5, 8))
        )
    )


@pytest.mark.parametrize(
    ("module", "reference"),
    [
        (layers.SelfAttention(4, "float32", Hardware.here()), torch_layers.Attention(16, 4)),
        (layers.Mlp(40, "float32"), torch_layers.Mlp(16, 40)),
        (blocks.Block(4, 40, "float32", Hardware.here()), torch_layers.Block(16, 4, 40)),
    ],
    ids=["attention", "mlp", "block"],
)
def test_layer(module, reference):
    x = normal(3, 10, 16)
    ours, reference = both(module, reference, x)
    assert_close(ours[0] if isinstance(ours, tuple) else ours, reference(torch.tensor(x)))


def test_time_embedding():
    t = np.array([0, 1, 500, 999], np.int32)
    # Angles up to 999: one rounding of the frequency is 6e-5 in the phase.
    assert_close(
        diffusion.time_embedding(jnp.asarray(t), 16),
        torch_layers.time_embedding(tensor(t), 16),
        1e-4,
    )


def test_schedules():
    for name in diffusion.SCHEDULES:
        for steps in (10, 1000):
            assert_close(
                diffusion.alpha_bar(name, steps), torch_objective.alpha_bar(name, steps), 1e-6
            )


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
    module = AdaLN("float32") if layer == "adaln" else GeneratorBlock(g, Hardware.here())
    reference = torch_model.AdaLN(24, 16) if layer == "adaln" else torch_model.GeneratorBlock(g, 16)
    ours, reference = both(module, reference, in_order(x, order), ours_c, time)
    theirs = reference(torch.tensor(x), theirs_c, torch.tensor(time))
    assert_close(ours[0] if layer == "block" else ours, torch_layers.select(theirs, tensor(order)))


@pytest.mark.parametrize("over", ["tokens", "batch"])
def test_adapter(over):
    c = dataclasses.replace(
        CONFIG.model, adapter=dataclasses.replace(CONFIG.model.adapter, eta=0.4, over=over)
    )
    tokens = normal(3, 5, 16)
    seen = np.array([[0, 3, 7, 2, 11]] * 3)
    adapted, pooled = adapt(jnp.asarray(tokens), c.adapter)
    theirs = torch_model.adapt(torch.tensor(tokens), torch.tensor(seen), 12, c)
    assert_close(adapted, theirs.features[:, :-1])
    assert_close(pooled, theirs.features[:, -1])
    assert theirs.which[0].tolist() == [0, 5, 3, 1, 5, 5, 5, 2, 5, 5, 5, 4]


def test_projector():
    z = normal(6, 16)
    ours, reference = both(Projector(10), torch_model.Projector(16, 10), z)
    assert_close(ours, reference(torch.tensor(z)))


def test_encoder_with_mask_and_aux(order):
    clip, z, t = normal(3, 8, 6, 3), normal(3, 16), np.array([0, 400, 999], np.int32)
    keep, aux = order[:, :5], AuxTokens(jnp.asarray(z), jnp.asarray(t), jnp.asarray(t[::-1]))
    module = Encoder(CONFIG.model.encoder)
    ours, reference = both(module, torch_model.Encoder(CONFIG.model.encoder), clip, keep, aux)
    told = torch_model.Aux(torch.tensor(z), tensor(t), tensor(t[::-1].copy()))
    assert_close(ours, reference(torch.tensor(clip), tensor(keep), told), 2e-5)


@pytest.mark.parametrize("each_token", [False, True])
def test_generator_with_mask_and_drops(order, each_token):
    ours_c, theirs_c = conditions(order)
    clip, t = normal(3, 8, 6, 3), np.array([0, 400, 999], np.int32)
    dropped = np.array([False, True, False])
    g, e = CONFIG.model.generator, CONFIG.model.encoder
    reference = torch_model.Generator(g, e)
    reference.each_token = each_token
    ours, reference = both(
        Generator(g, layers.Patch(4)), reference, clip, ours_c, t, np.ones(3, np.float32), dropped
    )
    assert_close(
        ours, reference(torch.tensor(clip), theirs_c, tensor(t), torch.tensor(dropped)), 2e-5
    )


def test_losses():
    z, z_hat, queue = normal(5, 8), normal(5, 8), normal(7, 8)
    ours = losses.distribution_idempotency_loss(
        *map(jnp.asarray, (z, z_hat, queue)), target_temperature=0.05, temperature=0.1
    )
    theirs = torch_objective.kl_of_similarities(*map(torch.tensor, (z, z_hat, queue)), 0.05, 0.1)
    assert_close(ours, theirs)
