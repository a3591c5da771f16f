"""Makes a run of foreign weights: `python experiments/import_weights.py FILE.pth --out=RUN`.

FILE is a checkpoint of MAMP (.pth, .pt, .safetensors), or a .safetensors file of export.py. All
commands that evaluate, fine-tune, embed or export then read RUN. For a file of MAMP, `--data` names
the store that the encoder reads (docs/using.md):

python experiments/import_weights.py FILE.pth --out=runs/mamp --data=data/ntu60 --heads=8
"""

import dataclasses
import pathlib

import _clone  # noqa: F401
from absl import flags

from igm_jax import cli, shell
from igm_jax.data import SkeletonStore, protocols
from igm_jax.errors import InputError
from igm_jax.evaluation.import_weights import ForeignData, Weights, import_run, read_weights
from igm_jax.skeleton import COORDINATES

_FILE = flags.DEFINE_string("file", None, "Read the weights from this file.")
_FROM = flags.DEFINE_enum("from", "mamp", ["mamp"], "Take the names of tensors for those of this.")
_OUT = flags.DEFINE_string("out", None, "Write this run folder.")
_DATA = flags.DEFINE_string("data", None, "Judge the encoder on this store.")
_PROTOCOL = flags.DEFINE_string(
    "protocol", None, "Split the clips by this protocol. Default: the first one of the data set."
)
_COORDINATES = flags.DEFINE_enum(
    "coordinates", "centred", COORDINATES, "Read clips in this frame of reference."
)
_BODIES = flags.DEFINE_integer(
    "bodies", 0, "Read so many bodies. Default: those of the store.", lower_bound=0
)
_HEADS = flags.DEFINE_integer(
    "heads", None, "Number of attention heads, if the file does not say it.", lower_bound=1
)


def foreign_data(weights: Weights) -> ForeignData | None:
    """Reads the facts of the data from the flags; None if the file holds them."""
    if weights.facts:
        known = (_DATA, _PROTOCOL, _COORDINATES, _BODIES, _HEADS)
        given = [flag.name for flag in known if flag.present]
        if given:
            raise InputError(f"--{given[0]}: the file says it: leave the flag out")
        return None
    if _DATA.value is None:
        raise InputError("--data is missing: name the store that the encoder reads")
    store = SkeletonStore.open(_DATA.value)
    known = protocols.PROTOCOLS.get(store.dataset, {})
    protocol = _PROTOCOL.value or next(iter(known), "")
    protocols.split(store, protocol, "test")  # refuses an unknown one
    return ForeignData(store, protocol, _COORDINATES.value, _BODIES.value)


def main() -> None:
    """Reads the flags and the file, checks the weights and writes the run."""
    if _FILE.value is None or _OUT.value is None:
        raise InputError("which file, and where to? import_weights.py FILE.pth --out=RUN")
    path, folder = pathlib.Path(_FILE.value), pathlib.Path(_OUT.value)
    weights = read_weights(path)
    run, difference = import_run(weights, folder, data=foreign_data(weights), heads=_HEADS.value)
    sizes = dataclasses.asdict(run.config.model.encoder)
    shown = ", ".join(f"{name}={sizes[name]}" for name in ("frames", "joints", "width", "depth"))
    print(
        f"{folder}: the encoder of {path} ({shown}); its tokens differ from those of a NumPy "
        f"reference by at most {difference:.1e}"
    )
    print(f"next: {shell.command('linear_probe.py', folder)}")


if __name__ == "__main__":
    cli.run(main, argument="file")
