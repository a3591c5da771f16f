"""Exports the encoder of a run, and its head if there is one, for programs without this library.

StableHLO holds all of it, from raw clips to features and logits. `mamp` writes the weights alone.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from igm_jax import features, progress, run_folder, skeleton
from igm_jax.errors import InputError
from igm_jax.evaluation.head import Head, outputs
from igm_jax.evaluation.run import Run
from igm_jax.models import Hardware
from igm_jax.reading import Reading
from igm_jax.training.mapping import to_mapping

TOLERANCE = 1e-4  # largest difference between exported and original numbers
PLATFORMS = ("cpu", "cuda", "tpu")
_LENGTHS = (1, 7, 60, 301)  # frames of the clips that are checked


def outputs_of_raw(
    clips: Float[Array, "B M t U C"], *, run: Run, head: Head | None = None
) -> dict[str, jax.Array]:
    """`head.outputs` of raw clips, as one function that can be traced for any batch and length.

    Args:
      clips: float32 in the units of the training data, with M = `data.bodies` and the U joints of
        `run.reading.source_layout`; a body is absent if all its coordinates are zero.
      run: the run.
      head: its head; None leaves logits out.

    Returns:
      `features` [B, D] as `encode` of `load_encoder` gives them, and `logits` [B, classes].
    """
    present = (clips != 0).any(axis=(2, 3, 4))
    order = jnp.argsort(~present, axis=1, stable=True)  # those that are there come first
    clips = jnp.take_along_axis(clips, order[:, :, None, None, None], axis=1)
    present = jnp.take_along_axis(present, order, axis=1)
    return outputs(
        run.params,
        None if head is None else head.params,
        _read(clips, present, run.reading),
        present,
        run=run,
        logits=None if head is None else head.logits,
        # On every platform by plain products, none of which depends on a device of this process.
        hardware=Hardware("cpu", whole=False),
    )


def _read(
    clips: Float[Array, "B M t U C"], present: Bool[Array, "B M"], reading: Reading
) -> Float[Array, "B M T V C"]:
    """Does what `resize.resize_clips` does, for lengths that are not known yet."""
    layout, coordinates, frames = reading.layout, reading.coordinates, reading.frames
    length = jnp.asarray(clips.shape[2], jnp.float32)
    position = (jnp.arange(frames, dtype=jnp.float32) + 0.5) * (length / frames) - 0.5
    position = jnp.clip(position, 0, length - 1)
    low = jnp.floor(position)
    high = jnp.minimum(low + 1, length - 1)
    weight = (position - low).reshape(1, 1, -1, 1, 1)
    before, after = (jnp.take(clips, x.astype(jnp.int32), axis=2) for x in (low, high))
    tracks = _mapped(before + (after - before) * weight, reading)
    origin, rotation = skeleton.reference_frame(
        _mapped(clips[:, 0, 0], reading), layout, coordinates
    )
    path = skeleton.moving_origin(origin, tracks[:, 0], layout, coordinates)
    moved = skeleton.in_reference_frame(tracks, path[:, None], rotation[:, None])
    return jnp.where(present[..., None, None, None], moved, 0)


def _mapped(clip: Float[Array, "*batch U C"], reading: Reading) -> Float[Array, "*batch V C"]:
    """Does what `Reading.mapped` does, in full precision on every platform."""
    if reading.joint_map is None:
        return clip
    weights = jnp.asarray(reading.joint_map.weights, clip.dtype)
    return jnp.einsum("vu,...uc->...vc", weights, clip, precision="highest")


def in_float32(run: Run) -> Run:
    """The run, computed in float32. Parameters always are; bfloat16 only rounds what they make."""
    model = run.config.model
    encoder = dataclasses.replace(model.encoder, dtype="float32")
    config = dataclasses.replace(run.config, model=dataclasses.replace(model, encoder=encoder))
    return dataclasses.replace(run, config=config)


def clip_shape(run: Run, batch: Any, length: Any) -> tuple[Any, ...]:
    """Shape [B, M, t, U, C] of the raw clips that the exported function reads."""
    c, reading = run.config.model.encoder, run.reading
    joints = reading.source_layout.num_joints
    return batch, reading.bodies, length, joints, c.channels // len(reading.streams)


def stablehlo(run: Run, head: Head | None = None) -> jax.export.Exported:
    """The encoder as StableHLO for any number of clips of any length.

    Returns:
      What `serialize()` turns into bytes, and `jax.export.deserialize` reads without this library.
      Its `call` maps clips [B, M, t, U, C] float32 to the dictionary of `outputs_of_raw`.
    """
    batch, length = jax.export.symbolic_shape("b, t")
    function = jax.jit(functools.partial(outputs_of_raw, run=run, head=head))
    export = jax.export.export(function, platforms=PLATFORMS)
    return export(jax.ShapeDtypeStruct(clip_shape(run, batch, length), jnp.float32))


def export_stablehlo(run: Run, path: pathlib.Path, head: Head | None = None) -> float:
    """Writes `stablehlo(run, head)` once the bytes give the numbers of the run.

    `facts` goes into a JSON file beside it.

    Returns:
      The largest difference.

    Raises:
      InputError: flatbuffers is not installed, or the difference is above `TOLERANCE`.
    """
    try:
        content = bytes(stablehlo(run, head).serialize())
    except ImportError as error:
        raise not_installed("flatbuffers") from error
    difference = largest_difference(run, head, jax.export.deserialize(bytearray(content)).call)
    run_folder.write_bytes(path, content)
    run_folder.write_json(path.with_name(f"{path.name}.json"), facts(run, head))
    return difference


def not_installed(module: str) -> InputError:
    """The error for a library of the extra `export` that is missing."""
    return InputError(
        f'{module} is not installed, and the extra export has it: pip install "igm_jax[export]"'
    )


def largest_difference(run: Run, head: Head | None, encode: Callable[[np.ndarray], Any]) -> float:
    """Largest difference of features and logits to the run, over random clips of several lengths.

    Args:
      run: the run.
      head: its head, if that is exported.
      encode: the exported function, with the result of `outputs_of_raw`.

    Raises:
      InputError: it is above `TOLERANCE`.
    """
    rng, logits = np.random.default_rng(0), None if head is None else head.logits
    original = jax.jit(functools.partial(outputs, run=run, logits=logits))
    worst = 0.0
    for count, length in enumerate(progress.counted(_LENGTHS, "checks", len(_LENGTHS)), 1):
        clips = rng.normal(size=clip_shape(run, count, length)).astype(np.float32)
        clips[-1, 1:] = 0  # one person alone
        present = (clips != 0).any(axis=(2, 3, 4))
        (batch,) = features.raw_batches(clips, present, run.reading)
        expected = original(run.params, None if head is None else head.params, *batch)
        found = encode(clips)
        for name, values in expected.items():
            worst = max(worst, float(np.abs(np.asarray(found[name]) - values).max()))
    check_difference(run, worst)
    return worst


def check_difference(run: Run, worst: float) -> None:
    """Raises `InputError` for a difference above `TOLERANCE`."""
    if not worst <= TOLERANCE:  # NaN is no agreement
        raise InputError(
            f"{run.folder}: exported features differ by {worst:.2g} from those of the run, more "
            f"than {TOLERANCE:g}: nothing is written"
        )


def facts(run: Run, head: Head | None = None) -> dict[str, Any]:
    """Everything that a reader of the file has to know, as plain JSON types."""
    c = run.config.model.encoder
    names = (
        "frames", "joints", "channels", "patch_frames", "width", "depth", "heads", "mlp_width",
        "stretches", "gelu", "layer_norm_epsilon",
    )  # fmt: skip
    sizes = {name: getattr(c, name) for name in names}
    sizes["patch_joints"] = c.patch_joints or c.joints
    found = {
        "encoder": sizes,
        "reading": run.reading.to_dict(),
        "step": run.step,
        "config": to_mapping(run.config),
        "data": run.data,
    }
    if head is None:
        return found
    names = {"class_names": list(head.class_names), "temperature": head.temperature}
    return found | {"head": names | {"lengths": list(head.lengths)}}
