"""Packing: networks compute the bodies that are present, and no row of an absent one.

A clip of a data set of two bodies has one person in most classes of NTU RGB+D. Its second row
counts in no loss and no feature, yet f and g would compute it. The host lists the rows that are
present, and `blocks.by_rows` gives the networks those alone. Everything else keeps its shape
[B · M], random numbers included, so a packed step is the same step, to rounding.
"""

import dataclasses
import math

import numpy as np
from jaxtyping import Bool, Int

# A batch of an ordinary store holds more bodies than `capacity` once in thousands of steps.
_DEVIATIONS = 3.5


@dataclasses.dataclass(frozen=True)
class Packing:
    """Rows that the networks compute in each step.

    Their number is fixed, so that a run compiles two programs at most: one of `capacity` rows on
    each device, and one of all rows for the rare batch that holds more.

    Attributes:
      capacity: rows on each device, or None to compute all rows always.
      shards: devices that split a batch, in the order of its clips.
    """

    capacity: int | None
    shards: int = 1

    @classmethod
    def of(
        cls, bodies: Int[np.ndarray, " clips"], most: int, clips: int, shards: int, parts: int
    ) -> "Packing":
        """Chooses the capacity: mean and 3.5 standard deviations of the bodies in a batch.

        Args:
          bodies: of each clip of the data.
          most: M, bodies that are read of a clip at most.
          clips: B, clips in a batch over all shards.
          shards: devices that split it.
          parts: micro-batches on each, which the capacity has to be a multiple of.

        >>> Packing.of(np.array([1, 1, 1, 2]), most=2, clips=128, shards=1, parts=1).capacity
        184
        """
        count, bodies = clips // shards, np.minimum(bodies, most)
        expected = count * bodies.mean() + _DEVIATIONS * math.sqrt(count) * bodies.std()
        step = math.lcm(parts, 8 if count * most >= 64 else 1)  # matrix units prefer multiples of 8
        capacity = math.ceil(expected / step) * step
        return cls(capacity if capacity < count * most else None, shards)

    def rows(self, present: Bool[np.ndarray, "B M"]) -> Int[np.ndarray, " R"] | None:
        """Lists the rows to compute; None means all of them.

        Args:
          present: [B, M] of the whole batch.

        Returns:
          [shards · capacity] int32, for each shard distinct rows among its own B · M / shards.
          Those of the bodies that are present come first. Absent ones fill the rest.
        """
        if self.capacity is None:
            return None
        by_shard = present.reshape(self.shards, -1)
        if by_shard.sum(axis=1).max() > self.capacity:
            return None
        order = np.argsort(~by_shard, axis=1, kind="stable")
        return order[:, : self.capacity].astype(np.int32).reshape(-1)
