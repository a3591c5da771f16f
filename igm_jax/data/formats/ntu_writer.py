"""Writes realistic NTU RGB+D files from known clips, to test the reader without a licence.

`write` makes the files, and preparing them must return the clips. The files have all the
faults that the cleaning removes.
"""

import dataclasses
import pathlib
import zipfile
from collections.abc import Iterable

import numpy as np
from jaxtyping import Float

from igm_jax.data.formats.ntu_text import INFERRED, NOT_TRACKED, Recording, format_recording, record
from igm_jax.data.store import Clip

_GLITCH = 11  # frames; one more and it would count as a person
_LOST = 0.05  # of the joints are inferred or not tracked


def write(
    target: pathlib.Path, clips: Iterable[Clip], *, seed: int = 0, digits: int = 7
) -> pathlib.Path:
    """Writes a `.skeleton` file a clip, every second one with CRLF at the ends of its lines.

    Args:
      target: a folder, or the archive to make if its name ends in `.zip`.
      clips: of the layout NTU25, named SsssCcccPpppRrrrAaaa as the synthetic ones are.
      seed: of the troubles that each recording gets, see `disturbed`.
      digits: significant digits of each number; 7 as in the genuine files, 9 keep a float32.

    Returns:
      `target`.
    """
    rng = np.random.default_rng(seed)

    def texts() -> Iterable[tuple[str, bytes]]:
        for i, clip in enumerate(clips):
            recording = disturbed(clip.frames, rng)
            text = format_recording(recording, digits=digits, crlf=i % 2 == 1)
            yield f"{clip.name}.skeleton", text

    if target.suffix == ".zip":
        target.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, text in texts():
                archive.writestr(f"nturgb+d_skeletons/{name}", text)
    else:
        target.mkdir(parents=True, exist_ok=True)
        for name, text in texts():
            (target / name).write_bytes(text)
    return target


def disturbed(people: Float[np.ndarray, "M T 25 3"], rng: np.random.Generator) -> Recording:
    """Makes a recording of these people with typical faults of the sensor.

    A table all the time, a glitch of 11 frames, nobody in three frames at first and one later, a
    new ID for whoever is alone, and joints whose place was inferred or not tracked.
    """
    length = people.shape[1]
    table = rng.uniform(-1, 1, (25, 3)) * [0.9, 0.25, 0.3] + rng.uniform(-1, 1, 3) + [0, 0, 3]
    noise = np.broadcast_to(table, (1, length, 25, 3))
    recording = record(np.concatenate([people, noise, people[:1] + 1]))
    bodies = np.unique(recording.body)
    recording = recording.take((recording.body != bodies[-1]) | (recording.frame < _GLITCH))
    second_half = recording.frame >= length // 2
    renamed = second_half & (recording.body == bodies[0]) & (len(people) == 1)
    lost = rng.random(recording.tracking.shape) < _LOST
    states = rng.choice(np.array([NOT_TRACKED, INFERRED], np.uint8), lost.shape)
    return dataclasses.replace(
        recording,
        num_frames=length + 4,
        frame=recording.frame + 3 + second_half,
        body=recording.body + 50 * renamed,
        tracking=np.where(lost, states, recording.tracking),
    )


def expected(clip: Clip) -> Clip:
    """The clip as read back: the actor first, its mid spine at zero in the first frame."""
    movement = clip.frames.astype(np.float64).var(axis=(1, 2)).sum(-1)
    frames = clip.frames[np.argsort(-movement)]
    return dataclasses.replace(clip, frames=frames - frames[0, 0, 1])
