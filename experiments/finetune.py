"""Fine-tunes a run: `python experiments/finetune.py [RUN] [--labels=10%]`.

An encoder and an MLP head are trained on labelled clips. Learning rate and length are chosen on
validation clips; test clips are judged once. `--labels=10% --subsets=5` repeats it with five
subsets of the labels. `--from=scratch` starts from a random encoder, as the control.
`--generated=0.5` also trains on clips that the generator makes.
`--transfer=configs/utd_mhad.py` trains on the clips of another data set than the parent's.

Any setting is a flag: `--config.epochs=50`. The same command resumes an interrupted run. Exit
codes are those of pretrain.py.
"""

import dataclasses
import pathlib
import sys
from typing import Any

import _clone  # noqa: F401
from absl import flags

from igm_jax import cli, run_folder, shell
from igm_jax.data.few_labels import SUBSETS
from igm_jax.errors import InputError
from igm_jax.evaluation import run_flags, table
from igm_jax.evaluation.run import open_store
from igm_jax.finetuning.config import FinetuneConfig
from igm_jax.finetuning.study import finetune

_RUN = flags.DEFINE_string(
    "run", None, "Write to this run folder. Default: finetune-… in the folder of the parent."
)
_LABELS = flags.DEFINE_enum(
    "labels",
    run_folder.ALL_LABELS,
    [run_folder.ALL_LABELS, *SUBSETS],
    "Train on this share of the labels.",
)
_SUBSETS = flags.DEFINE_integer("subsets", 1, "Repeat with this many subsets of the labels.")
_SUBSET = flags.DEFINE_integer("subset", 0, "Seed of the first subset; the next ones follow it.")
_FROM = flags.DEFINE_enum(
    "from", "parent", ["parent", "scratch"], "Start from the parent, or from a random encoder."
)
_GENERATED = flags.DEFINE_float(
    "generated", None, "Short for --config.generated: noise of generated clips, a share of K."
)
_RESUME = flags.DEFINE_enum(
    "resume",
    "auto",
    ["auto", "never"],
    "auto resumes a run of the same settings; never refuses an existing run.",
)

parent = run_flags.define_pretrained_flags("parent")
settings = cli.define_settings(FinetuneConfig())


def main() -> None:
    """Reads the flags, fine-tunes the run and prints the table."""
    config, labels, scratch = settings(), _LABELS.value, _FROM.value == "scratch"
    if _GENERATED.value is not None:
        config = dataclasses.replace(config, generated=_GENERATED.value)
    if _SUBSETS.value < 1 or _SUBSET.value < 0:
        raise InputError(
            f"--subsets={_SUBSETS.value} must be at least 1, --subset={_SUBSET.value} at least 0"
        )
    run = parent()
    name = run_folder.finetuning(labels, scratch, config.generated, run.other_data)
    folder = pathlib.Path(_RUN.value) if _RUN.value else run.folder / name
    seeds = range(_SUBSET.value, _SUBSET.value + _SUBSETS.value)
    result = finetune(
        run,
        open_store(run),
        folder,
        config,
        labels=labels,
        subsets=seeds,
        scratch=scratch,
        resume=_RESUME.value,
    )
    if result != "finished":
        sys.exit(cli.exit_code(result))
    start = "a random encoder" if scratch else f"{run.folder}, {run.progress}"
    print(f"{folder}: fine-tuned from {start} ({run.judged_on}, {labels} of the labels)\n")
    print(table.markdown_table(_table(run_folder.read_json(folder / run_folder.RESULTS))))
    print(f"\nnext: {shell.command('predict.py', folder, 'FILES…')}")


def _table(results: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of the subsets, and below many of them their mean and standard deviation."""
    rows = results["rows"]
    if len(rows) == 1:
        return rows
    both = {k: f"{v} ± {results['deviation'][k]}" for k, v in results["mean"].items()}
    return [*rows, {name: both.get(name, "") for name in rows[0]} | {"subset": "mean ± std"}]


for module in (cli, run_flags):  # for --help
    flags.adopt_module_key_flags(module)


if __name__ == "__main__":
    cli.run(main, argument="parent")
