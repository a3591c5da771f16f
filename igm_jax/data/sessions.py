"""An order of clips in which those of one recording session follow each other."""

import dataclasses
import functools

import numpy as np
from jaxtyping import Int

from igm_jax.data.store import SkeletonStore

# How `pipeline.train_batches` mixes the clips.
BATCHES = ("mixed", "session")


def session_codes(
    store: SkeletonStore, indices: Int[np.ndarray, " clips"]
) -> Int[np.ndarray, " clips"]:
    """Numbers from 0 on, equal for clips of one subject, camera and setup.

    A column that the source does not have is 0 everywhere, so it separates nothing: without any of
    them all clips are of one session.
    """
    columns = [store.clips[name][indices] for name in ("subject", "camera", "setup")]
    return np.unique(np.stack(columns), axis=1, return_inverse=True)[1].reshape(-1)


@dataclasses.dataclass(frozen=True, eq=False)
class SessionOrder:
    """An endless stream of epochs: sessions in random order, the clips of each in random order.

    Attributes:
      codes: the session of each clip, from `session_codes`.
      seed: of the order.
    """

    codes: Int[np.ndarray, " clips"]
    seed: int

    def __call__(self, positions: Int[np.ndarray, " B"]) -> Int[np.ndarray, " B"]:
        """Places in the endless stream → clips."""
        epochs, places = np.divmod(positions, len(self.codes))
        return np.array([self.epoch(int(e))[p] for e, p in zip(epochs, places)])

    @functools.lru_cache(maxsize=2)  # noqa: B019 — a batch may lie in two epochs; both are kept
    def epoch(self, number: int) -> Int[np.ndarray, " clips"]:
        """All clips, in the order of one epoch."""
        rng = np.random.default_rng((self.seed, number))
        place = rng.permutation(self.codes.max() + 1)[self.codes]
        return np.lexsort((rng.random(len(self.codes)), place))
