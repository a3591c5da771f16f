"""Projects joints to the picture plane and finds the visible ones."""

import numpy as np
from jaxtyping import Bool, Float

from igm_jax.errors import InputError
from igm_jax.skeleton import Layout

# Degrees by which the viewer walks around the person; from OBLIQUE, steps forwards show too.
FRONT, SIDE, OBLIQUE = 0.0, 90.0, 30.0


def is_seen(frames: Float[np.ndarray, "M T V C"], layout: Layout) -> Bool[np.ndarray, "M T V"]:
    """Mask of the joints to draw; a joint at exactly zero is missing.

    The layout's origin is drawn if it is zero in the whole clip and other joints are not, because
    the clip was centred on it.
    """
    seen = (frames != 0).any(axis=-1)
    if not seen[:, :, layout.origin].any():
        seen[:, :, layout.origin] = seen.any(axis=-1)
    return seen


def project(
    frames: Float[np.ndarray, "M T V C"],
    layout: Layout,
    units: str,
    yaw: float = FRONT,
    facing: Float[np.ndarray, "M T V C"] | None = None,
) -> Float[np.ndarray, "M T V 3"]:
    """Projects joints to the picture: right, up, and away from the viewer.

    Coordinates that are 2-D, or in pixels, are taken as they are, pixels growing downwards. 3-D
    ones are in the space of the camera that recorded them (y up, z away from it, x to its left);
    they are turned around the vertical until the picture shows the first body from the front on
    average, or two bodies with the first on the left and the second on the right.

    Args:
      frames: a clip's coordinates.
      layout: what the V joints are.
      units: unit of the coordinates.
      yaw: degrees by which the viewer then walks around them: 90 is the person's right side.
      facing: the clip that decides the turn; by default this one. Clips that are compared are seen
        from one side.

    Returns:
      Picture coordinates in the units of the clip; NaN where a joint is missing.

    Raises:
      InputError: the joints have one coordinate only.
    """
    channels = frames.shape[-1]
    if channels < 2:
        raise InputError(f"joints of {channels} coordinate cannot be drawn: 2 or 3 are needed")
    seen = is_seen(frames, layout)
    frames = frames.astype(np.float64)
    if is_flat(channels, units):
        up = -1.0 if units == "pixels" else 1.0
        flat = np.stack([frames[..., 0], up * frames[..., 1], np.zeros(frames.shape[:-1])], axis=-1)
        return np.where(seen[..., None], flat, np.nan)
    x, y, z = np.moveaxis(frames[..., :3], -1, 0)
    turned = frames if facing is None else facing.astype(np.float64)
    cosine, sine = _heading(turned, is_seen(turned, layout), layout)
    x, z = cosine * x + sine * z, -sine * x + cosine * z
    cosine, sine = np.cos(np.radians(yaw)), np.sin(np.radians(yaw))
    x, z = cosine * x + sine * z, -sine * x + cosine * z
    # A viewer who looks along z, with y up, has x on the left.
    return np.where(seen[..., None], np.stack([-x, y, z], axis=-1), np.nan)


def is_flat(channels: int, units: str) -> bool:
    """Whether clips of these coordinates are flat and have only one view."""
    return channels == 2 or units == "pixels"  # a third number beside pixels is a confidence


def _heading(frames: np.ndarray, seen: np.ndarray, layout: Layout) -> tuple[float, float]:
    """Cosine and sine of the turn that puts the person's right (or the first body) along x."""
    across = np.zeros(3)
    if len(frames) > 1:
        both = seen[0, :, layout.origin] & seen[1, :, layout.origin]
        across = (frames[0] - frames[1])[both, layout.origin, :3].sum(axis=0)
    if layout.axes and np.hypot(across[0], across[2]) == 0:
        left, right = layout.axes[2:]
        both = seen[0, :, left] & seen[0, :, right]
        across = (frames[0, :, right] - frames[0, :, left])[both, :3].sum(axis=0)
    length = np.hypot(across[0], across[2])
    return (across[0] / length, across[2] / length) if length > 1e-9 else (1.0, 0.0)
