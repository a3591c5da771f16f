"""Turns raw clips into features: `python experiments/embed.py RUN FILES… --out=features.npz`.

FILES are clips of NTU RGB+D (.skeleton), NW-UCLA (.json) or UTD-MHAD (.mat), arrays and tables of
your own (.npy, .npz, .csv), stores, or folders of them. No store has to be prepared first. They
must have the joints and the units of the data that the run was trained on. RUN may also be a
fine-tuned run, such as RUN/finetune-100pct, or a subset in it.
"""

import pathlib
import time

import _clone  # noqa: F401
import _files
from absl import flags

from igm_jax import cli
from igm_jax.evaluation.embed import check_suffix, embed, save
from igm_jax.evaluation.encoder import encoder_run

_OUT = flags.DEFINE_string(
    "out", "features.npz", "Write the features to this .npz, .csv or .parquet file."
)

place = cli.define_run_folder()


def main() -> None:
    """Reads the flags and the files, and writes the features."""
    out = pathlib.Path(_OUT.value)
    check_suffix(out)
    folder, which = place()
    run = encoder_run(folder, which)
    out.parent.mkdir(parents=True, exist_ok=True)  # before all is computed
    started = time.perf_counter()
    embedded = embed(run, _files.clips(run))
    count, width = embedded.features.shape
    save(out, embedded)
    print(
        f"{out}: {width} features of {count} clips by {run.folder}, {run.progress}, in "
        f"{time.perf_counter() - started:.1f} s"
    )


flags.adopt_module_key_flags(cli)  # for --help
flags.adopt_module_key_flags(_files)


if __name__ == "__main__":
    cli.run(main, argument="run", files="files")
