"""Bytes between devices: the formula against the program compiled for eight devices."""

import dataclasses
import sys

import jax
import pytest
from commands import ROOT, output

from benchmarks import collectives, sizes
from igm_jax import parallel
from igm_jax.training.program import build_program

AUXILIARY = {"ema_decay": 0.9, "aux_tokens": True, "entropy_weight": 0.0}


@pytest.mark.parametrize(("fsdp", "objective"), [(1, {}), (4, AUXILIARY)])
def test_formula_is_what_was_compiled(fsdp, objective, monkeypatch):
    monkeypatch.setattr(parallel, "SMALL", 64)
    config = sizes.size("smoke", batch=16)
    config = dataclasses.replace(
        config,
        objective=dataclasses.replace(config.objective, **objective),
        parallel=dataclasses.replace(config.parallel, fsdp=fsdp),
    )
    program = build_program(config, sizes.reading(config), 64)
    predicted = collectives.collectives(config, program.restore_target)
    compiled = collectives.compiled_collectives(collectives.compile_step(config, program))
    assert compiled.keys() == predicted.keys() >= {"all-reduce", "all-gather"}
    for kind, size in predicted.items():
        assert compiled[kind] == pytest.approx(size, abs=100 * fsdp), kind  # scalars


def test_a_gradient_crosses_the_devices_once_and_in_float32(monkeypatch):
    """Of a bfloat16 network that reads each clip twice, in two micro-batches."""
    config = sizes.size("smoke", batch=16, dtype="bfloat16")
    parallel_ = dataclasses.replace(config.parallel, accumulate=2)
    config = dataclasses.replace(config, parallel=parallel_)
    program = build_program(config, sizes.reading(config), 64)
    gradient = sum(4 * x.size for x in jax.tree.leaves(program.restore_target.params))
    found = collectives.collectives_by_dtype(collectives.compile_step(config, program))
    assert {dtype for kind, dtype in found if kind != "all-gather"} == {"f32"}
    assert found["all-reduce", "f32"] < 1.05 * gradient


def test_the_command_prints_both():
    script = ("benchmarks/devices.py", "--size=smoke", "--devices=2")
    printed = output(ROOT, sys.executable, *script)
    _, line = (x for x in printed.splitlines() if x.startswith("| all-"))
    predicted, compiled = map(float, line.strip("| ").split(" | ")[1:])
    assert "2 clips a step" in printed
    assert compiled > 0 and predicted == pytest.approx(compiled, abs=2e-4)  # scalars, in MB


def test_bytes_of_tuples_and_of_every_kind_are_added():
    text = """
      %a = f32[] all-reduce(%x), to_apply=%add
      %b = (f32[2,3]{1,0}, /*index=1*/ pred[5]{0}) all-reduce(%x, %y), channel_id=2
      %d = bf16[8,4]{1,0} all-gather(%x), dimensions={0}
      %e = f32[8] add(%x, %y), metadata={op_name="all-reduce(a)"}
    """
    assert collectives.compiled_collectives(text) == {"all-reduce": 4 + 24 + 5, "all-gather": 64}


@pytest.mark.parametrize("what", ["projector", "coding length", "adapter"])
def test_what_has_no_formula(what):
    config = sizes.size("smoke", batch=16)
    model, objective = config.model, config.objective
    if what == "projector":
        model = dataclasses.replace(model, projector_width=16)
    elif what == "adapter":
        adapter = dataclasses.replace(model.adapter, over="batch")
        model = dataclasses.replace(model, adapter=adapter)
    else:
        objective = dataclasses.replace(objective, entropy="coding_length", entropy_weight=1.0)
    data = dataclasses.replace(config.data, bodies=1)  # an adapter over the batch reads one
    config = dataclasses.replace(config, model=model, objective=objective, data=data)
    program = build_program(config, sizes.reading(config), 64)
    with pytest.raises(ValueError, match=what):
        collectives.collectives(config, program.restore_target)
