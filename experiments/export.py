"""Exports the encoder of a run: `python experiments/export.py RUN --format=stablehlo`.

`stablehlo` holds everything from raw clips to features; `jax.export.deserialize` reads it without
this library. `safetensors` holds the weights under the names of MAMP, for PyTorch. Both are checked
against the run before they are written. docs/using.md shows how to load them.
"""

import pathlib

import _clone  # noqa: F401
from absl import flags

from igm_jax import cli
from igm_jax.evaluation.export import export_safetensors, export_stablehlo
from igm_jax.evaluation.run import load_run

_FORMATS = {"stablehlo": export_stablehlo, "safetensors": export_safetensors}
_FORMAT = flags.DEFINE_enum("format", "stablehlo", [*_FORMATS], "Write this kind of file.")
_OUT = flags.DEFINE_string("out", None, "Write this file. Default: RUN/encoder.FORMAT.")

place = cli.define_run_folder()


def main() -> None:
    """Reads the flags, exports and checks."""
    run = load_run(*place())
    path = pathlib.Path(_OUT.value or run.folder / f"encoder.{_FORMAT.value}")
    difference = _FORMATS[_FORMAT.value](run, path)
    print(
        f"{path}: {path.stat().st_size / 1e6:.1f} MB, the encoder of {run.folder}, {run.progress}; "
        f"it differs from the run by at most {difference:.1e}"
    )


flags.adopt_module_key_flags(cli)  # for --help


if __name__ == "__main__":
    cli.run(main, argument="run")
