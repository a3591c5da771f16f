"""Generates clips with a run: `python experiments/generate.py RUN`.

It generates a clip from the features of each of `--count` test clips, or of `--clips=NAME,NAME`,
and writes them as a store that the other commands read. DDIM starts from noise and takes `--steps`
steps. `--t=100` instead noises the real clips to step 100 and predicts them in one step.
`--unconditional` generates from noise alone, if the run trained with objective.condition_drop > 0.

`--hide="left hand,left wrist"` hides joints of the clips, `--hide_frames=10:20` hides frames, and
both together hide these joints in these frames. They are generated, and the others are kept. The
command prints how far they are from the real ones. `--t=100` then starts DDIM at step 100.

`--table` measures the quality over t and steps, against held-out real clips, and writes no store.
"""

import dataclasses
import pathlib
import re
import sys
from collections.abc import Iterator
from typing import Any

import _clone  # noqa: F401
import numpy as np
from absl import flags

from igm_jax import cli, run_folder, shell
from igm_jax.data import Clip, SkeletonStore, protocols
from igm_jax.errors import InputError
from igm_jax.evaluation import generation_quality, inpainting, table
from igm_jax.evaluation.generate import LoadedGenerator, generator_of
from igm_jax.evaluation.given import Given, given_of_store
from igm_jax.evaluation.run import load_run, open_store
from igm_jax.reading import Reading

_CLIPS = flags.DEFINE_list("clips", None, "Generate from the features of these clips of the store.")
_COUNT = flags.DEFINE_integer(
    "count", None, "Generate so many clips. Default: 64, and 256 for the table.", lower_bound=1
)
_UNCONDITIONAL = flags.DEFINE_bool("unconditional", False, "Generate from noise alone.")
_HIDE = flags.DEFINE_list("hide", None, "Hide these joints of the run's layout, by name.")
_HIDE_FRAMES = flags.DEFINE_string(
    "hide_frames",
    None,
    "Hide the frames START:STOP, of the T that the run reads, from 0, as in Python.",
)
_T = flags.DEFINE_integer(
    "t",
    None,
    "Predict clips in one step from this step of noise; with --hide or --hide_frames, start DDIM "
    "there.",
)
_STEPS = flags.DEFINE_integer("steps", 50, "Take this many DDIM steps.")
_MASK_RATIO = flags.DEFINE_float(
    "mask_ratio",
    None,
    "Hide this share of the tokens from f, and condition g on the visible ones, as in training. "
    "Default, and with 0: condition on one pooled feature.",
)
_SEED = flags.DEFINE_integer(
    "seed", 0, "Draw noise, masks and test clips by this seed.", lower_bound=0
)
_OUT = flags.DEFINE_string("out", None, "Write the store to this folder. Default: RUN/generated.")
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replace an existing store.")
_TABLE = flags.DEFINE_bool("table", False, "Measure the quality over t and steps.")

place, data = cli.define_run_folder(), cli.define_store()


def chosen(store: SkeletonStore, protocol: str) -> np.ndarray:
    """Positions of the clips whose features condition the generator.

    Raises:
      InputError: no clip has this name; suggests a similar one.
    """
    if _CLIPS.value is None:
        test = protocols.split(store, protocol, "test")
        if (_COUNT.value or 0) > len(test):
            raise InputError(f"--count={_COUNT.value}: {store.path} has {len(test)} test clips")
        count = min(_COUNT.value or 64, len(test))
        return np.sort(np.random.default_rng(_SEED.value).choice(test, count, replace=False))
    return np.array(cli.named_clips(store, _CLIPS.value))


def hidden_by_flags(reading: Reading) -> np.ndarray | None:
    """Marks the joints and frames that the flags hide, [T, V]; None without them.

    Raises:
      InputError: a range that cannot be read, or see `inpainting.hidden_part`.
    """
    if _HIDE.value is None and _HIDE_FRAMES.value is None:
        return None
    if _HIDE.value == []:
        raise InputError("--hide= names no joint: name one of the run's layout, or leave it out")
    span = None
    if _HIDE_FRAMES.value is not None:
        found = re.fullmatch(r"(\d*):(\d*)", _HIDE_FRAMES.value)
        if not found:
            raise InputError(f"--hide_frames={_HIDE_FRAMES.value}: give START:STOP, such as 10:20")
        span = int(found[1] or 0), int(found[2] or reading.frames)
    return inpainting.hidden_part(reading, _HIDE.value or (), span)


def conditioned(
    generator: LoadedGenerator, store: SkeletonStore, hidden: np.ndarray | None
) -> Iterator[Clip]:
    """Clips generated from the features of real ones, with their labels and in their place."""
    run = generator.run
    indices = chosen(store, run.config.data.protocol)
    given = given_of_store(store, indices, run.reading)
    setting = {"mask_ratio": _MASK_RATIO.value, "seed": _SEED.value}
    if hidden is not None:
        clips = inpainted(generator, store, given, hidden, setting)
    elif _T.value is None:
        clips = generator.sample(given, _STEPS.value, **setting)
    else:
        clips = generator.one_step(given, _T.value, **setting)
    for i, clip, present in zip(indices, given.placed_back(clips), given.present):
        real = store[int(i)]
        name = f"generated-{real.name}"[:256]
        yield dataclasses.replace(real, name=name, frames=clip[present])


def inpainted(
    generator: LoadedGenerator,
    store: SkeletonStore,
    given: Given,
    hidden: np.ndarray,
    setting: dict[str, Any],
) -> np.ndarray:
    """Generates the hidden part, and prints its error beside that of the baseline."""
    run = generator.run
    train = protocols.split(store, run.config.data.protocol, "train")
    pose = inpainting.mean_pose(store, train, run.reading)
    clips = generator.inpaint(given, hidden, _STEPS.value, pose=pose, start=_T.value, **setting)
    guess = inpainting.filled(given.clip, hidden, pose, run.reading.layout)
    # In the units of the data, which the coordinates of the run may have scaled.
    real, *found = (given.placed_back(x) for x in (given.clip, clips, guess))
    ours, plain = (inpainting.hidden_error(x, real, given.present, hidden) for x in found)
    how = "linear interpolation in time"
    if hidden.all(axis=0).any():
        how = "the mean training pose beside the joints that are known"
    print(
        f"hidden: {hidden.any(axis=0).sum()} of {hidden.shape[1]} joints in "
        f"{hidden.any(axis=1).sum()} of {hidden.shape[0]} frames; mean error of a hidden joint "
        f"over {len(clips)} clips, in {store.meta['units']}: {ours:.4f}; by {how}: {plain:.4f}"
    )
    return clips


def unconditional(generator: LoadedGenerator) -> Iterator[Clip]:
    """Clips from noise alone, without a label."""
    clips = generator.unconditional(_COUNT.value or 64, _STEPS.value, seed=_SEED.value)
    for i, clip in enumerate(clips):
        yield Clip(f"generated-{i:05d}", clip)


def write(generator: LoadedGenerator, store: SkeletonStore, out: pathlib.Path) -> None:
    """Generates clips and writes their store."""
    run = generator.run
    frame, hidden = "the camera", hidden_by_flags(run.reading)
    units = store.meta["units"]
    if _UNCONDITIONAL.value:
        read = (_T.value, _CLIPS.value, _MASK_RATIO.value, hidden)
        if any(value is not None for value in read):
            raise InputError(
                "--unconditional reads no clip: leave --t, --clips, --mask_ratio and --hide"
            )
        clips, how = unconditional(generator), f"from noise alone, {_STEPS.value} DDIM steps"
        frame = f"data.coordinates={run.reading.coordinates}, which noise cannot undo"
        units = run.reading.units(units)
    else:
        clips, how = conditioned(generator, store, hidden), f"{_STEPS.value} DDIM steps"
        if hidden is not None:
            how += " of the hidden part" + (f" from t={_T.value}" if _T.value is not None else "")
        elif _T.value is not None:
            how = f"one step from t={_T.value}"
        how += ", conditioned on features of real clips"
    source = f"generated by {run.folder}, {run.progress}: {how}, seed {_SEED.value}; in {frame}"
    SkeletonStore.write(
        out,
        clips,
        layout=store.layout,
        class_names=store.class_names,
        source=source,
        dataset=store.dataset,
        units=units,
        overwrite=_OVERWRITE.value,
    )
    written = SkeletonStore.open(out)
    print(
        f"{out}: {len(written)} clips of {run.reading.frames} frames in {units}, "
        f"{how}, in the coordinates of {frame}\n"
        f"next: {shell.command('inspect_data.py', out)}"
    )
    print_advice(generator)


def print_advice(generator: LoadedGenerator) -> None:
    """Says on standard error if the run is one whose clips keep their noise."""
    if generator.advice:
        print(f"note: {generator.advice}", file=sys.stderr)


def check_flags() -> None:
    """Raises `InputError` for flags that would be ignored."""
    writes = (_T, _STEPS, _CLIPS, _UNCONDITIONAL, _HIDE, _HIDE_FRAMES, _OUT, _OVERWRITE)
    ignored = [f"--{flag.name}" for flag in writes if flag.present]
    if _TABLE.value and ignored:
        raise InputError(
            f"--table measures whole clips over t and steps, and writes no store: leave "
            f"{', '.join(ignored)}"
        )
    if _CLIPS.value is not None and _COUNT.value is not None:
        raise InputError(
            f"--count={_COUNT.value} counts test clips, and --clips names clips: give one"
        )
    hides = _HIDE.value is not None or _HIDE_FRAMES.value is not None
    if _STEPS.present and _T.value is not None and not hides:
        raise InputError(f"--t={_T.value} predicts in one step: leave --steps={_STEPS.value}")


def main() -> None:
    """Reads the flags, then writes a store or a table."""
    check_flags()
    run = load_run(*place(), data.value)
    generator, store = generator_of(run), open_store(run)
    if not _TABLE.value:
        write(generator, store, pathlib.Path(_OUT.value or run.folder / "generated"))
        return
    count = generation_quality.clips_in_a_set(store, run.config.data.protocol, _COUNT.value)
    rows = generation_quality.quality_table(
        generator,
        store,
        count=count,
        mask_ratio=_MASK_RATIO.value,
        seed=_SEED.value,
    )
    print(
        f"Generated clips of {run.folder} ({run.config.data.protocol}), {run.progress}; "
        f"{count} test clips in each set\n"
    )
    print(table.markdown_table(rows))
    table.save_rows(run.folder / run_folder.GENERATION, run, rows)
    print_advice(generator)


flags.adopt_module_key_flags(cli)  # for --help


if __name__ == "__main__":
    cli.run(main, argument="run")
