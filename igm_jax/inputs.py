"""Converts joint coordinates to the standardised streams that f reads."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from igm_jax import skeleton

Array = jax.Array | np.ndarray


@dataclasses.dataclass(frozen=True)
class Inputs:
    """Streams and statistics of the networks' input; saved with every run.

    Attributes:
      layout: the joint layout, which defines the bone stream.
      streams: of `igm_jax.skeleton.STREAMS`, side by side as channels.
      mean: C · S means over the training split.
      std: C · S standard deviations, all > 0.
    """

    layout: skeleton.Layout
    streams: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, clip: Float[Array, "*batch T V C"]) -> Float[jax.Array, "*batch T V CS"]:
        """Maps joints [..., T, V, C], of T frames in their view, to [..., T, V, C · S]."""
        clip = skeleton.concat_streams(clip, self.layout, self.streams)
        shape = (1,) * (clip.ndim - 1) + (-1,)
        mean, std = (jnp.asarray(x, jnp.float32).reshape(shape) for x in (self.mean, self.std))
        return ((clip - mean) / std).astype(jnp.float32)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; `from_dict` is the inverse."""
        return {
            "layout": self.layout.to_dict(),
            "streams": list(self.streams),
            "mean": list(self.mean),
            "std": list(self.std),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Inputs":
        """Inverse of `to_dict`, also for values read from JSON."""
        rest = {name: tuple(values[name]) for name in ("streams", "mean", "std")}
        return cls(layout=skeleton.Layout.from_dict(values["layout"]), **rest)
