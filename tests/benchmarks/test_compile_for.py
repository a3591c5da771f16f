"""Compiling for devices that are not here: targets, and collectives in the text of a program."""

import importlib.util
import sys

import pytest
from commands import ROOT, finish

from benchmarks import collectives

LOOPS = """
%add (x: f32[], y: f32[]) -> f32[] {
  ROOT %s = f32[] add(%x, %y)
}

%inner (p: f32[4]) -> f32[4] {
  ROOT %a = f32[4]{0} all-reduce(%p), to_apply=%add
}

%below (p: (s32[], f32[4])) -> pred[] {
  %n = s32[]{:T(128)} constant(3)
  ROOT %lt = pred[] compare(%i, %n), direction=LT
}

%body.1 (p: (s32[], f32[4])) -> (s32[], f32[4]) {
  %f = f32[4]{0} fusion(%x), kind=kLoop, calls=%inner
  %w = (s32[], f32[4]{0}) while(%t), condition=%other, body=%body.2, backend_config={"known_trip_count":{"n":"5"}}
}

%body.2 (p: (s32[], f32[4])) -> (s32[], f32[4]) {
  %g = bf16[8]{0} reduce-scatter(%x), dimensions={0}, to_apply=%add
}

ENTRY %main (p: f32[4]) -> f32[4] {
  %w = (s32[], f32[4]{0}) while(%t), condition=%below, body=%body.1
  %s = (f32[2]{0}, f32[16]{0}) all-gather-start(%q), dimensions={0}
  %d = f32[16]{0} all-gather-done(%s)
  %r = ((f32[16]{0}), f32[2]{0}) reduce-scatter-start(%q), replica_groups=[1,8]<=[8]
  %m = f32[4]{0} all-reduce(%p), replica_groups={{0},{1}}, to_apply=%add
  %o = f32[4]{0} all-reduce(%p), replica_groups=[8,1]<=[8], to_apply=%add
}
"""  # noqa: E501


def test_loops_are_multiplied_out():
    """And neither operands nor groups of one device count."""
    assert collectives.collectives_by_dtype(LOOPS) == {
        ("all-reduce", "f32"): 3 * 16,
        ("reduce-scatter", "bf16"): 3 * 5 * 16,
        ("reduce-scatter", "f32"): 8,
        ("all-gather", "f32"): 64,
    }


def test_a_collective_that_several_fusions_repeat_counts_once():
    """TPUs compute beside a collective: a chain of fusions begins, continues and ends it."""
    chain = 'frontend_attributes={chain_id="1"}'
    hlo = "ENTRY %main (p: f32[4]) -> f32[8] {\n"
    for fusion in range(3):
        hlo += f"  %f.{fusion} = f32[8]{{0}} fusion(%p), calls=%chain.{fusion}\n"
    hlo += "  %other = f32[8]{0} all-gather(%p), channel_id=5, dimensions={0}\n}\n"
    for fusion in range(3):
        hlo += f"%chain.{fusion} (p: f32[4]) -> f32[8] {{\n"
        hlo += f"  ROOT %g.{fusion} = f32[8]{{0}} all-gather(%p), channel_id=5, {chain}\n}}\n"
    assert collectives.collectives_by_dtype(hlo) == {("all-gather", "f32"): 2 * 32}


def test_a_loop_of_unknown_length_is_refused():
    with pytest.raises(ValueError, match="without a known number of rounds"):
        collectives.collectives_by_dtype(LOOPS.replace("constant(3)", "parameter(1)"))


def told(*options):
    done = finish(ROOT, sys.executable, "benchmarks/compile_for.py", *options)
    assert done.returncode == 1
    return done.stderr


def test_an_unknown_target_lists_those_that_exist():
    (line,) = told("--target=h200").splitlines()
    assert "--target=h200 is unknown (did you mean 'h100'?)" in line
    assert "rtx4090" in line
    assert "v5e:2x4" in line


def test_an_impossible_shape_is_refused():
    for name in ("rtx4090x0", "rtx4090:2x4"):
        assert f"--target={name} is no number of devices: write rtx4090x8" in told(
            f"--target={name}"
        )
    assert "--target=v5e has no shape: write v5e:2x2" in told("--target=v5e")


@pytest.mark.skipif(bool(importlib.util.find_spec("libtpu")), reason="the extra is installed")
def test_without_the_compiler_the_extra_is_named():
    assert "pip install -e '.[tpu]'" in told("--target=v5e:2x4")
