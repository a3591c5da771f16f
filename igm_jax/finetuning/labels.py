"""The labelled clips of a part of the data, all or few of them."""

import numpy as np
from jaxtyping import Int

from igm_jax.data import SkeletonStore, protocols
from igm_jax.data.few_labels import few_labels_of_every_class
from igm_jax.errors import InputError
from igm_jax.evaluation.run import Run
from igm_jax.finetuning.loop import Labelled
from igm_jax.run_folder import ALL_LABELS


def labelled(
    run: Run, store: SkeletonStore, part: str, labels: str = ALL_LABELS, subset: int = 0
) -> Labelled:
    """Labelled clips of a part of the run's protocol.

    Args:
      run: says the protocol.
      store: its data.
      part: of `protocols.PARTS`.
      labels: "100%", or a key of `few_labels.SUBSETS`.
      subset: seed of the subset.

    Raises:
      InputError: the part has no label, or the subset has no clip of a class of the part.
    """
    everything, label = with_label(run, store, part), store.clips["label"]
    chosen = everything
    if labels != ALL_LABELS:
        chosen = few_labels_of_every_class(store, run.config.data.protocol, part, labels, subset)
    return Labelled(chosen, label[chosen].astype(np.int32))


def with_label(run: Run, store: SkeletonStore, part: str) -> Int[np.ndarray, " n"]:
    """Positions of the clips of a part that have a label.

    Raises:
      InputError: there is none.
    """
    clips = protocols.split(store, run.config.data.protocol, part)
    clips = clips[store.clips["label"][clips] >= 0]
    if not len(clips):
        raise InputError(
            f"{store.path}: no clip of part {part!r} has a label: classifiers need labels, add some"
        )
    return clips
