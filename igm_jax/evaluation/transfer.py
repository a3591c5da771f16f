"""Transfers a run to another data set: its encoder reads the clips of another store.

The weights stay as they are. Clips are mapped onto the joints of the run by name
(`igm_jax.joint_map`), and are read in its frames, coordinates and streams. Protocol, bodies and
augmentation are those of the new data. So are the statistics that standardise the clips, which are
computed from its training split. They take care of other units and sizes.
"""

import dataclasses
from collections.abc import Collection
from typing import Any

from igm_jax.data import SkeletonStore, pipeline, protocols
from igm_jax.errors import InputError
from igm_jax.evaluation.run import Run
from igm_jax.joint_map import map_joints
from igm_jax.training.config_data import DataConfig
from igm_jax.training.mapping import to_mapping

# Keys of `data` that the new data set decides. The others belong to the run and its weights.
OF_THE_DATA = frozenset(
    {
        "dataset",
        "path",
        "protocol",
        "bodies",
        "camera",
        "crop",
        "min_crop_frames",
        "mirror",
        "shear",
        "rotation",
    }
)

# Those of them that decide how clips are read and augmented.
SETTINGS = ("bodies", "crop", "min_crop_frames", "mirror", "shear", "rotation")


def check_given(run: Run, keys: Collection[str]) -> None:
    """Refuses keys, given by hand, that a transfer does not read.

    Args:
      run: the run.
      keys: keys of the config of the new data, such as `"data.streams"`.

    Raises:
      InputError: names the keys.
    """
    ignored = sorted({*keys} - {f"data.{key}" for key in OF_THE_DATA})
    if not ignored:
        return
    if "data.streams" in ignored:
        streams = ", ".join(run.reading.streams)
        raise InputError(
            f"transfer.data.streams: {run.folder} reads the streams {streams} and no others: leave "
            "it out, or choose a parent of those streams"
        )
    raise InputError(
        f"transfer.{ignored[0]} is decided by {run.folder}, not by the new data: leave it out"
    )


def transfer(run: Run, store: SkeletonStore, data: DataConfig) -> Run:
    """The run as it reads the clips of another store; all protocols take it like any other run.

    Args:
      run: the pre-training run.
      store: the clips of another data set.
      data: of which the keys `OF_THE_DATA` count.

    Returns:
      The run, with the reading, protocol, augmentation and checksums of the new data.

    Raises:
      InputError: no joint in common by name, another number of coordinates, another protocol than
        the data set has, or a run that is judged on some classes only.
    """
    if run.classes != "all":
        raise InputError(f"--classes={run.classes} and --transfer exclude each other: give one")
    channels = run.config.model.encoder.channels // len(run.reading.streams)
    if store.frames.shape[2] != channels:
        raise InputError(
            f"{store.path} has {store.frames.shape[2]} coordinates for each joint, but "
            f"{run.folder} reads {channels}: choose a parent with as many"
        )
    bodies = data.bodies or int(store.clips["bodies"].max())
    joint_map = map_joints(store.layout, run.reading.layout)
    reading = dataclasses.replace(run.reading, bodies=bodies, joint_map=joint_map)
    indices = protocols.split(store, data.protocol, "train")
    reading = reading.standardised(*pipeline.statistics(store, indices, reading))
    chosen = {key: getattr(data.spelled_out(), key) for key in OF_THE_DATA}
    chosen |= {"bodies": bodies, "leave_out": ()}
    return dataclasses.replace(
        run,
        config=dataclasses.replace(run.config, data=dataclasses.replace(run.config.data, **chosen)),
        reading=reading,
        data=store.meta["sha256"],
        places=(str(store.path),),
        origin=run,
    )


def described(run: Run) -> dict[str, Any]:
    """Describes the data of a transferred run in JSON types; empty for a run on its own data.

    Returns:
      Under the key `transfer`: `data_set`, `protocol`, `data` (checksums), `joints`, the
      description of the joint map or `"the same"`, and `settings`, how its clips are read and
      augmented. `camera` is not among them: its crop, mirror and rotation are.
    """
    if run.origin is None:
        return {}
    joint_map = run.reading.joint_map
    joints = "the same" if joint_map is None else joint_map.description()
    settings = to_mapping(run.config)["data"]
    content = {
        "data_set": run.config.data.dataset,
        "protocol": run.config.data.protocol,
        "data": run.data,
        "joints": joints,
        "settings": {key: settings[key] for key in SETTINGS},
    }
    return {"transfer": content}
