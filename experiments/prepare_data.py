"""Turns raw skeletons into a store that the other commands read.

python experiments/prepare_data.py --dataset=synthetic
python experiments/prepare_data.py --dataset=nw_ucla --source=FOLDER
python experiments/prepare_data.py --dataset=ntu60 --source=FOLDER_OR_ZIP --on_bad=skip
"""

import pathlib
import sys
import time
from collections.abc import Iterator

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))  # works uninstalled too

from absl import flags

from igm_jax import cli
from igm_jax.data import BadClip, Clip, SkeletonStore, synthetic
from igm_jax.data.sources import FORMATS
from igm_jax.errors import InputError

_DATASET = flags.DEFINE_string("dataset", None, f"What to prepare: {', '.join(FORMATS)}.")
_SOURCE = flags.DEFINE_string("source", None, "Folder or archive of the raw data.")
_OUT = flags.DEFINE_string("out", None, "The store to make. Default: data/DATASET.")
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replace a store that is there already.")
_ON_BAD = flags.DEFINE_enum(
    "on_bad", "refuse", ["refuse", "skip"], "Stop at a damaged clip, or leave it out and name it."
)
_NUM_CLIPS = flags.DEFINE_integer("num_clips", 5000, "synthetic: how many clips to make.")
_SEED = flags.DEFINE_integer("seed", 0, "synthetic: which of the endless many data sets.")


def read(
    dataset: str | None, source: str | None, num_clips: int, seed: int
) -> tuple[Iterator[Clip | BadClip], str]:
    """The clips of a data set, and where they come from in words.

    Raises:
      InputError: unknown data set, or a source that is missing or unusable.
    """
    if dataset not in FORMATS:
        problem = f"--dataset={dataset} is unknown" if dataset else "--dataset is missing"
        raise InputError(f"{problem}: choose one of {', '.join(FORMATS)}")
    if dataset == synthetic.DATASET:
        if source is not None:
            raise InputError(f"--source={source}: the synthetic data has none: leave the flag out")
        return synthetic.generate(num_clips, seed), f"igm_jax.data.synthetic, seed {seed}"
    if source is None:
        raise InputError(f"--source is missing: {FORMATS[dataset].HOW_TO_GET}")
    return FORMATS[dataset].read(source), source


def report(store: SkeletonStore, skipped: list[BadClip], seconds: float, config: str) -> str:
    """What was written, and the command that uses it."""
    facts = store.summary()
    shortest, median, longest = facts["length"]
    lines = [f"skipped {bad.name}: {bad.reason}" for bad in skipped]
    lines += [
        f"{store.path}: {facts['clips']} clips of {facts['classes']} classes, "
        f"{facts['subjects']} subjects, {facts['cameras']} cameras",
        f"{facts['max_bodies']} bodies at most, {shortest} to {longest} frames (median {median}), "
        f"{facts['bytes'] / 1e6:.1f} MB, {len(skipped)} skipped, {seconds:.1f} s",
        f"next: python experiments/pretrain.py --config={config}",
    ]
    return "\n".join(lines)


def main() -> None:
    """Flags, one store, one report."""
    started = time.perf_counter()
    dataset, out = _DATASET.value, _OUT.value or f"data/{_DATASET.value}"
    clips, source = read(dataset, _SOURCE.value, _NUM_CLIPS.value, _SEED.value)
    skipped = SkeletonStore.write(
        out,
        clips,
        layout=FORMATS[dataset].LAYOUT,
        class_names=FORMATS[dataset].CLASS_NAMES,
        source=source,
        dataset=dataset,
        cleaning=getattr(FORMATS[dataset], "CLEANING", ()),
        overwrite=_OVERWRITE.value,
        on_bad=_ON_BAD.value,
    )
    config = f"configs/{dataset}.py" + (f" --config.data.path={out}" if _OUT.value else "")
    print(report(SkeletonStore.open(out), skipped, time.perf_counter() - started, config))


if __name__ == "__main__":
    cli.run(main)
