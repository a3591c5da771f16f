"""Turns raw clips into features: `python experiments/embed.py RUN FILES… --out=features.npz`.

FILES are clips of NTU RGB+D (.skeleton), NW-UCLA (.json) or UTD-MHAD (.mat), arrays and tables of
your own (.npy, .npz, .csv), stores, or folders of them. No store has to be prepared first. They
must have the joints and the units of the data that the run was trained on.
"""

import pathlib
import sys
import time
from collections.abc import Iterator

import _clone  # noqa: F401
from absl import flags

from igm_jax import cli
from igm_jax.data import Clip
from igm_jax.data.formats import raw_files
from igm_jax.errors import InputError
from igm_jax.evaluation.embed import check_suffix, embed, save
from igm_jax.evaluation.run import Run, load_run

_FILES = flags.DEFINE_list("files", [], "Read these files, stores or folders.")
_OUT = flags.DEFINE_string("out", "features.npz", "Write the features to this .npz or .csv file.")
_SKIP = flags.DEFINE_bool("skip", False, "Leave out clips that cannot be read, and list them.")

place = cli.define_run_folder()


def readable(run: Run, files: list[str]) -> Iterator[Clip]:
    """Yields the clips of the files.

    Raises:
      InputError: a clip cannot be read, and `--skip` is not given; names the file.
    """
    for path, clip in raw_files.read_paths(files, run.reading.layout):
        if isinstance(clip, Clip):
            yield clip
        elif not _SKIP.value:
            raise InputError(f"{path}: {clip.reason}: correct it, or leave it out with --skip")
        else:
            print(f"skipped {path}: {clip.reason}", file=sys.stderr)


def main() -> None:
    """Reads the flags and the files, and writes the features."""
    if not _FILES.value:
        raise InputError("no file is given: python experiments/embed.py RUN FILES…")
    out = pathlib.Path(_OUT.value)
    check_suffix(out)
    run = load_run(*place())
    started = time.perf_counter()
    embedded = embed(run, readable(run, _FILES.value))
    count, width = embedded.features.shape
    if not count:
        raise InputError(f"{', '.join(_FILES.value)}: no clip can be read")
    save(out, embedded)
    print(
        f"{out}: {width} features of {count} clips by {run.folder}, {run.progress}, in "
        f"{time.perf_counter() - started:.1f} s"
    )


flags.adopt_module_key_flags(cli)  # for --help


if __name__ == "__main__":
    cli.run(main, argument="run", files="files")
