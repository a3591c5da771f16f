"""The formulas against published figures, and against what XLA counts where there is no scan."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from benchmarks import flops, sizes
from igm_jax.models import AdapterConfig, Condition, Encoder, EncoderConfig, Generator, adapter
from igm_jax.models.generator import GeneratorConfig

NTU = sizes.size("ntu_masked", on_cpu=False)
PAPER = dataclasses.replace(  # joints only, one t, a teacher, one condition for each token
    NTU, model=dataclasses.replace(NTU.model, encoder=EncoderConfig())
)


def test_published_figures():
    """GFLOP for a clip of two bodies at NTU size (docs/performance.md)."""
    e, g = PAPER.model.encoder, PAPER.model.generator
    encoder = {n: 2 * flops.encoder(e, n) / 1e9 for n in (750, 75)}
    assert encoder[750] == pytest.approx(28.1, abs=0.05)
    assert encoder[75] == pytest.approx(1.96, abs=0.03)
    five = 2 * flops.generator(g, e, features=750) / 1e9
    three = 2 * flops.generator(dataclasses.replace(g, depth=3), e, features=750) / 1e9
    # f twice with a gradient and once, as the teacher, without; g once.
    assert 7 * encoder[75] + 3 * five == pytest.approx(79.6, abs=0.05)
    assert 7 * encoder[75] + 3 * three == pytest.approx(53.8, abs=0.05)
    assert 7 * encoder[750] + 3 * five == pytest.approx(262, abs=0.5)


def step(**objective):
    config = dataclasses.replace(PAPER.objective, own_t=False, **objective)
    return flops.train_step(dataclasses.replace(PAPER, objective=config)) / 128 / 2


def test_the_step_is_the_sum_of_its_passes():
    e, g, h = PAPER.model.encoder, PAPER.model.generator, PAPER.model.adapter
    masked = flops.encoder(e, 75) + flops.adapter(h, 75, 256) + flops.generator(g, e, 76)
    assert step(feature_weight=0.0, distribution_weight=0.0) == 3 * masked
    assert step() == 3 * (masked + flops.encoder(e, 75))
    assert step(aux_tokens=True) - step() == 3 * (
        flops.encoder(e, 75, aux=True) - flops.encoder(e, 75)
    )
    assert step(ema_decay=0.9) - step() == flops.encoder(e, 75)
    own = flops.train_step(PAPER) / 128 / 2
    assert own - step() == flops.generator(g, e, 76)
    whole = step(mask_ratio=0.0, reencode_mask_ratio=0.0)
    assert whole == 3 * (
        2 * flops.encoder(e, 750) + flops.adapter(h, 750, 256) + flops.generator(g, e, 1)
    )


def test_a_pose_token_costs_as_much_to_embed_as_its_joints():
    e, g = PAPER.model.encoder, PAPER.model.generator
    pose = dataclasses.replace(e, patch_joints=0)
    assert (e.num_tokens, pose.num_tokens) == (750, 30)

    def ends(c):
        rest = flops.blocks(c.num_tokens, c.depth, c.width, c.mlp_width)
        return flops.encoder(c, c.num_tokens) - rest

    assert ends(pose) == ends(e) == 2 * 120 * 25 * 3 * 256
    fewer = flops.blocks(750, g.depth, g.width, g.mlp_width) - flops.blocks(
        30, g.depth, g.width, g.mlp_width
    )
    assert flops.generator(g, e, 4) - flops.generator(g, pose, 4) == fewer


def counted(function, *inputs):
    return jax.jit(function).lower(*inputs).cost_analysis()["flops"]


def test_what_xla_counts_is_near():
    """Before optimisation XLA counts what is written; blocks are one, so that none hides."""
    e = EncoderConfig(frames=24, joints=5, width=64, depth=1, heads=2, mlp_width=256)
    g = GeneratorConfig(width=64, depth=1, heads=2, mlp_width=256)
    clip, keep = jnp.zeros((1, 24, 5, 3)), jnp.arange(12)[None]
    encoder = Encoder(e)
    params = jax.eval_shape(encoder.init, jax.random.key(0), clip, keep)
    expected = flops.encoder(e, 12)
    assert expected <= counted(encoder.apply, params, clip, keep) < 1.2 * expected

    condition = Condition(
        jnp.zeros((1, 64)), jnp.zeros((1, 12, 64)), jnp.arange(30)[None].astype(jnp.int32)
    )
    t, generator = jnp.zeros(1, jnp.int32), Generator(g)
    given = clip, condition, t, jnp.ones(1)
    params = jax.eval_shape(generator.init, jax.random.key(0), *given)
    expected = flops.generator(g, e, features=13)
    assert expected <= counted(generator.apply, params, *given) < 1.2 * expected

    tokens = jnp.zeros((1, 12, 64))
    expected = flops.adapter(AdapterConfig(), 12, 64)
    measured = counted(lambda x: adapter.adapt(x, AdapterConfig())[0], tokens)
    assert expected <= measured < 1.6 * expected


def test_another_objective_has_no_formula():
    objective = dataclasses.replace(PAPER.objective, name="spectral_contrastive")
    with pytest.raises(ValueError, match="no formula"):
        flops.train_step(dataclasses.replace(PAPER, objective=objective))
