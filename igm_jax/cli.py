"""Shared parts of all commands: flags, config and one-line errors."""

import dataclasses
import difflib
import io
import itertools
import logging as python_logging
import os
import pathlib
import re
import signal
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from absl import app, flags, logging

from igm_jax.errors import STOPPED, DivergedError, InputError

if TYPE_CHECKING:
    from igm_jax.data import SkeletonStore

_ROOT = pathlib.Path(__file__).resolve().parent.parent
_config_files: dict[str, str | None] = {}  # flag → the file that is read without it
_settings: list[str] = []  # keys of `define_settings`; only those that are set become flags


def run(main: Callable[[], None], argument: str | None = None, files: str | None = None) -> None:
    """Parses the flags and calls `main`; bad input gives one line and exit code 1.

    The value of the flag `argument` may also be given without the name of the flag, before all
    others; several values if the flag may be repeated. All arguments behind it that are no flags
    become values of the list flag `files`, if there is one. Without `files`, one value may also
    stand behind flags.

    All other errors are faults of the program and keep their traceback.
    """
    app.define_help_flags()
    _print_any_text()
    try:
        _parse(sys.argv, argument, files)
        _quiet_libraries()
        _show_progress()
        main()
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read the output, such as head, has enough of it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except (InputError, DivergedError, OSError, MemoryError, flags.Error) as error:
        _end(_line(error))
    except Exception as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        _end(f"out of memory, stop what else uses this device: {_line(error)[:200]}")


def _end(text: str) -> None:
    print(f"error: {text}", file=sys.stderr)
    sys.exit(1)


def exit_code(signal_name: str) -> int:
    """Exit code of a command that this signal stopped and that can resume."""
    return STOPPED if signal_name == "SIGTERM" else 128 + signal.Signals[signal_name]


def _print_any_text() -> None:
    """Prints `?` for a character that the terminal, or the file behind it, cannot show.

    Class names may be in any script, and where the locale is "C" even a dash ends the program.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _quiet_libraries() -> None:
    """Silences the log of libraries; -v=0 turns it on again.

    Orbax warns about its defaults at every checkpoint. A checkpoint that cannot be written
    fails in a hundred tasks with tracebacks, before it becomes one error for the user.
    """
    if flags.FLAGS["verbosity"].using_default_value:
        logging.set_verbosity(logging.FATAL)
        for name in ("asyncio", "concurrent.futures"):
            python_logging.getLogger(name).setLevel(python_logging.CRITICAL)


def _show_progress() -> None:
    from igm_jax import progress  # it imports rich, which --help does not need

    progress.show()


def define_config() -> flags.FlagHolder:
    """Defines `--config=FILE[:VARIANT]`, every key of which is a flag `--config.KEY=VALUE`.

    Without the flag, configs/synthetic.py is read.
    """
    # Not given to the flag itself: it would be parsed here, before `run` can catch its errors.
    return define_config_file("config", _config_help(), str(_ROOT / "configs" / "synthetic.py"))


def define_config_file(name: str, meaning: str, default: str | None = None) -> flags.FlagHolder:
    """Defines `--NAME=FILE[:VARIANT]`, every key of which is a flag `--NAME.KEY=VALUE`.

    Args:
      name: of the flag.
      meaning: its help.
      default: config file without the flag; None leaves its value None.
    """
    # Imported here: only commands with a config need it.
    from ml_collections import config_flags

    _config_files[name] = default
    return config_flags.DEFINE_config_file(name, None, meaning, lock_config=True)


def _config_help() -> str:
    """Help of `--config`: every key with its default and its meaning."""
    if not any(re.match(r"--?help", argument) for argument in sys.argv):
        return "FILE[:VARIANT]"
    from igm_jax.training.config import ExperimentConfig
    from igm_jax.training.mapping import documented

    keys = [
        f"--config.{key}={value}: {meaning}"
        for key, value, meaning in documented(ExperimentConfig())
    ]
    return "\n".join(["FILE[:VARIANT]; each key below is a flag, shown with its default.", *keys])


def experiment_config(flag: flags.FlagHolder) -> Any:
    """The `ExperimentConfig` that the config file and the overriding flags say.

    Raises:
      InputError: a value that does not fit, or a flag that the objective ignores.
    """
    from ml_collections import config_flags

    from igm_jax.training.config import ExperimentConfig
    from igm_jax.training.mapping import from_mapping
    from igm_jax.training.objectives import check_read

    config = from_mapping(ExperimentConfig, flag.value.to_dict())
    check_read(config.objective.name, config_flags.get_override_values(flags.FLAGS["config"]))
    return config


def keep_compiled_programs(run_folder: pathlib.Path) -> None:
    """Caches compiled programs beside the runs, so that a second start takes seconds.

    JAX_COMPILATION_CACHE_DIR, if set, chooses another folder.
    """
    import jax

    # JAX adds its options to the config as it is imported: no type checker knows them.
    if jax.config.jax_compilation_cache_dir is None:  # pyright: ignore[reportAttributeAccessIssue]
        folder = str(run_folder.absolute().parent / ".jax_cache")
        jax.config.update("jax_compilation_cache_dir", folder)


def named_clips(store: "SkeletonStore", names: Sequence[str]) -> list[int]:
    """Positions of the clips that `--clips` names.

    Raises:
      InputError: no clip has this name; suggests a similar one.
    """
    from igm_jax.training.mapping import nearest

    known = {str(name): i for i, name in enumerate(store.clips["name"])}
    for name in names:
        if name not in known:
            raise InputError(f"--clips: no clip {name!r} in {store.path}{nearest(name, known)}")
    return [known[name] for name in names]


def checkpoint_of(value: str) -> str | int:
    """Value of `--checkpoint` as `load_run` takes it: last, best or a step.

    Raises:
      InputError: it is neither.
    """
    if value not in ("last", "best") and not value.isdigit():
        raise InputError(f"--checkpoint={value} is unknown: give last, best or a step number")
    return int(value) if value.isdigit() else value


def define_store() -> flags.FlagHolder:
    """Defines `--data`."""
    return flags.DEFINE_string(
        "data", None, "Read the store of the run from this folder, if it has moved."
    )


def define_run_folder(name: str = "run") -> Callable[[], tuple[pathlib.Path, str | int]]:
    """Defines `--checkpoint` and the flag `name`, which says the pre-training run.

    Returns:
      A function that gives `(folder, checkpoint)`, the first arguments of `load_run`, once the
      flags are parsed.
    """
    run_flag = flags.DEFINE_string(
        name, None, "Use this run folder. Default: the newest one in runs/."
    )
    checkpoint = flags.DEFINE_string(
        "checkpoint", "last", "Load this checkpoint: last, best (by validation KNN) or a step."
    )

    def selected() -> tuple[pathlib.Path, str | int]:
        from igm_jax.run_folder import newest_run

        which = checkpoint_of(checkpoint.value)
        folder = pathlib.Path(newest_run() if run_flag.value is None else run_flag.value)
        if folder.is_dir():
            keep_compiled_programs(folder)
        return folder, which

    return selected


def given(*names: str) -> list[str]:
    """Those of these flags that the user gave, for a command that follows."""
    known = (flags.FLAGS[name] for name in names if name in flags.FLAGS)
    return [f"--{flag.name}={flag.value}" for flag in known if flag.present]


def define_settings(config: Any) -> Callable[[], Any]:
    """Defines `--config.KEY=VALUE` for every key of a config that no file describes.

    Args:
      config: a frozen dataclass with the defaults.

    Returns:
      A function that gives the dataclass once the flags are parsed.
    """
    from ml_collections import ConfigDict, config_flags

    from igm_jax.training.mapping import documented, from_mapping

    keys = {f"config.{key}": (value, meaning) for key, value, meaning in documented(config)}
    _settings.extend(keys)
    lines = [f"--{key}={value}: {meaning}" for key, (value, meaning) in keys.items()]
    # An unknown key would end the program here, before `run` can turn the error into one line.
    setting = re.compile(r"--?config\.")
    known = [x for x in sys.argv if not setting.match(x) or x.lstrip("-").partition("=")[0] in keys]
    flag = config_flags.DEFINE_config_dict(
        "config",
        ConfigDict(dataclasses.asdict(config)),
        "\n".join(["Each key below is a flag, shown with its default.", *lines]),
        sys_argv=known,
    )
    return lambda: from_mapping(type(config), flag.value.to_dict())


def _parse(argv: list[str], argument: str | None = None, files: str | None = None) -> None:
    if argument:
        most = len(argv) if flags.FLAGS[argument].flag_type().startswith("multi") else 2
        leading = itertools.takewhile(lambda i: not argv[i].startswith("-"), range(1, len(argv)))
        places = [i for i in leading if i < most]
        if not places and files is None:
            places = [i for i in range(1, len(argv)) if _stands_alone(argv, i)][:1]
        for i in places:
            argv[i] = f"--{argument}={argv[i]}"
    _check_keys(argv)
    for name, default in _config_files.items():
        _check_config_file(argv, name, default)
    try:
        rest = flags.FLAGS(argv)
    except flags.UnrecognizedFlagError as error:
        near = difflib.get_close_matches(error.flagname, [*flags.FLAGS, *_settings], n=1)
        hint = f"did you mean --{near[0]}?" if near else "--help lists the flags"
        raise InputError(f"unknown flag --{error.flagname}: {hint}") from error
    except (KeyError, AttributeError) as error:  # how ml_collections says "unknown key"
        match = re.search(r'Did you mean "(.+?)" instead of "(.+?)"', str(error))
        if match:
            raise InputError(
                f"config has no key {match[2]!r}: did you mean {match[1]!r}?"
            ) from error
        found = re.search(r"lookup: ([\w.]+)", str(error)) or re.search(r"(\w+)", str(error))
        name = found[1] if found else ""
        raise InputError(f"config has no key {name!r}: --help lists them all") from error
    except flags.IllegalFlagValueError as error:
        # An exception inside a config file arrives as the text of its traceback.
        last = str(error).strip().splitlines()[-1]
        last = re.sub(r"\('Non-boolean argument.*", "give true or false", last)
        raise InputError(re.sub(r"^\w*Error: ", "", last)) from error
    if files is not None:
        flags.FLAGS[files].value = [*(flags.FLAGS[files].value or []), *rest[1:]]
    elif len(rest) > 1:
        raise InputError(f"argument {rest[1]!r} is no flag: write --name=value; --help lists them")


def _stands_alone(argv: list[str], i: int) -> bool:
    """Whether an argument is neither a flag nor the value of the flag before it."""
    before = re.fullmatch(r"--?(\w+)", argv[i - 1]) if i > 1 else None
    takes_it = before and (before[1] not in flags.FLAGS or not flags.FLAGS[before[1]].boolean)
    return not argv[i].startswith("-") and not takes_it


def _check_keys(argv: list[str]) -> None:
    """Refuses `--config.KEY=VALUE` where KEY is not written as one, such as `--config.=3`."""
    name = r"[^\W\d]\w*"
    for argument in argv:
        given = re.match(r"--?config\.([^=]*)", argument)
        if given and not re.fullmatch(rf"{name}(\.{name})*", given[1]):
            raise InputError(f"config has no key {given[1]!r}: --help lists them all")


def _check_config_file(argv: list[str], name: str, default: str | None) -> None:
    """Adds the default config to `argv` if none is given; refuses a missing file."""
    for i, argument in enumerate(argv):
        if re.match(rf"--?{name}(=|$)", argument):
            value = argument.partition("=")[2] or (argv[i + 1] if i + 1 < len(argv) else "")
            break
    else:
        if default is None:
            return
        value = default
        argv.insert(1, f"--{name}={value}")
    path = pathlib.Path(value.partition(":")[0])
    if not path.is_file():
        known = sorted((_ROOT / "configs").glob("[!_]*.py"))
        names = ", ".join(f"configs/{p.name}" for p in known if p.stem != "base")
        raise InputError(f"--{name}={value}: no such file: choose one of {names}")


def _line(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).splitlines())
