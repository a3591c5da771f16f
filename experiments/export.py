"""Exports the encoder of a run: `python experiments/export.py RUN --format=stablehlo`.

`stablehlo` holds everything from raw clips to features; `jax.export.deserialize` reads it without
this library. `onnx` holds the same for onnxruntime. `safetensors` holds the weights under the names
of MAMP, for PyTorch. A run that was probed, or fine-tuned, has a head, and its logits are exported
too. All is checked against the run before it is written. docs/using.md shows how to load it.
"""

import pathlib

import _clone  # noqa: F401
from absl import flags

from igm_jax import cli, run_folder
from igm_jax.evaluation.encoder import encoder_run
from igm_jax.evaluation.export import export_stablehlo, in_float32
from igm_jax.evaluation.export_onnx import export_onnx
from igm_jax.evaluation.head import Head
from igm_jax.evaluation.mamp import export_safetensors
from igm_jax.evaluation.run import Run
from igm_jax.prediction.predictor import load_predictor

_FORMATS = {
    "stablehlo": export_stablehlo,
    "safetensors": export_safetensors,
    "onnx": export_onnx,
}
_FORMAT = flags.DEFINE_enum("format", "stablehlo", [*_FORMATS], "Write this kind of file.")
_OUT = flags.DEFINE_string("out", None, "Write this file. Default: RUN/encoder.FORMAT.")
_HEAD = flags.DEFINE_string(
    "head",
    None,
    "Export this head too, such as linear_probe-10pct.npz, or none. Default: that of the probe "
    "with all labels, if there is one.",
)

place = cli.define_run_folder()


def loaded() -> tuple[Run, Head | None]:
    """The run of the flags, with its head if it has one."""
    folder, which = place()
    probed = (folder / run_folder.probe_scores()).exists()
    has_head = probed or run_folder.is_finetuned(folder)
    if _HEAD.value == "none" or not (_HEAD.value or has_head):
        return encoder_run(folder, which), None
    predictor = load_predictor(folder, which, _HEAD.value)
    return predictor.run, predictor.head


def main() -> None:
    """Reads the flags, exports and checks."""
    run, head = loaded()
    path = pathlib.Path(_OUT.value or run.folder / f"encoder.{_FORMAT.value}")
    path.parent.mkdir(parents=True, exist_ok=True)  # before all is computed
    difference = _FORMATS[_FORMAT.value](in_float32(run), path, head)
    what = "no head" if head is None else f"the head of the {head.origin}"
    dtype = run.config.model.encoder.dtype
    rounded = "" if dtype == "float32" else f" in float32 (it was trained in {dtype})"
    print(
        f"{path}: {path.stat().st_size / 1e6:.1f} MB, the encoder of {run.folder}, {run.progress}, "
        f"and {what}; it differs from the run{rounded} by at most {difference:.1e}"
    )


flags.adopt_module_key_flags(cli)  # for --help


if __name__ == "__main__":
    cli.run(main, argument="run")
