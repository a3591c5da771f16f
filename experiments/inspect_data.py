"""Inspects a store: `python experiments/inspect_data.py data/NAME`.

It verifies the checksums, prints tables and draws clips: a contact sheet with one clip of each
class. With `--clips=NAME,NAME` it draws these clips, and a GIF of each. For own data it suggests
flags of the config, with the facts that speak for them.
"""

import pathlib
import random
import sys

import _clone  # noqa: F401
import rich.console
import rich.table
from absl import flags

from igm_jax import cli
from igm_jax.data import Clip, SkeletonStore, summary
from igm_jax.data.remarks import remarks
from igm_jax.data.suggest import OWN_DATA, suggest
from igm_jax.errors import InputError

_DATA = flags.DEFINE_string("data", None, "Inspect this store. `--data=` may be left out.")
_CLIPS = flags.DEFINE_list(
    "clips", None, "Draw the clips of these names. Default: one of each class."
)
_OUT = flags.DEFINE_string(
    "out", None, "Write pictures to this folder. Default: runs/inspect/NAME."
)
_SEED = flags.DEFINE_integer(
    "seed", 0, "Choose one clip of each class by this seed.", lower_bound=0
)


def chosen(store: SkeletonStore) -> list[Clip]:
    """Returns the clips to draw.

    Raises:
      InputError: no clip has this name; suggests a similar one.
    """
    if _CLIPS.value is None:
        draw = random.Random(_SEED.value)
        labels = store.clips["label"].tolist()
        some = [i for i in range(len(store)) if labels[i] < 0][:12]
        of_class = (
            [i for i, c in enumerate(labels) if c == label] for label in range(max(labels) + 1)
        )
        return [store[i] for i in [draw.choice(rows) for rows in of_class if rows] or some]
    return [store[i] for i in cli.named_clips(store, _CLIPS.value)]


def draw(store: SkeletonStore, clips: list[Clip], folder: pathlib.Path) -> list[pathlib.Path]:
    """Writes the pictures; returns their paths."""
    from igm_jax import drawing  # which needs the extra viz

    folder.mkdir(parents=True, exist_ok=True)
    units, layout = store.meta["units"], store.layout
    titles = [store.class_names[clip.label] if clip.label >= 0 else "unlabelled" for clip in clips]
    sheet = drawing.contact_sheet(clips, titles, layout, units, heading=store.dataset)
    paths = [folder / "contact_sheet.png"]
    sheet.savefig(paths[0])
    for clip, title in zip(clips, titles) if _CLIPS.value else ():
        # A name may hold any printable character, also the separator of folders.
        paths.append(folder / f"{clip.name.replace('/', '_')}.gif")
        drawing.save_moving_picture(paths[-1], clip, layout, units, title=title)
    return paths


def main() -> None:
    """Reads the flags, prints tables and draws pictures."""
    if _DATA.value is None:
        raise InputError("which store? python experiments/inspect_data.py data/NAME")
    SkeletonStore.verify(_DATA.value)
    store = SkeletonStore.open(_DATA.value)
    clips = chosen(store)
    console = rich.console.Console(width=None if sys.stdout.isatty() else 120)
    facts = rich.table.Table(show_header=False, title=f"{store.path}: checksums are right")
    for name, value in summary.overview(store).items():
        facts.add_row(name, value)
    console.print(facts)
    suggestions = [
        {"suggested flag": found.flag, "because": found.reason}
        for found in (suggest(store) if store.dataset in OWN_DATA else ())
    ]
    noticed = [{"remark": remark} for remark in remarks(store)]
    described = (summary.left_out(store), summary.classes(store), summary.parts(store))
    for rows in (*described, noticed, suggestions):
        if rows:
            table = rich.table.Table(*rows[0])
            for row in rows:
                table.add_row(*map(str, row.values()))
            console.print(table)
    try:
        paths = draw(store, clips, pathlib.Path(_OUT.value or f"runs/inspect/{store.path.name}"))
    except ModuleNotFoundError as error:
        raise InputError(f"no pictures without {error.name}: pip install 'igm_jax[viz]'") from error
    console.print("drawn:", *map(str, paths), sep="\n")


if __name__ == "__main__":
    cli.run(main, argument="data")
