"""Reads the config and the reading of runs that this version or an earlier one wrote."""

import functools
from collections.abc import Mapping
from typing import Any

from igm_jax.errors import InputError
from igm_jax.reading import Reading
from igm_jax.training.config import ExperimentConfig
from igm_jax.training.mapping import from_mapping

# Keys that were renamed: old name → new name, in the same group.
_RENAMED = {"data.view": "coordinates", "objective.max_t": "max_t_share"}
# Keys that were removed, with the value under which they did nothing. Keys that were added have
# defaults under which an earlier run is what it was.
_REMOVED = {
    "objective.centre_features": False,
    "objective.target_sees_all": False,
    "model.generator.skip": False,
}


def config_of_run(values: Mapping[str, Any]) -> ExperimentConfig:
    """Reads the config of a run folder.

    Args:
      values: the config in plain JSON types.

    Raises:
      InputError: the run used a key that this version no longer has, or does not have yet.
    """
    values = _copied(values)
    for old, new in _RENAMED.items():
        group, _, key = old.partition(".")
        if key in values.get(group, {}):
            values[group][new] = values[group].pop(key)
    for name, neutral in _REMOVED.items():
        *groups, key = name.split(".")
        group = functools.reduce(lambda inner, part: inner.get(part, {}), groups, values)
        if group.pop(key, neutral) != neutral:
            raise InputError(
                f"the run was trained with {name}, which this version no longer has: read it with "
                "the commit in its environment.json"
            )
    return from_mapping(ExperimentConfig, values).spelled_out()


def _copied(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: _copied(v) if isinstance(v, Mapping) else v for k, v in values.items()}


def reading_of_run(meta: Mapping[str, Any]) -> Reading:
    """Reads how f reads a clip from the JSON of a checkpoint.

    Earlier versions saved layout, streams and statistics as `inputs`, and the rest in the config.
    """
    if "reading" in meta:
        return Reading.from_dict(meta["reading"])
    config = config_of_run(meta["config"])
    # A run without "bodies" is older than data.bodies=0.
    bodies = meta.get("bodies", config.data.bodies)
    rest = {
        "coordinates": config.data.coordinates,
        "frames": config.model.encoder.frames,
        "bodies": bodies,
    }
    return Reading.from_dict({**meta["inputs"], **rest})
