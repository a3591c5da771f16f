"""Inpainting: which joints and frames are hidden, a guess without a network, and the error."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Float32, Int

from igm_jax import features, skeleton
from igm_jax.data import SkeletonStore
from igm_jax.errors import InputError
from igm_jax.reading import Reading
from igm_jax.training.mapping import nearest


def hidden_part(
    reading: Reading, joints: Sequence[str] = (), frames: tuple[int, int] | None = None
) -> Bool[np.ndarray, "T V"]:
    """Marks what is hidden: joints in all frames, frames of all joints, or joints in frames.

    Args:
      reading: of the run, with its layout and its T frames.
      joints: names of the layout; none means all joints.
      frames: the first frame that is hidden and the first one behind; None means all frames.

    Returns:
      [T, V], True where hidden.

    Raises:
      InputError: an unknown joint (suggests a similar name), an empty range or one outside the
        clip, nothing left to see, or the joint that is the moving origin of the coordinates.
    """
    layout, count = reading.layout, reading.frames
    for name in joints:
        if name not in layout.joints:
            near = nearest(name, layout.joints) or f": it has {', '.join(layout.joints)}"
            raise InputError(f"layout {layout.name} has no joint {name!r}{near}")
    start, stop = (0, count) if frames is None else frames
    if not 0 <= start < stop <= count:
        raise InputError(
            f"hidden frames {start}:{stop} are no range within 0:{count}, the frames that the run "
            "reads: the first must be below the second"
        )
    origin = layout.joints[layout.origin]
    if reading.coordinates == "posture" and origin in joints:
        raise InputError(
            f"{origin!r} cannot be hidden: it is the origin of data.coordinates=posture in every "
            "frame, so its position says nothing; hide other joints"
        )
    hidden = np.zeros((count, layout.num_joints), bool)
    chosen = [layout.joints.index(name) for name in joints] or list(range(layout.num_joints))
    hidden[start:stop, chosen] = True
    if hidden.all():
        raise InputError("all joints are hidden in all frames: leave some joints or frames to see")
    return hidden


def known_streams(hidden: Bool[np.ndarray, "T V"], reading: Reading) -> Bool[np.ndarray, "T V CS"]:
    """Marks the numbers of all streams that no hidden joint has a part in.

    A bone is known if both its ends are, and a motion if both its frames are. So neither tells
    anything of a hidden joint. NaN finds them: the streams spread it to all that it has a part in.
    """
    channels = len(reading.mean) // len(reading.streams)
    marked = np.repeat(np.where(hidden, np.nan, 0.0)[..., None], channels, axis=-1)
    return ~np.isnan(skeleton.concat_streams(marked, reading.layout, reading.streams))


def mean_pose(
    store: SkeletonStore, indices: Int[np.ndarray, " clips"], reading: Reading
) -> Float32[np.ndarray, "V C"]:
    """Mean of each joint over the frames and bodies of clips, in the coordinates of the run."""
    total, count = np.zeros(()), 0
    for clip, present in features.clip_batches(store, indices, reading):
        frames = clip[present].reshape(-1, *clip.shape[-2:])
        total, count = total + frames.sum(axis=0, dtype=np.float64), count + len(frames)
    return np.asarray(total / count, np.float32)


def filled(
    clip: Float32[np.ndarray, "*batch T V C"],
    hidden: Bool[np.ndarray, "T V"],
    pose: Float32[np.ndarray, "V C"],
    layout: skeleton.Layout,
) -> Float32[np.ndarray, "*batch T V C"]:
    """Puts a guess in place of the hidden part: what f reads, and the baseline of inpainting.

    A joint that some frames show is interpolated linearly between them, and stays where it is
    beyond the first and the last. A joint that no frame shows stands beside its neighbours as in
    the mean pose, the mean over those that are known, those next to known ones first.

    Args:
      clip: whose hidden part is not read.
      hidden: of `hidden_part`.
      pose: of `mean_pose`.
      layout: of the joints, whose bones say which are neighbours.
    """
    guess = np.where(hidden[..., None], np.float32(0), clip)
    never = hidden.all(axis=0)
    for j in np.flatnonzero(hidden.any(axis=0) & ~never):
        seen = np.flatnonzero(~hidden[:, j])
        at = [np.interp(np.arange(len(hidden)), seen, one) for one in np.eye(len(seen))]
        guess[..., j, :] = np.einsum("kt,...kc->...tc", np.stack(at), clip[..., seen, j, :])
    missing = set(np.flatnonzero(never).tolist())
    while missing:
        known = [j for j in range(layout.num_joints) if j not in missing]
        beside = {j: [n for n in known if _joined(layout, j, n)] for j in missing}
        ready = {j: others for j, others in beside.items() if others}
        for j, others in (ready or dict.fromkeys(missing, known)).items():
            guess[..., j, :] = (guess[..., others, :] + pose[j] - pose[others]).mean(axis=-2)
            missing.remove(j)
    return np.where(hidden[..., None], guess, clip)


def _joined(layout: skeleton.Layout, a: int, b: int) -> bool:
    return (a, b) in layout.bones or (b, a) in layout.bones


def hidden_error(
    clip: Float[np.ndarray, "B M T V C"],
    real: Float[np.ndarray, "B M T V C"],
    present: Bool[np.ndarray, "B M"],
    hidden: Bool[np.ndarray, "T V"],
) -> float:
    """Mean distance of the hidden joints of present bodies to the real ones, in units of the clips.

    Args:
      clip: inpainted clips; of `Given.placed_back` for the units of the data.
      real: the real clips, likewise.
      present: which bodies are there.
      hidden: of `hidden_part`.
    """
    distance = np.linalg.norm((clip - real)[present], axis=-1)
    return float(distance[:, hidden].mean(dtype=np.float64))
