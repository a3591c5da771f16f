"""The flags `--files` and `--skip`, which embed.py and predict.py share."""

import sys
from collections.abc import Callable, Iterator

import _clone  # noqa: F401
from absl import flags

from igm_jax import progress
from igm_jax.data import BadClip, Clip
from igm_jax.data.formats import raw_files
from igm_jax.errors import InputError
from igm_jax.evaluation.embed import check_units
from igm_jax.evaluation.run import Run

FILES = flags.DEFINE_list("files", [], "Read these files, stores or folders.")
SKIP = flags.DEFINE_bool("skip", False, "Leave out clips that cannot be read, and list them.")


def clips(run: Run, check: Callable[[Clip], None] = lambda _: None) -> Iterator[Clip]:
    """Yields the clips of the files that the run can read.

    Args:
      run: the run.
      check: raises `InputError` for a clip that the command cannot use.

    Raises:
      InputError: no file is given, or no clip can be read; without `--skip` also for the first clip
        that cannot be read or used, and names it.
    """
    if not FILES.value:
        raise InputError("no file is given: name files, stores or folders behind the run")
    found, skipped = False, _name if SKIP.value else None

    def problem(clip: Clip) -> str:
        try:
            check_readable(run, clip)
            check(clip)
        except InputError as error:
            return str(error).removeprefix(f"{clip.name}: ")
        return ""

    read = raw_files.read_clips(FILES.value, run.reading.source_layout, skipped, problem)
    for clip in progress.counted(read, "clips", raw_files.count_clips(FILES.value)):
        found = True
        yield clip
    if not found:
        raise InputError(f"{', '.join(FILES.value)}: no clip can be read")


def check_readable(run: Run, clip: Clip) -> None:
    """Raises `InputError` for a clip of other coordinates or units, with a gap, or of nobody."""
    channels, given = run.config.model.encoder.channels // len(run.reading.streams), clip.frames
    if given.shape[-1] != channels:
        raise InputError(
            f"has {given.shape[-1]} coordinates for each joint, and the run reads {channels}: give "
            "clips with as many"
        )
    check_units(run, clip)


def _name(path: str, clip: BadClip) -> None:
    print(f"skipped {path}: {clip.reason}", file=sys.stderr)
