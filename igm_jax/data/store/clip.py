"""Clips as formats read them and stores give them back."""

import dataclasses

import numpy as np
from jaxtyping import Float


@dataclasses.dataclass(frozen=True, eq=False)
class Clip:
    """One recording, as readers yield it and `store[i]` returns it.

    Attributes:
      name: unique, printable, at most 256 characters.
      frames: float32 joint positions of M bodies in T frames, in the store's units.
      label: class, counted from 0; -1 is unknown.
      subject: number of the person, from 1; 0 is unknown.
      camera: number of the camera, from 1; 0 is unknown.
      setup: number of the recording place, from 1; 0 is unknown.
      split: 1 for training, 2 for test, where the publisher cut the clips; 0 is unknown.
      filled: how many missing places of each joint the reader filled in; empty if none. A store
        keeps the sums, not those of a clip.
    """

    name: str
    frames: Float[np.ndarray, "M T V C"]
    label: int = -1
    subject: int = 0
    camera: int = 0
    setup: int = 0
    split: int = 0
    filled: tuple[int, ...] = ()

    # Arrays are mutable: a class with this method and no `__hash__` of its own has none.
    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Clip):
            return NotImplemented
        return self.facts == other.facts and np.array_equal(self.frames, other.frames)

    @property
    def facts(self) -> tuple[str, int, int, int, int, int]:
        """Who does what: (name, label, subject, camera, setup, split)."""
        return self.name, self.label, self.subject, self.camera, self.setup, self.split


@dataclasses.dataclass(frozen=True)
class BadClip:
    """A clip that cannot be read, with its name; writers refuse it or skip it.

    Attributes:
      name: the clip or its file.
      reason: the fault, with the line or key if there is one.
      published: whether the publisher lists it as bad; then it is left out, never refused.
    """

    name: str
    reason: str
    published: bool = False
