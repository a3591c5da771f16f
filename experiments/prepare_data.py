"""Converts raw skeletons to a store for the other commands.

python experiments/prepare_data.py --dataset=synthetic
python experiments/prepare_data.py --dataset=nw_ucla --source=FOLDER
python experiments/prepare_data.py --dataset=ntu60 --source=FOLDER_OR_ZIP
python experiments/prepare_data.py --dataset=pyskl_pkl --source=FILE.pkl --split=train1
python experiments/prepare_data.py --dataset=custom --source=FOLDER --out=data/mine

The same command resumes an interrupted one. Damaged clips are left out and listed. For own data,
the next command has flags that fit the clips, and the lines above it say why.
"""

import os
import time

import _clone  # noqa: F401
from absl import flags

from igm_jax import cli, progress, shell
from igm_jax.data import BadClip, SkeletonStore, protocols, summary, synthetic
from igm_jax.data.formats import custom, pyskl_pkl
from igm_jax.data.formats.prepare import prepare_store
from igm_jax.data.formats.sources import FORMATS
from igm_jax.data.raw import RawData
from igm_jax.data.remarks import remarks
from igm_jax.data.suggest import OWN_DATA, suggest
from igm_jax.errors import InputError

_DATASET = flags.DEFINE_string("dataset", None, f"Prepare this data set: {', '.join(FORMATS)}.")
_SOURCE = flags.DEFINE_string(
    "source", None, "Read the raw data from this folder, archive or file."
)
_OUT = flags.DEFINE_string("out", None, "Write the store to this folder. Default: data/DATASET.")
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replace an existing store.")
_STRICT = flags.DEFINE_bool(
    "strict", False, "Stop at the first damaged clip instead of leaving it out."
)
_CLEANING = flags.DEFINE_list(
    "cleaning",
    None,
    "Apply these cleaning steps in this order, or none. Default: those of the data set.",
)
_SPLIT = flags.DEFINE_string(
    "split", None, "pyskl_pkl: train on this list of the file, such as xsub_train."
)
_MIN_SCORE = flags.DEFINE_float(
    "min_score",
    None,
    "pyskl_pkl and custom: a joint whose confidence score is lower counts as missing and is filled "
    "in; a score of 0 always does. Default: 0.",
)
_LIMIT = flags.DEFINE_integer(
    "limit", None, "Read only this many files, sampled from the whole source, for a trial."
)
_WORKERS = flags.DEFINE_integer(
    "workers",
    None,
    "Read with this many processes. Default: chosen by CPUs and files.",
    lower_bound=1,
)
_NUM_CLIPS = flags.DEFINE_integer("num_clips", 5000, "synthetic: generate this many clips.")
_SEED = flags.DEFINE_integer(
    "seed", 0, "synthetic: generate the data set of this seed.", lower_bound=0
)

_PARTS_A_WORKER = 2000  # with fewer parts, another process is slower than none
_NAMED = 20  # of the clips that were left out; meta.json names all


def find(dataset: str | None, source: str | None) -> tuple[RawData, str]:
    """Finds the raw data set of the flags; returns it with a description of its source.

    Raises:
      InputError: unknown data set or step, or a source that is missing or unusable.
    """
    if dataset not in FORMATS:
        problem = f"--dataset={dataset} is unknown" if dataset else "--dataset is missing"
        raise InputError(f"{problem}: choose one of {', '.join(FORMATS)}")
    module, options = FORMATS[dataset], {}
    if _CLEANING.value is not None:
        if not hasattr(module, "CLEANING"):
            raise InputError(f"--cleaning: {dataset} has no steps to choose: leave the flag out")
        options["cleaning"] = [step for step in _CLEANING.value if step != "none"]
    if _SPLIT.value is not None:
        if module is not pyskl_pkl:
            raise InputError(f"--split: {dataset} has no lists to choose from: leave the flag out")
        options["split"] = _SPLIT.value
    if _MIN_SCORE.value is not None:
        if module not in (pyskl_pkl, custom):
            raise InputError(f"--min_score: {dataset} has no scores: leave the flag out")
        options["min_score"] = _MIN_SCORE.value
    for flag in (_NUM_CLIPS, _SEED):
        if flag.present and module is not synthetic:
            raise InputError(f"--{flag.name}: {dataset} is not generated: leave the flag out")
    if module is synthetic:
        if source is not None:
            raise InputError(f"--source={source}: the synthetic data has none: leave the flag out")
        seed = _SEED.value
        return synthetic.generate(_NUM_CLIPS.value, seed), f"igm_jax.data.synthetic, seed {seed}"
    if source is None:
        raise InputError(f"--source is missing: {module.HOW_TO_GET}")
    return module.read(source, **options), source


def report(store: SkeletonStore, skipped: list[BadClip], seconds: float, config: str) -> str:
    """Text that describes the store and the next command."""
    facts = store.summary()
    shortest, median, longest = facts["length"]
    bodies = "1 body" if facts["max_bodies"] == 1 else f"{facts['max_bodies']} bodies"
    lines = [f"skipped {bad.name}: {bad.reason}" for bad in skipped[:_NAMED]]
    if len(skipped) > _NAMED:
        lines.append(f"… and {len(skipped) - _NAMED} more: {store.path / 'meta.json'} names them")
    suggestions = suggest(store) if store.dataset in OWN_DATA else ()
    lines += [
        f"{store.path}: {facts['clips']} clips of {facts['classes']} classes, "
        f"{facts['subjects']} subjects, {facts['cameras']} cameras",
        f"{bodies} at most, {shortest} to {longest} frames (median {median}), "
        f"{facts['bytes'] / 1e6:.1f} MB, {len(skipped)} skipped, {seconds:.1f} s",
        *(f"remark: {remark}" for remark in (*remarks(store), *unjudged(store))),
        *(f"suggested {found.flag}: {found.reason}" for found in suggestions),
        " ".join(
            [
                f"next: python experiments/pretrain.py --config={config}",
                *(found.flag for found in suggestions),
            ]
        ),
    ]
    return "\n".join(lines)


def unjudged(store: SkeletonStore) -> list[str]:
    """A sentence on what probes cannot judge in a run of the next command, if there is anything."""
    protocol = protocol_of(store)
    if problem := protocols.unjudged(store, protocol):
        return [f"a run can train, but no probe can judge it: {problem}"]
    note = protocols.note(store, protocol)
    return [f"protocol {protocol}: {note}"] if note else []


def protocol_of(store: SkeletonStore) -> str:
    """The first protocol that a run can train and validate on, or else the first of all."""
    usable = [row["protocol"] for row in summary.usable_parts(store)]
    return [*usable, *protocols.PROTOCOLS[store.dataset]][0]


def variant(store: SkeletonStore) -> str:
    """Suffix of the config that selects a protocol for which the store has columns."""
    chosen = protocol_of(store)
    return "" if chosen == next(iter(protocols.PROTOCOLS[store.dataset])) else f":{chosen}"


def main() -> None:
    """Reads the flags, writes the store and prints a report."""
    started = time.perf_counter()
    raw, source = find(_DATASET.value, _SOURCE.value)
    if _LIMIT.value is not None:
        raw = raw.limited(_LIMIT.value)
    out = _OUT.value or f"data/{_DATASET.value}"
    done = 0
    with progress.bar(out, len(raw)) as advance:

        def finished(parts: int) -> None:
            nonlocal done
            advance(parts - done)
            done = parts

        skipped = prepare_store(
            out,
            raw,
            source=source,
            overwrite=_OVERWRITE.value,
            on_bad="refuse" if _STRICT.value else "skip",
            workers=_WORKERS.value or min(os.cpu_count(), 1 + len(raw) // _PARTS_A_WORKER),
            progress=finished,
        )
    store = SkeletonStore.open(out)
    config = f"configs/{raw.dataset}.py{variant(store)}"
    if _OUT.value:
        config += f" {shell.quote(f'--config.data.path={out}')}"
    if raw.dataset == custom.DATASET:  # a run folder for each store
        config += f" {shell.quote(f'--config.name={store.path.absolute().name}')}"
    print(report(store, skipped, time.perf_counter() - started, config))


if __name__ == "__main__":
    cli.run(main)
