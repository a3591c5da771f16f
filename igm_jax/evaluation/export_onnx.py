"""Exports the encoder of a run, and its head if there is one, as ONNX.

jax2onnx converts the traced function, and onnxruntime checks it. Batch and length stay dynamic.
"""

import functools
import json
import logging
import pathlib
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from igm_jax import run_folder
from igm_jax.errors import InputError
from igm_jax.evaluation.export import clip_shape, facts, largest_difference, outputs_of_raw
from igm_jax.evaluation.head import Head
from igm_jax.evaluation.run import Run

_OPSET = 23


def export_onnx(run: Run, path: pathlib.Path, head: Head | None = None) -> float:
    """Writes `outputs_of_raw` as ONNX once onnxruntime gives the numbers of the run.

    The input `clips` is float32 [b, M, t, U, C]; the outputs are `features` and, with a head,
    `logits`. The metadata `igm_jax` holds `facts`.

    Returns:
      The largest difference.

    Raises:
      InputError: a library is not installed, or the difference is above `export.TOLERANCE`.
    """
    try:
        import onnx  # pyright: ignore[reportMissingImports]
        import onnxruntime  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise _not_installed(error) from error
    names = ["features"] if head is None else ["features", "logits"]
    model = _converted(run, head, names)
    onnx.helper.set_model_props(model, {"igm_jax": json.dumps(facts(run, head))})
    content = model.SerializeToString()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # it warns of every constant that it does not need
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def encode(clips: np.ndarray) -> dict[str, Any]:
        return dict(zip(names, session.run(names, {"clips": clips})))

    difference = largest_difference(run, head, encode)
    run_folder.write_bytes(path, content)
    return difference


def _converted(run: Run, head: Head | None, names: list[str]) -> Any:
    """The ONNX model of a function that was traced before, with symbolic batch and length."""
    for name in ("jax2onnx", "onnx_ir"):  # they list what is not needed here
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        import jax2onnx  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise _not_installed(error) from error
    batch, length = jax.export.symbolic_shape("b, t")
    clips = jax.ShapeDtypeStruct(clip_shape(run, batch, length), jnp.float32)
    # Traced here, because jax2onnx replaces functions of jax.numpy while it traces, and then Flax
    # cannot scan over blocks.
    traced = jax.make_jaxpr(functools.partial(outputs_of_raw, run=run, head=head))(clips)
    return jax2onnx.to_onnx(
        lambda clips: tuple(core.jaxpr_as_fun(traced)(clips)),
        inputs=[clips],
        model_name="igm_jax",
        opset=_OPSET,
        input_names=["clips"],
        output_names=names,
    )


def _not_installed(error: ImportError) -> InputError:
    return InputError(
        f"{error.name} is not installed: pip install 'igm_jax[export]' onnx-ir, and then "
        "pip install --no-deps jax2onnx, which asks for an older orbax-checkpoint than this "
        "library and needs none here"
    )
