"""Flags that say which run a command judges, and on which data."""

import dataclasses
from collections.abc import Callable
from typing import Any

from absl import flags

from igm_jax import cli, run_folder, shell


def define_pretrained_flags(name: str) -> Callable[..., Any]:
    """Defines `--data`, `--checkpoint`, `--transfer` and the flag `name`, which says the run.

    Returns:
      A function that gives the run once the flags are parsed; its keyword arguments replace fields
      of the run. With `--transfer` it is then transferred to the other data set, and the list of
      the joints is printed.
    """
    place, store = cli.define_run_folder(name), cli.define_store()
    other = cli.define_config_file(
        "transfer",
        "Judge on the data set of this config file, which the run was not trained on: "
        "configs/NAME.py[:PROTOCOL]. Clips are mapped onto the joints of the run by name. --data "
        "then names the store of that data set.",
    )

    def selected(**fields: Any) -> Any:
        from igm_jax.evaluation.run import load_run

        (folder, which), data = place(), store.value
        own = data if other.value is None else None
        run = dataclasses.replace(load_run(folder, which, own), **fields)
        return run if other.value is None else _transferred(run, other, data)

    flags.adopt_module_key_flags(cli)
    return selected


def _transferred(run: Any, other: flags.FlagHolder, data: str | None) -> Any:
    from ml_collections import config_flags

    from igm_jax.data import open_dataset
    from igm_jax.evaluation import transfer
    from igm_jax.joint_map import description_lines
    from igm_jax.training.config import ExperimentConfig
    from igm_jax.training.mapping import from_mapping

    transfer.check_given(run, config_flags.get_override_values(flags.FLAGS["transfer"]))
    config = from_mapping(ExperimentConfig, other.value.to_dict()).data
    store = open_dataset(config.dataset, config.path if data is None else data)
    moved = transfer.transfer(run, store, config)
    joint_map = moved.reading.joint_map
    if joint_map is not None:
        print("\n".join(description_lines(joint_map.description())) + "\n")
    return moved


def next_command(run: Any) -> str:
    """The command that follows the judgement of a run: predict.py, or first its linear probe."""
    if (run.folder / run_folder.probe_scores()).exists():
        return shell.command("predict.py", run.folder, "FILES…", *cli.given("checkpoint"))
    return shell.command("linear_probe.py", run.folder, *cli.given("checkpoint", "data"))


def define_run_flags() -> Callable[[], Any]:
    """Defines the flags of `define_pretrained_flags("run")`, and those that say what is judged.

    These are `--classes`, `--whiten` and `--baselines`.

    Returns:
      A function that gives `(run, baselines)` once the flags are parsed.
    """
    loaded = define_pretrained_flags("run")
    classes = flags.DEFINE_enum(
        "classes",
        "all",
        ["all", "unseen", "seen"],
        "Judge on all classes, on those of data.leave_out, or on the others.",
    )
    whiten = flags.DEFINE_bool(
        "whiten",
        False,
        "Also evaluate the features after whitening, by mean and covariance of the training clips.",
    )
    baselines = flags.DEFINE_bool(
        "baselines",
        False,
        "Also evaluate the untrained encoder, the joint coordinates, and each of several towers.",
    )

    def selected() -> Any:
        return loaded(classes=classes.value, whiten=whiten.value), baselines.value

    return selected
