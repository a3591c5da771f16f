"""How a step grows: the sizes that are measured, and what their FLOPs say."""

import pytest

from benchmarks import flops, report, sizes


def flops_exponent(name, values):
    base = {"tokens": 100, "width": 128, "depth": 2, "batch": 8}
    steps = [sizes.plain_step(**base | {name: value}, dtype="float32") for value in values]
    return report.exponent(values, [flops.train_step(step) for step in steps])


def test_plain_step_is_what_was_asked_for():
    config = sizes.plain_step(tokens=200, width=64, depth=3, batch=4, dtype="bfloat16")
    encoder, generator = config.model.encoder, config.model.generator
    assert encoder.num_tokens == 200 and config.train.batch_size == 4 and config.data.bodies == 1
    for part in (encoder, generator):
        assert (part.width, part.depth, part.mlp_width, part.dtype) == (64, 3, 256, "bfloat16")
    assert [p.tokens for p in flops.passes(config) if p.network == "encoder"] == [200, 200]


def test_flops_grow_with_the_batch_and_nearly_with_the_depth():
    assert flops_exponent("batch", (2, 4, 32)) == pytest.approx(1)
    assert 0.9 < flops_exponent("depth", (1, 2, 4, 8)) < 1


def test_flops_grow_between_linearly_and_quadratically_with_tokens_and_width():
    assert 1.9 < flops_exponent("tokens", (50_000, 100_000)) < 2  # attention is all
    assert 1 < flops_exponent("tokens", (25, 50)) < 1.1
    assert 1.9 < flops_exponent("width", (2048, 4096)) < 2


def test_exponent_of_powers():
    assert report.exponent([1, 2, 4, 8], [5, 40, 320, 2560]) == pytest.approx(3)
    assert report.exponent([1, 10], [7, 7]) == pytest.approx(0)
