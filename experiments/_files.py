"""The flags `--files` and `--skip`, which embed.py and predict.py share."""

import sys
from collections.abc import Iterator

import _clone  # noqa: F401
from absl import flags

from igm_jax import progress
from igm_jax.data import BadClip, Clip
from igm_jax.data.formats import raw_files
from igm_jax.errors import InputError
from igm_jax.skeleton import Layout

FILES = flags.DEFINE_list("files", [], "Read these files, stores or folders.")
SKIP = flags.DEFINE_bool("skip", False, "Leave out clips that cannot be read, and list them.")


def clips(layout: Layout) -> Iterator[Clip]:
    """Yields the clips of the files.

    Raises:
      InputError: no file is given, or no clip can be read; without `--skip` also for the first clip
        that cannot be read, and names it.
    """
    if not FILES.value:
        raise InputError("no file is given: name files, stores or folders behind the run")
    found, read = False, raw_files.read_clips(FILES.value, layout, _name if SKIP.value else None)
    for clip in progress.counted(read, "clips", raw_files.count_clips(FILES.value)):
        found = True
        yield clip
    if not found:
        raise InputError(f"{', '.join(FILES.value)}: no clip can be read")


def _name(path: str, clip: BadClip) -> None:
    print(f"skipped {path}: {clip.reason}", file=sys.stderr)
