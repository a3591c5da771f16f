"""A `.skeleton` reader of the usual kind, line by line into dicts: what ours is measured against.

Written from the description of the format, see `igm_jax.data.formats.ntu_text`. It believes what it
reads, as such readers do: what is damaged ends in some Python error or is not noticed.
"""

import dataclasses
import io
from typing import Any

import numpy as np

from igm_jax.data.formats.ntu_text import Recording

_BODY = (
    "body_id", "clipped_edges", "hand_left_confidence", "hand_left_state", "hand_right_confidence",
    "hand_right_state", "is_restricted", "lean_x", "lean_y", "tracking_state",
)  # fmt: skip
_JOINT = (
    "x", "y", "z", "depth_x", "depth_y", "color_x", "color_y", "orientation_w", "orientation_x",
    "orientation_y", "orientation_z", "tracking_state",
)  # fmt: skip


def read(text: bytes) -> list[list[dict[str, Any]]]:
    """The bodies of each frame: a dict of the fields in a body's line, and its `joints`, dicts too.

    Raises:
      ValueError: something is no number.
    """
    file = io.TextIOWrapper(io.BytesIO(text), encoding="ascii")  # as `open` gives it
    frames = []
    for _ in range(int(file.readline())):
        bodies = []
        for _ in range(int(file.readline())):
            fields = file.readline().split()
            body = {"body_id": int(fields[0])}  # too long for a float
            body.update((key, float(value)) for key, value in zip(_BODY[1:], fields[1:]))
            body["joints"] = []
            for _ in range(int(file.readline())):
                fields = file.readline().split()
                body["joints"].append({key: float(value) for key, value in zip(_JOINT, fields)})
            bodies.append(body)
        frames.append(bodies)
    return frames


def recording(frames: list[list[dict[str, Any]]]) -> Recording:
    """What `read` found, as `ntu_text.parse` gives it."""
    rows = [(t, body) for t, bodies in enumerate(frames) for body in bodies]
    joints = [[[j["x"], j["y"], j["z"]] for j in body["joints"]] for _, body in rows]
    tracking = [[j["tracking_state"] for j in body["joints"]] for _, body in rows]
    return Recording(
        len(frames),
        np.array([t for t, _ in rows], int),
        np.array([body["body_id"] for _, body in rows], int),
        np.array(joints, np.float64).reshape(-1, 25, 3).astype(np.float32),
        np.array(tracking, np.uint8).reshape(-1, 25),
    )


def same(a: Recording, b: Recording) -> bool:
    """Whether all there is to two recordings is equal, bit for bit."""
    pairs = [[np.asarray(getattr(r, f.name)) for r in (a, b)] for f in dataclasses.fields(a)]
    return all(x.dtype == y.dtype and np.array_equal(x, y) for x, y in pairs)
