"""Few-shot accuracy of a run's features: `python experiments/few_shot.py [RUN] [--baselines]`.

Each episode classifies test clips of N classes (`--ways=5`) by K labelled clips of each
(`--shots=1,5`). The table has the mean of 600 episodes and its 95 % interval.
"""

import functools

import _clone  # noqa: F401
from absl import flags

from igm_jax import cli, run_folder
from igm_jax.errors import InputError
from igm_jax.evaluation import frozen, judge, run_flags, table

_WAYS = flags.DEFINE_integer("ways", 5, "Draw this many classes in an episode.", lower_bound=2)
_SHOTS = flags.DEFINE_list("shots", ["1", "5"], "Give this many labelled clips of each class.")
_QUERIES = flags.DEFINE_integer(
    "queries",
    None,
    "Classify this many clips of each class. Default: 15, or what the smallest class has left.",
    lower_bound=1,
)
_EPISODES = flags.DEFINE_integer("episodes", 600, "Draw this many episodes.", lower_bound=2)

selected = run_flags.define_run_flags()


def main() -> None:
    """Reads the flags, evaluates the run and prints the table."""
    if not _SHOTS.value or not all(k.isdigit() and int(k) for k in _SHOTS.value):
        raise InputError(f"--shots={','.join(_SHOTS.value)}: give numbers above 0, such as 1,5")
    run, baselines = selected()
    settings = {
        "ways": _WAYS.value,
        "shots": [int(k) for k in _SHOTS.value],
        "queries": _QUERIES.value,
        "episodes": _EPISODES.value,
    }
    judged = functools.partial(frozen.evaluate_few_shot, **settings)
    check = functools.partial(frozen.few_shot_episodes, **settings)
    rows = judge.evaluate(run, judged, baselines=baselines, check=check)
    print(
        f"{_WAYS.value}-way accuracy in % of {run.folder} ({run.judged_on}, "
        f"{_EPISODES.value} episodes), {run.progress}\n"
    )
    print(table.markdown_table(rows))
    table.save_rows(run.results(run_folder.FEW_SHOT), run, rows, settings)


flags.adopt_module_key_flags(run_flags)  # for --help


if __name__ == "__main__":
    cli.run(main, argument="run")
