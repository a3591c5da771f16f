"""Joint layouts, frames of reference and the three streams.

Everything here is a pure function of arrays `[..., V, C]`; NumPy in gives NumPy out and JAX in
gives JAX out, so the input pipeline (host) and the networks' inputs (device) share one definition.
"""

import dataclasses
import functools
from typing import Any, TypeVar

import jax
import numpy as np
from jaxtyping import Float

from igm_jax.arguments import Array, check_choice, check_floating
from igm_jax.errors import InputError
from igm_jax.precision import EXACT

OneKind = TypeVar("OneKind", bound=Array)  # the library of the argument is that of the result

COORDINATES = ("camera", "centred", "body", "posture")
STREAMS = ("joint", "bone", "motion")


@dataclasses.dataclass(frozen=True)
class Layout:
    """The V joints of a skeleton and their relations.

    Attributes:
      name: short identifier, stored with the data.
      joints: V joint names.
      parents: V indices of the parent joints; a root has its own index or -1.
      pairs: (left, right) joints that mirroring exchanges.
      origin: the joint that all coordinates but `"camera"` move to zero.
      axes: joints (hip centre, shoulder centre, left hip, right hip) that span the body frame, or
        None if the layout has none (then the coordinates `"body"` and `"posture"` are refused).
    """

    name: str
    joints: tuple[str, ...]
    parents: tuple[int, ...]
    pairs: tuple[tuple[int, int], ...] = ()
    origin: int = 0
    axes: tuple[int, int, int, int] | None = None

    def __post_init__(self):
        v = len(self.joints)
        if len(self.parents) != v:
            raise InputError(f"layout {self.name!r}: {v} joints but {len(self.parents)} parents")
        used = [p for p in self.parents if p != -1] + [j for pair in self.pairs for j in pair]
        for j in [*used, self.origin, *(self.axes or ())]:
            if not 0 <= j < v:
                raise InputError(f"layout {self.name!r}: joint index {j} is outside 0..{v - 1}")

    @property
    def num_joints(self) -> int:
        """Number of joints, V."""
        return len(self.joints)

    @property
    def bones(self) -> tuple[tuple[int, int], ...]:
        """(joint, parent) for every joint that has a parent; for drawing."""
        return tuple((j, p) for j, p in enumerate(self.parents) if p not in (-1, j))

    @property
    def body_parts(self) -> tuple[int, ...]:
        """Part of each joint: 0 for the trunk, from 1 on for the limbs.

        A limb holds joints of `pairs` that bones connect, such as an arm. All other joints are the
        trunk. Where the hips hang on the shoulders, as in COCO, the legs begin there: of the long
        branches of a limb, the longest one is a limb of its own.
        """
        paired = {j for pair in self.pairs for j in pair}
        branches = self._branches(paired)

        def top(j: int) -> int:
            parent = self.parents[j]
            joined = parent in paired and parent != j and j not in branches
            return top(parent) if joined else j

        limbs = sorted({top(j) for j in paired})
        return tuple(1 + limbs.index(top(j)) if j in paired else 0 for j in range(self.num_joints))

    def _branches(self, paired: set[int]) -> set[int]:
        """First joints of limbs that hang on another limb."""
        below = {j: [i for i, p in enumerate(self.parents) if p == j != i] for j in paired}

        def depth(j: int) -> int:
            return 1 + max(map(depth, below[j]), default=0) if j in paired else 0

        # A hand may fork into tip and thumb, each one joint long; those stay in the arm.
        long = {j: [i for i in below[j] if depth(i) > 1] for j in paired}
        return {max(found, key=depth) for found in long.values() if len(found) > 1}

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; `from_dict` is the inverse."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Layout":
        """Inverse of `to_dict`, also for values read from JSON."""

        def tuples(v: Any) -> Any:
            return tuple(map(tuples, v)) if isinstance(v, list) else v

        return cls(**{key: tuples(value) for key, value in values.items()})


# Kinect v2, the layout of NTU RGB+D and PKU-MMD. Left and right are the person's own.
NTU25 = Layout(
    name="ntu25",
    joints=(
        "base of spine", "mid spine", "neck", "head",
        "left shoulder", "left elbow", "left wrist", "left hand",
        "right shoulder", "right elbow", "right wrist", "right hand",
        "left hip", "left knee", "left ankle", "left foot",
        "right hip", "right knee", "right ankle", "right foot",
        "spine at shoulders", "left hand tip", "left thumb", "right hand tip", "right thumb",
    ),
    parents=(-1, 0, 20, 2, 20, 4, 5, 6, 20, 8, 9, 10, 0, 12, 13, 14, 0, 16, 17, 18, 1, 7, 7, 11,
             11),
    pairs=((4, 8), (5, 9), (6, 10), (7, 11), (12, 16), (13, 17), (14, 18), (15, 19), (21, 23),
           (22, 24)),
    origin=1,
    axes=(0, 20, 12, 16),
)  # fmt: skip

# Kinect v1, the layout of Northwestern-UCLA.
KINECT20 = Layout(
    name="kinect20",
    joints=(
        "hip centre", "spine", "shoulder centre", "head",
        "left shoulder", "left elbow", "left wrist", "left hand",
        "right shoulder", "right elbow", "right wrist", "right hand",
        "left hip", "left knee", "left ankle", "left foot",
        "right hip", "right knee", "right ankle", "right foot",
    ),
    parents=(-1, 0, 1, 2, 2, 4, 5, 6, 2, 8, 9, 10, 0, 12, 13, 14, 0, 16, 17, 18),
    pairs=((4, 8), (5, 9), (6, 10), (7, 11), (12, 16), (13, 17), (14, 18), (15, 19)),
    origin=0,
    axes=(0, 2, 12, 16),
)  # fmt: skip

# Kinect v1 in the order of UTD-MHAD: the joints of KINECT20, the trunk from the head down.
MHAD20 = Layout(
    name="mhad20",
    joints=(
        "head", "shoulder centre", "spine", "hip centre",
        "left shoulder", "left elbow", "left wrist", "left hand",
        "right shoulder", "right elbow", "right wrist", "right hand",
        "left hip", "left knee", "left ankle", "left foot",
        "right hip", "right knee", "right ankle", "right foot",
    ),
    parents=(1, 2, 3, -1, 1, 4, 5, 6, 1, 8, 9, 10, 3, 12, 13, 14, 3, 16, 17, 18),
    pairs=((4, 8), (5, 9), (6, 10), (7, 11), (12, 16), (13, 17), (14, 18), (15, 19)),
    origin=3,
    axes=(3, 1, 12, 16),
)  # fmt: skip

# COCO, the layout of 2-D pose estimators. The origin is the nose: it alone lies on the body's
# midline, so mirroring leaves it in place.
COCO17 = Layout(
    name="coco17",
    joints=(
        "nose", "left eye", "right eye", "left ear", "right ear",
        "left shoulder", "right shoulder", "left elbow", "right elbow", "left wrist", "right wrist",
        "left hip", "right hip", "left knee", "right knee", "left ankle", "right ankle",
    ),
    parents=(-1, 0, 0, 1, 2, 0, 0, 5, 6, 7, 8, 5, 6, 11, 12, 13, 14),
    pairs=((1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16)),
    origin=0,
)  # fmt: skip


def reference_frame(
    first_frame: Float[Array, "*batch V C"], layout: Layout, coordinates: str
) -> tuple[Float[Array, "*batch 1 C"], Float[Array, "*batch C C"]]:
    """Origin and rotation of the frame of reference that `coordinates` names.

    `"camera"` keeps the coordinates of the camera. `"centred"` moves `layout.origin` of the
    first frame to zero, `"body"` also turns the clip so that the first frame looks along the body's
    own axes: y from hip centre to shoulder centre, x from left hip to right hip (orthogonalised),
    z = x × y. The same transform holds for the whole clip and for all its bodies, so motion and the
    distance between two people survive. `"posture"` is `"body"` with a `moving_origin`. Points of
    an image (C = 2) have no such axes. There `"posture"` divides by the size of the body instead,
    the root mean square distance of its joints from their mean, which removes the distance to the
    camera.

    Args:
      first_frame: joints of the first body in the first valid frame.
      layout: the joint layout; must have `axes` for `"body"`.
      coordinates: one of `COORDINATES`.

    Returns:
      `(origin, rotation)`, the arguments of `in_reference_frame`. A frame whose axes or size
      cannot be formed (hips, spine or body of length zero) gets the identity.

    Raises:
      InputError: unknown coordinates, integers, or a layout or data without a body frame.
    """
    check_floating(first_frame=first_frame)
    xp = first_frame.__array_namespace__()
    channels = first_frame.shape[-1]
    check_choice("coordinates", coordinates, COORDINATES)
    identity = xp.broadcast_to(
        xp.eye(channels, dtype=first_frame.dtype), (*first_frame.shape[:-2], channels, channels)
    )
    origin = first_frame[..., layout.origin : layout.origin + 1, :]
    if coordinates == "camera":
        return xp.zeros_like(origin), identity
    if coordinates == "centred":
        return origin, identity
    # Half precision would turn the clip askew.
    wide = first_frame.astype(xp.result_type(first_frame.dtype, xp.float32))
    if coordinates == "posture" and channels == 2:
        scale = identity / _size(xp, wide)
        return origin, scale.astype(first_frame.dtype)
    if layout.axes is None or channels != 3:
        raise InputError(
            f'coordinates "{coordinates}" need 3-D joints and a layout with axes; {layout.name!r} '
            f'with {channels} channels has none: use coordinates "centred"'
        )
    hip, shoulder, left, right = (wide[..., j, :] for j in layout.axes)
    y, y_length = _unit(xp, shoulder - hip)
    x = right - left
    x, x_length = _unit(xp, x - (x * y).sum(-1, keepdims=True) * y)
    rotation = xp.stack([x, y, xp.linalg.cross(x, y)], axis=-2).astype(first_frame.dtype)
    usable = (x_length > 1e-3) & (y_length > 1e-3)  # metres
    return origin, xp.where(usable[..., None], rotation, identity)


def _size(xp: Any, points: Array) -> Array:
    """Root mean square distance of points [..., V, C] from their mean [..., 1, 1]; 1 if it is 0."""
    centred = points - points.mean(-2, keepdims=True)
    square = (centred * centred).sum(-1, keepdims=True).mean(-2, keepdims=True)
    return xp.sqrt(xp.where(square > 0, square, xp.ones_like(square)))


def moving_origin(
    origin: Float[Array, "*batch 1 C"],
    first_body: Float[Array, "*batch T V C"],
    layout: Layout,
    coordinates: str,
) -> Float[Array, "*batch #T C"]:
    """Origin in each frame: it follows the first body in `"posture"` and is constant otherwise.

    This removes the path of a person and keeps its motion and the distance between two people.
    """
    return first_body[..., layout.origin, :] if coordinates == "posture" else origin


def in_reference_frame(
    clip: Float[Array, "*batch T V C"],
    origin: Float[Array, "*#batch #T C"],
    rotation: Float[Array, "*#batch C C"],
) -> Float[Array, "*batch T V C"]:
    """Coordinates of `clip` in the frame of reference `(origin, rotation)` of `reference_frame`."""
    xp = clip.__array_namespace__()
    matmul = xp.matmul
    if isinstance(clip, jax.Array):  # the default precision of GPU and TPU is too low for metres
        matmul = functools.partial(matmul, precision=EXACT)
    *batch, frames, joints, channels = clip.shape
    # The origin once for each joint, by a product: NumPy is slow at broadcasting along three
    # numbers. All joints of all frames are then turned as one long frame, by one more product.
    copies = xp.tile(xp.eye(channels, dtype=clip.dtype), (1, joints))
    moved = clip.reshape(*batch, frames, joints * channels) - matmul(origin, copies)
    moved = moved.reshape(*batch, frames * joints, channels)
    return matmul(moved, xp.swapaxes(rotation, -1, -2)).reshape(clip.shape)


def from_reference_frame(
    clip: Float[OneKind, "*batch T V C"],
    origin: Float[OneKind, "*#batch #T C"],
    rotation: Float[OneKind, "*#batch C C"],
) -> Float[OneKind, "*batch T V C"]:
    """Inverse of `in_reference_frame`: turns clips back into the coordinates of the camera.

    `rotation` may also be a multiple of one, as points of an image have it.
    """
    xp = clip.__array_namespace__()
    inverse = rotation / (rotation * rotation).sum(-1, keepdims=True)
    matmul = xp.matmul
    if isinstance(clip, jax.Array):
        matmul = functools.partial(matmul, precision=EXACT)
    turned = matmul(clip, inverse[..., None, :, :])
    return turned + origin[..., None, :]


def _unit(xp: Any, v: Array) -> tuple[Array, Array]:
    """v/‖v‖ and ‖v‖; a zero vector stays zero and has a gradient of zero."""
    square = (v * v).sum(-1, keepdims=True)
    is_zero = square == 0
    length = xp.sqrt(xp.where(is_zero, xp.ones_like(square), square))
    return v / length, xp.where(is_zero, xp.zeros_like(length), length)


def bone_stream(clip: Float[Array, "*batch V C"], layout: Layout) -> Float[Array, "*batch V C"]:
    """Bone vectors: each joint minus its parent; zero at the root."""
    parents = np.array([j if p == -1 else p for j, p in enumerate(layout.parents)])
    return clip - clip[..., parents, :]


def motion_stream(clip: Float[OneKind, "*batch T V C"]) -> Float[OneKind, "*batch T V C"]:
    """Differences between frames and their next ones; zero in the last frame, so that T stays."""
    xp = clip.__array_namespace__()
    step = clip[..., 1:, :, :] - clip[..., :-1, :, :]
    return xp.concat([step, xp.zeros_like(clip[..., :1, :, :])], axis=-3)


def select_stream(
    clip: Float[Array, "*batch T V C"], layout: Layout, stream: str
) -> Float[Array, "*batch T V C"]:
    """The clip as `"joint"` coordinates, `"bone"` vectors or `"motion"` vectors.

    Raises:
      InputError: unknown stream.
    """
    check_choice("stream", stream, STREAMS)
    if stream == "bone":
        return bone_stream(clip, layout)
    return motion_stream(clip) if stream == "motion" else clip


def concat_streams(
    clip: Float[OneKind, "*batch T V C"], layout: Layout, streams: tuple[str, ...]
) -> Float[OneKind, "*batch T V CS"]:
    """Joins streams as channels: [..., T, V, C] → [..., T, V, C · S].

    Raises:
      InputError: unknown stream.
    """
    xp = clip.__array_namespace__()
    return xp.concat([select_stream(clip, layout, stream) for stream in streams], axis=-1)
