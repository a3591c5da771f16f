"""The train step as a jaxpr, and the matrix products in it; nothing is compiled or executed."""

import math
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn

from igm_jax import parallel
from igm_jax.training.config import ExperimentConfig
from igm_jax.training.program import Program


def trace_step(config: ExperimentConfig, program: Program) -> jax.stages.Traced:
    """Traces the train step for the devices of the program; no array is made."""
    e, rows = config.model.encoder, (config.train.batch_size, config.data.bodies)
    split = parallel.split_batch(program.mesh)
    channels = e.channels // len(config.data.streams)
    clip = jax.ShapeDtypeStruct((*rows, e.frames, e.joints, channels), jnp.float32, sharding=split)
    raw = {"clip": clip, "present": jax.ShapeDtypeStruct(rows, bool, sharding=split)}
    if config.data.crops == 2:
        raw["other"] = clip
    key = jax.eval_shape(lambda: jax.random.key(0))
    return program.step.trace(program.restore_target, raw, key)


def matrix_products(jaxpr: Jaxpr, branch: Callable[[list[int]], int] = max) -> int:
    """FLOPs of the matrix products of a program: 2 for a multiply-add.

    The body of a scan counts as often as it is executed. Products that are recomputed in a backward
    pass count again. `branch` chooses from the branches of a condition: `max` the most expensive
    one.

    Raises:
      ValueError: a product in a loop whose number of steps is unknown, or a convolution.
    """
    return sum(_of_equation(equation, branch) for equation in jaxpr.eqns)


def _of_equation(equation: JaxprEqn, branch: Callable[[list[int]], int]) -> int:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        shape = equation.invars[0].aval.shape
        return 2 * equation.outvars[0].aval.size * math.prod(shape[i] for i in contracted)
    if name == "conv_general_dilated":
        raise ValueError("convolutions are not counted")
    inner = [matrix_products(jaxpr, branch) for jaxpr in _jaxprs(params.values())]
    if name == "cond":
        return branch(inner)
    if name == "while" and any(inner):
        raise ValueError("a loop of unknown length has matrix products")
    return sum(inner) * (params["length"] if name == "scan" else 1)


def _jaxprs(values) -> Iterator[Jaxpr]:
    for value in values:
        if isinstance(value, ClosedJaxpr):
            yield value.jaxpr
        elif isinstance(value, Jaxpr):
            yield value
        elif isinstance(value, tuple | list):
            yield from _jaxprs(value)
