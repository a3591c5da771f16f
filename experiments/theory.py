"""Measures the theory of IGM on runs: `python experiments/theory.py RUN [RUN …]`.

For the untrained networks and the kept checkpoints it prints the rank of the features, their coding
length L with its first two terms and the residual R, and the augmentation graph that the generator
draws. docs/theory.md explains each number. All numbers are in theory.json of the run folder.
"""

from typing import Any

import _clone  # noqa: F401
from absl import flags

from igm_jax import cli, run_folder
from igm_jax.errors import InputError
from igm_jax.evaluation import table, theory
from igm_jax.evaluation.run import load_run, open_store

_RUNS = flags.DEFINE_multi_string("run", [], "Measure this run folder. Repeat it.")
_DATA = flags.DEFINE_string("data", None, "Read the store of the runs here, if it has moved.")
_CHECKPOINTS = flags.DEFINE_integer("checkpoints", 4, "Measure so many checkpoints of each run.")
_CLIPS = flags.DEFINE_integer("clips", 1024, "Read at most so many clips.", lower_bound=2)
_DRAWS = flags.DEFINE_integer(
    "draws", 6, "Draw so many positives of each clip. 0 leaves the graph out.", lower_bound=0
)


def _feature_rows(found: list[dict[str, Any]], distortion: float) -> list[dict[str, Any]]:
    rows = []
    for stage in found:
        (parts,) = [row for row in stage["expansion"] if row["distortion"] == distortion]
        keys = ("effective_rank", "covariance_rank", "probe_error_%", "least_distortion")
        rows.append({"stage": stage["name"], **{k: stage[k] for k in keys}, **parts})
    return rows


def _graph_rows(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    keys = ("own_%", "squares", "tail", "impurity_%", "error")
    return [
        {
            "stage": stage["name"],
            **{k: stage["graph"][k] for k in keys},
            "probe_error_%": stage["probe_error_%"],
        }
        for stage in found
        if stage["graph"]
    ]


def main() -> None:
    """Reads the flags, measures the runs and prints their tables."""
    if not _RUNS.value:
        raise InputError("no run is given: python experiments/theory.py RUN")
    for folder in _RUNS.value:
        run = load_run(folder, data=_DATA.value)
        store = open_store(run)
        cli.keep_compiled_programs(run.folder)
        found = [
            theory.measure(stage, store, clips=_CLIPS.value, draws=_DRAWS.value)
            for stage in theory.stages(run, _CHECKPOINTS.value)
        ]
        distortion, last = run.config.objective.distortion, found[-1]
        run_folder.write_json(run.results(run_folder.THEORY), {"step": run.step, "stages": found})
        size = f"{last['clips']} training clips, {last['width']} numbers in a feature"
        print(f"Theory of {folder} ({run.judged_on}), {run.progress}: {size}\n")
        print(f"Per clip, at distortion {distortion:g}:\n")
        print(table.markdown_table(_feature_rows(found, distortion)))
        print(f"\nAt {last['name']}, by distortion:\n")
        print(table.markdown_table(last["expansion"]))
        if graph := _graph_rows(found):
            print("\nThe augmentation graph that the generator draws:\n")
            print(table.markdown_table(graph))
        print()


flags.adopt_module_key_flags(cli)  # for --help


if __name__ == "__main__":
    cli.run(main, argument="run")
