"""Folders of own clips for the tests: a layout, and helpers that write and read them."""

import csv
import io

import numpy as np

from igm_jax.data.formats import custom
from igm_jax.data.store import BadClip

LAYOUT = {
    "name": "three",
    "joints": ["hip", "left hand", "right hand"],
    "parents": [None, 0, "hip"],
}
FRAMES = np.random.default_rng(0).normal(size=(5, 3, 2)).astype(np.float32)


def npy(array=FRAMES):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def put_csv(path, frames=FRAMES, header=None):
    with open(path, "w", encoding="utf-8", newline="") as file:
        rows = frames.reshape(len(frames), -1).tolist()
        csv.writer(file).writerows([header, *rows] if header else rows)


def table(folder, *lines):
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")


def only(folder):
    (clip,) = custom.read(folder)
    return clip


def reasons(folder):
    return {bad.name: bad.reason for bad in custom.read(folder) if isinstance(bad, BadClip)}
