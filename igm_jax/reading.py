"""How f reads a clip: from joint coordinates to standardised streams."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from igm_jax import skeleton
from igm_jax.arguments import Array
from igm_jax.joint_map import JointMap


@dataclasses.dataclass(frozen=True)
class Reading:
    """How f reads a clip; made once from the config and the data, and saved with every run.

    The host resizes clips to `frames` frames of `bodies` bodies in `coordinates`
    (`igm_jax.data.pipeline`, `igm_jax.data.resize`). A call then makes the streams on the device.

    Attributes:
      layout: the joint layout, which defines the bone stream.
      coordinates: frame of reference, of `igm_jax.skeleton.COORDINATES`.
      frames: T.
      bodies: M; the first M bodies of a clip are read, absent ones are zero.
      streams: of `igm_jax.skeleton.STREAMS`, side by side as channels.
      mean: C · S means over the training split; empty until they are known.
      std: C · S standard deviations, all > 0; empty until they are known.
      joint_map: for clips of another layout than `layout`, the way from theirs to it.
    """

    layout: skeleton.Layout
    coordinates: str
    frames: int
    bodies: int
    streams: tuple[str, ...] = ("joint",)
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    joint_map: JointMap | None = None

    def __call__(self, clip: Float[Array, "*batch T V C"]) -> Float[jax.Array, "*batch T V CS"]:
        """Maps joints [..., T, V, C] to standardised streams [..., T, V, C · S]."""
        clip = skeleton.concat_streams(clip, self.layout, self.streams)
        shape = (1,) * (clip.ndim - 1) + (-1,)
        mean, std = (jnp.asarray(x, jnp.float32).reshape(shape) for x in (self.mean, self.std))
        # NumPy's types do not say that JAX's operators come before its own.
        return ((clip - mean) / std).astype(jnp.float32)  # pyright: ignore[reportReturnType]

    @property
    def source_layout(self) -> skeleton.Layout:
        """Layout of the clips that are given: that of the map's source, or `layout` without one."""
        return self.layout if self.joint_map is None else self.joint_map.source

    def mapped(self, clip: Float[np.ndarray, "*batch U C"]) -> Float[np.ndarray, "*batch V C"]:
        """Joints of a stored clip [..., U, C] as joints of `layout` [..., V, C]."""
        return clip if self.joint_map is None else self.joint_map(clip)

    def standardised(
        self, mean: Float[np.ndarray, " CS"], std: Float[np.ndarray, " CS"]
    ) -> "Reading":
        """The same reading with these statistics; a constant coordinate stays zero, not NaN."""
        std = np.where(std > 0, std, 1.0)
        return dataclasses.replace(self, mean=tuple(map(float, mean)), std=tuple(map(float, std)))

    def units(self, of_data: str) -> str:
        """Units of clips in `coordinates`: a 2-D posture is divided by the size of the body.

        Args:
          of_data: units of the data.
        """
        in_plane = len(self.mean) == 2 * len(self.streams)
        return "body sizes" if self.coordinates == "posture" and in_plane else of_data

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; `from_dict` is the inverse."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        lists = {name: list(x) for name, x in fields.items() if isinstance(x, tuple)}
        joints = {"joint_map": self.joint_map.to_dict()} if self.joint_map else {}
        del fields["joint_map"]
        return fields | lists | {"layout": self.layout.to_dict(), **joints}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Reading":
        """Inverse of `to_dict`, also for values read from JSON."""
        tuples = {name: tuple(values[name]) for name in ("streams", "mean", "std")}
        layout = skeleton.Layout.from_dict(values["layout"])
        joints = values.get("joint_map")
        joint_map = None if joints is None else JointMap.from_dict(joints)
        return cls(**{**values, **tuples, "layout": layout, "joint_map": joint_map})
