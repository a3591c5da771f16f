"""The train step for accelerators that are not here: lowered without a plugin, never compiled."""

import re

import jax
import jax.numpy as jnp
import pytest
import tiny
from jax._src.cudnn import fused_attention_stablehlo as cudnn

from igm_jax import parallel
from igm_jax.evaluation import linear_probe
from igm_jax.finetuning.model import Head
from igm_jax.models import Hardware, attention
from igm_jax.training.program import build_program

LOWERING = {"gpu": "cuda", "tpu": "tpu"}
BFLOAT16 = {
    "model.encoder.dtype": "bfloat16",
    "model.generator.dtype": "bfloat16",
    "model.projector_width": 16,
}
HEADS_OF_8 = {"model.encoder.width": 16, "model.encoder.heads": 2, "model.generator.heads": 2}


@pytest.fixture(autouse=True)
def nobody_asks_the_host(monkeypatch):
    """Code that asks for the devices of this process fails; products have no other default."""
    attention._has_fused.cache_clear()

    def asked(*args, **kwargs):
        raise AssertionError("the host was asked for its devices")

    before = jax.devices()[:1]
    for name in ("default_backend", "device_count", "devices", "local_devices"):
        monkeypatch.setattr(jax, name, asked)
    with jax.default_matmul_precision(None):
        yield before
    attention._has_fused.cache_clear()


def lowered(platform, devices, changes):
    """StableHLO of the step."""
    config = tiny.config(BFLOAT16 | HEADS_OF_8 | changes)
    program = build_program(config, tiny.READING, 40, devices, Hardware(platform))
    split = parallel.split_batch(program.mesh)
    clip = jax.ShapeDtypeStruct((8, 2, 8, 6, 3), jnp.float32, sharding=split)
    raw = {"clip": clip, "present": jax.ShapeDtypeStruct((8, 2), bool, sharding=split)}
    key = jax.eval_shape(lambda: jax.random.key(0))
    traced = program.step.trace(program.restore_target, raw, key)
    return traced.lower(lowering_platforms=(LOWERING[platform],)).as_text()


def products(text):
    """Dtype of the first operand, and the precision, of every matrix product."""
    for line in text.splitlines():
        if "stablehlo.dot_general" in line:
            dtypes = re.findall(r"x([a-z]+\d+)>", line.split(" : (")[1])
            precision = re.search(r"precision = \[(\w+)", line)
            yield dtypes[:2], precision[1] if precision else "DEFAULT"


@pytest.mark.parametrize("platform", LOWERING)
def test_the_step_lowers_and_asks_no_host(platform, nobody_asks_the_host):
    text = lowered(platform, nobody_asks_the_host, {})
    assert "stablehlo.while" in text  # blocks are a loop, which they are not on CPU
    assert text.count("cudnn") == 0  # without a plugin there is no version of it to ask for


def test_cudnn_is_in_the_step_for_a_gpu(nobody_asks_the_host, monkeypatch):
    """11 tokens of 12 are visible: an odd number, which is padded."""
    monkeypatch.setattr(cudnn, "check_cudnn_version", lambda: 91000)
    text = lowered("gpu", nobody_asks_the_host, {"objective.mask_ratio": 0.1})
    assert "__cudnn$fmhaSoftmax" in text and "__cudnn$fmhaSoftmaxBackward" in text
    assert re.search(r"stablehlo.pad.*tensor<16x11x2x8xbf16>.*-> tensor<16x12x2x8xbf16>", text)
    assert "cudnn" not in lowered("tpu", nobody_asks_the_host, {})


@pytest.mark.parametrize("platform", LOWERING)
def test_float32_products_are_exact(platform, nobody_asks_the_host):
    """In a bfloat16 step all but the gradient of the attention logits, two for each attention."""
    found = list(products(lowered(platform, nobody_asks_the_host, {})))
    rounded = [x for x, precision in found if "f32" in x and precision != "HIGHEST"]
    exact = [x for x, precision in found if precision == "HIGHEST"]
    assert exact and all(set(x) == {"f32"} for x in exact)
    assert len(rounded) == 2 * 3  # f twice and g once, of one block each
    float32 = {"model.encoder.dtype": "float32", "model.generator.dtype": "float32"}
    for _, precision in products(lowered(platform, nobody_asks_the_host, float32)):
        assert precision == "HIGHEST"


@pytest.mark.parametrize("platform", LOWERING.values())
def test_products_of_the_linear_probe_are_exact(platform, nobody_asks_the_host):
    def epoch(key, features, labels):
        states, _ = linear_probe._begin(6, 2, 3, 1, 0)
        return linear_probe._epoch(
            (states, jnp.zeros((), jnp.int32)),
            key,
            features=features,
            labels=labels,
            test_features=features,
            test_labels=labels,
            learning_rates=jnp.ones(2),
            epochs=1,
            batch_size=4,
        )

    key = jax.eval_shape(lambda: jax.random.key(0))
    features = jax.ShapeDtypeStruct((8, 6), jnp.float32)
    traced = jax.jit(epoch).trace(key, features, jax.ShapeDtypeStruct((8,), jnp.int32))
    found = list(products(traced.lower(lowering_platforms=(platform,)).as_text()))
    assert len(found) == 3  # forward, gradient, accuracy
    assert {precision for _, precision in found} == {"HIGHEST"}


@pytest.mark.parametrize("platform", LOWERING.values())
def test_products_of_a_finetuned_head_are_exact(platform, nobody_asks_the_host):
    head = Head(8, 3, dropout=0.0)

    def loss(params, x):
        logits, _ = head.apply(params, x, train=True, mutable=["batch_stats"])
        return logits.sum()

    x = jax.ShapeDtypeStruct((4, 6), jnp.float32)
    key = jax.eval_shape(lambda: jax.random.key(0))
    params = jax.eval_shape(lambda key, x: head.init(key, x, train=False), key, x)
    traced = jax.jit(jax.grad(loss)).trace(params, x)
    found = list(products(traced.lower(lowering_platforms=(platform,)).as_text()))
    assert len(found) >= 4 and {precision for _, precision in found} == {"HIGHEST"}
