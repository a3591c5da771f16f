"""Writes one page about runs: `python experiments/report.py RUN [RUN…]`.

The page shows what was trained on what, the curves of the log, the tables of every protocol that
was run, a confusion matrix, a map of the test features and a player of real and generated clips.
It is one file, report.html in the folder of the first run, and needs no network.

`--figures=FOLDER` also writes the figures of the first run for papers: PNG, PDF and a GIF.
"""

import pathlib
import sys

import _clone  # noqa: F401
from absl import flags

from igm_jax import cli, run_folder
from igm_jax.errors import InputError
from igm_jax.evaluation.run import load_run, open_store

_RUNS = flags.DEFINE_multi_string(
    "run", [], "Report on this run folder. Repeat it to compare. Default: the newest in runs/."
)
_DATA = flags.DEFINE_string("data", None, "Read the store of the runs from this folder.")
_CHECKPOINT = flags.DEFINE_string(
    "checkpoint", "last", "Load this checkpoint: last, best (by validation KNN) or a step."
)
_OUT = flags.DEFINE_string("out", None, "Write this page. Default: RUN/report.html.")
_FIGURES = flags.DEFINE_string("figures", None, "Also write figures to this folder.")
_CLIPS = flags.DEFINE_integer(
    "clips", 600, "Show at most so many test clips of each run.", lower_bound=8
)
_GENERATE = flags.DEFINE_integer(
    "generate", 12, "Generate from the features of so many clips.", lower_bound=1
)
_SEED = flags.DEFINE_integer(
    "seed", 0, "Draw the noise of generated clips by this seed.", lower_bound=0
)


def main() -> None:
    """Reads the flags, computes the parts and writes the page."""
    try:
        from igm_jax import report
    except ModuleNotFoundError as error:
        raise InputError(f"no report without {error.name}: pip install 'igm_jax[viz]'") from error
    for flag in (_OUT, _FIGURES):  # told before all is computed
        place = pathlib.Path(flag.value or "")
        if flag.value and place.exists() and place.is_dir() != (flag is _FIGURES):
            kind = "a folder" if place.is_dir() else "a file"
            raise InputError(f"--{flag.name}={place} is {kind}: choose another name")
    if _OUT.value:
        pathlib.Path(_OUT.value).parent.mkdir(parents=True, exist_ok=True)
    folders = [pathlib.Path(name) for name in _RUNS.value] or [run_folder.newest_run()]
    which = cli.checkpoint_of(_CHECKPOINT.value)
    runs = [load_run(folder, which, _DATA.value) for folder in folders]
    for run in runs:
        open_store(run)  # a missing or other store is told before all is computed
    cli.keep_compiled_programs(folders[0])
    reports = [
        report.describe(
            run,
            clips=_CLIPS.value,
            generate=_GENERATE.value,
            seed=_SEED.value,
            report=lambda line: print(line, file=sys.stderr, flush=True),
        )
        for run in runs
    ]
    if _FIGURES.value:
        for path in report.save_figures(pathlib.Path(_FIGURES.value), reports[0]):
            print(path)
    path = pathlib.Path(_OUT.value or folders[0] / run_folder.REPORT)
    report.write_page(path, reports)
    print(f"{path.stat().st_size / 1e6:.1f} MB, open it in a browser:\n{path}")


flags.adopt_module_key_flags(cli)  # for --help


if __name__ == "__main__":
    cli.run(main, argument="run")
