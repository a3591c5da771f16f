"""Writes a folder of clips as a user would have it: `python benchmarks/own_data.py --out=FOLDER`.

The folder takes the way of docs/own_data.md, so it tests the whole path for own data: the reader,
the suggested preset and `configs/custom.py`. Its people, twelve actions, 20 frames a second and 17
joints occur in no data set that a setting of this library was chosen on. docs/experiments.md, 27,
has the accuracies.

`--kind=3d`: joints in metres, smaller people, two cameras.
`--kind=2d`: image points in pixels, one camera.
"""

import csv
import json
import pathlib
from collections.abc import Iterator

import _clone  # noqa: F401
import numpy as np
from absl import flags
from jaxtyping import Float

from igm_jax import cli
from igm_jax.data import synthetic
from igm_jax.data.synthetic import Take

_OUT = flags.DEFINE_string("out", None, "Write the clips to this folder.")
_KIND = flags.DEFINE_enum("kind", "3d", ["3d", "2d"], "Write joints in space or in an image.")
_CLIPS = flags.DEFINE_integer("clips", 600, "Write this many clips.", lower_bound=1)
_SEED = flags.DEFINE_integer("seed", 1000, "Draw people and performances by this seed.")

# Joints of NTU RGB+D, without hands, feet and thumbs.
_KEPT = (0, 1, 20, 2, 3, 4, 5, 6, 8, 9, 10, 12, 13, 14, 16, 17, 18)
_JOINTS = [synthetic.LAYOUT.joints[j] for j in _KEPT]
_ACTIONS = (
    "drink", "scratch the head", "beckon", "pick up", "put down", "sit down", "stand up", "throw",
    "clap", "wave", "kick", "squat",
)  # fmt: skip
_CAMERAS = {"3d": (1, 3), "2d": (2,)}
_SIZE = 0.8  # of the people, relative to the synthetic data set
_RATE = 20 / 30  # frames a second, relative to the synthetic data set
_FOCAL, _CENTRE = 1000.0, (640.0, 360.0)  # of the camera in pixels


def layout(kind: str) -> dict:
    """Content of layout.json, as docs/own_data.md describes it."""
    everyone = synthetic.LAYOUT
    content = {
        "name": f"own17-{kind}",
        "joints": _JOINTS,
        "parents": [_kept_parent(j) for j in _KEPT],
        "pairs": [
            [everyone.joints[a], everyone.joints[b]]
            for a, b in everyone.pairs
            if a in _KEPT and b in _KEPT
        ],
        "origin": "base of spine",
        "units": "metres" if kind == "3d" else "pixels",
    }
    if kind == "3d":
        content["axes"] = ["base of spine", "spine at shoulders", "left hip", "right hip"]
    return content


def _kept_parent(joint: int) -> str | None:
    parent = synthetic.LAYOUT.parents[joint]
    return None if parent == -1 else synthetic.LAYOUT.joints[parent]


def takes(kind: str, count: int) -> Iterator[Take]:
    """The first `count` takes of the chosen actions and cameras."""
    index = 0
    while count:
        take = Take(index)
        index += 1
        if synthetic.CLASS_NAMES[take.label] in _ACTIONS and take.camera in _CAMERAS[kind]:
            count -= 1
            yield take


def clip(take: Take, kind: str, seed: int) -> Float[np.ndarray, "T 17 C"]:
    """One clip with noise: metres in camera space, or pixels with y downwards."""
    world = synthetic.perform(take, seed)[:1] * _SIZE
    frames = synthetic.film(world, take, seed)[0][:, _KEPT]
    frames = _resampled(frames)
    rng = np.random.default_rng((seed, take.index))
    if kind == "3d":
        return (frames + rng.normal(scale=0.01, size=frames.shape)).astype(np.float32)
    points = _FOCAL * frames[..., :2] / frames[..., 2:] * (1, -1) + _CENTRE
    return (points + rng.normal(scale=3.0, size=points.shape)).astype(np.float32)


def _resampled(frames: Float[np.ndarray, "T V C"]) -> Float[np.ndarray, "T2 V C"]:
    """The clip at `_RATE` times as many frames a second, by linear interpolation."""
    last = len(frames) - 1
    position = np.arange(0, last, 1 / _RATE)
    before = np.floor(position).astype(int)
    weight = (position - before)[:, None, None]
    return frames[before] * (1 - weight) + frames[np.minimum(before + 1, last)] * weight


def write(folder: pathlib.Path, kind: str, count: int, seed: int) -> int:
    """Writes clips, layout.json and labels.csv; returns the number of clips."""
    rows = []
    for take in takes(kind, count):
        action = synthetic.CLASS_NAMES[take.label]
        path = folder / action / f"{take.name}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, clip(take, kind, seed))
        rows.append([f"{action}/{take.name}", action, take.subject, take.camera])
    text = json.dumps(layout(kind), indent=1)
    (folder / "layout.json").write_text(text, encoding="utf-8")
    with open(folder / "labels.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["clip", "label", "subject", "camera"], *rows])
    return len(rows)


def main() -> None:
    """Reads the flags and writes the folder."""
    folder = pathlib.Path(_OUT.value or f"own_{_KIND.value}")
    count = write(folder, _KIND.value, _CLIPS.value, _SEED.value)
    print(f"{folder}: {count} clips")


if __name__ == "__main__":
    cli.run(main)
