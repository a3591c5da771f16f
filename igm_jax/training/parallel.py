"""The mesh, and who holds what: the batch is split over devices, everything else is on each."""

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from igm_jax.errors import InputError


def data_mesh(batch_size: int, devices: list[jax.Device] | None = None) -> Mesh:
    """One axis, "data", over all devices of all processes.

    Args:
      batch_size: global batch; must be divisible by the number of devices.
      devices: the devices to use; all by default.

    Raises:
      InputError: the batch cannot be split evenly.
    """
    devices = jax.devices() if devices is None else devices
    if batch_size % len(devices):
        raise InputError(
            f"train.batch_size={batch_size} is not a multiple of the {len(devices)} devices"
        )
    # Auto: the compiler places the collectives; make_mesh alone would default to Explicit.
    return jax.make_mesh((len(devices),), ("data",), (AxisType.Auto,), devices=devices)


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds the whole array."""
    return NamedSharding(mesh, PartitionSpec())


def split_batch(mesh: Mesh) -> NamedSharding:
    """The first axis is split over the devices."""
    return NamedSharding(mesh, PartitionSpec("data"))


def to_devices(mesh: Mesh, local: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    """This process's part of a batch → global arrays, for one process or many."""
    sharding = split_batch(mesh)
    return {k: jax.make_array_from_process_local_data(sharding, v) for k, v in local.items()}
