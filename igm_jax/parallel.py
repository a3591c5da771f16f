"""The mesh and its shardings: the batch is split over all devices, the state over some of them.

Data parallel and FSDP are the two axes of one mesh. A clip lies on one device; a large array of the
state is cut into as many parts as the "fsdp" axis is long, and gathered where a network needs it.
The compiler adds the collectives. A loss over the batch is computed over the whole batch,
on whatever devices its clips are.
"""

import dataclasses
import math
from typing import Any, TypeAlias

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Int

from igm_jax.arguments import check_at_least
from igm_jax.errors import InputError

# JAX defines it by assignment from an untyped module, which is no type to pyright.
Device: TypeAlias = jax.Device  # pyright: ignore[reportInvalidTypeForm]

# Numbers in an array; to fetch the parts of a smaller one costs more than it saves.
SMALL = 2**14


@dataclasses.dataclass(frozen=True)
class ParallelConfig:
    """Where a step is computed (docs/scaling.md); a run may resume with other values.

    Attributes:
      data: groups of devices that each hold the whole state; 0 = all devices that remain.
      fsdp: devices in a group, which split state and clips among them; 0 = all that remain.
      accumulate: micro-batches that go through the networks one by one, to save memory.
    """

    data: int = 0
    fsdp: int = 1
    accumulate: int = 1

    def __post_init__(self):
        for name, least in (("data", 0), ("fsdp", 0), ("accumulate", 1)):
            check_at_least(f"parallel.{name}", getattr(self, name), least)
        if self.data == self.fsdp == 0:
            raise InputError("parallel.data=0 and parallel.fsdp=0: only one can take what remains")


def make_mesh(config: ParallelConfig, batch_size: int, devices: list[Device] | None = None) -> Mesh:
    """The axes "data" and "fsdp" over all devices of all processes, neighbours along "fsdp".

    Args:
      config: length of the two axes.
      batch_size: global batch; each device gets an equal part of each of its micro-batches.
      devices: the devices to use; all by default.

    Raises:
      InputError: the axes are not those of so many devices, or the batch cannot be split evenly.
    """
    devices = jax.devices() if devices is None else devices
    count, data, fsdp = len(devices), config.data, config.fsdp
    data, fsdp = data or count // (fsdp or 1), fsdp or count // (data or 1)
    if data * fsdp != count:
        raise InputError(
            f"parallel.data={config.data} and parallel.fsdp={config.fsdp} do not fit {count} "
            f"devices: their product has to be {count}, and 0 takes all that remain"
        )
    if batch_size % (count * config.accumulate):
        parts = f" times parallel.accumulate={config.accumulate}" if config.accumulate > 1 else ""
        raise InputError(
            f"train.batch_size={batch_size} is not a multiple of the {count} devices{parts}"
        )
    # Auto: the compiler places the collectives; make_mesh alone would default to Explicit.
    return jax.make_mesh((data, fsdp), ("data", "fsdp"), (AxisType.Auto,) * 2, devices=devices)


def replicated(mesh: Mesh) -> NamedSharding:
    """Sharding in which every device holds the whole array."""
    return NamedSharding(mesh, PartitionSpec())


def two_keys(mesh: Mesh, seed: int) -> jax.Array:
    """Two independent keys on all devices: one for the initial state, one for all steps."""
    split = jax.jit(jax.random.split, out_shardings=replicated(mesh))
    return split(jax.random.key(seed))


def split_batch(mesh: Mesh) -> NamedSharding:
    """Sharding that splits the first axis over all devices."""
    return NamedSharding(mesh, PartitionSpec(("data", "fsdp")))


def split_rule(shape: tuple[int, ...], parts: int) -> PartitionSpec:
    """Splits an array of the state along its largest dimension that `parts` divides.

    Arrays of fewer than `SMALL` numbers, and those that have no such dimension, stay whole.

    >>> tuple(split_rule((8, 256, 1024), 4))
    (None, None, 'fsdp')
    >>> tuple(split_rule((8, 256), 4))
    ()
    """
    divisible = [i for i, size in enumerate(shape) if size % parts == 0]
    if parts == 1 or math.prod(shape) < SMALL or not divisible:
        return PartitionSpec()
    largest = max(divisible, key=lambda i: shape[i])
    return PartitionSpec(*[None] * largest, "fsdp")


def split_arrays(mesh: Mesh, tree: Any) -> Any:
    """Applies `split_rule` to every array of a tree.

    Args:
      mesh: the devices.
      tree: of `jax.ShapeDtypeStruct`.

    Returns:
      The tree of `NamedSharding`.
    """
    parts = mesh.shape["fsdp"]
    return jax.tree.map(lambda x: NamedSharding(mesh, split_rule(x.shape, parts)), tree)


def state_shardings(mesh: Mesh, state: Any) -> Any:
    """Applies `split_rule` to parameters, teacher and optimiser state; the rest is replicated.

    The queue is not split: every clip is compared with all of it.

    Args:
      mesh: the devices.
      state: `TrainState` of `jax.ShapeDtypeStruct`.

    Returns:
      `TrainState` of `NamedSharding`.
    """
    return state.replace(
        step=replicated(mesh),
        queue=replicated(mesh),
        params=split_arrays(mesh, state.params),
        teacher=split_arrays(mesh, state.teacher),
        opt_state=split_arrays(mesh, state.opt_state),
    )


def gather(params: Any, mesh: Mesh, copied: tuple[str, ...]) -> Any:
    """Puts the parameters on every device, for the networks.

    Args:
      params: name of a network → its parameters, split by `split_rule`.
      mesh: the devices.
      copied: networks of which each device gets a copy of its own (`spread`); of the others all
        devices together have one.
    """
    return {
        name: spread(tree, mesh)
        if name in copied
        else jax.lax.with_sharding_constraint(tree, replicated(mesh))
        for name, tree in params.items()
    }


def spread(tree: Any, mesh: Mesh) -> Any:
    """Makes a copy of a tree for each device: arrays [devices, …], split over their first axis.

    The gradient of a copy stays on its device, whatever adds to it: micro-batches, and each pass
    of a network. Backwards this function sums the copies, once and in the dtype of the tree: by a
    reduce-scatter where the tree is cut, by an all-reduce over the rest.

    Args:
      tree: arrays split by `split_rule`.
      mesh: the devices.
    """
    specs = jax.tree.map(lambda x: split_rule(x.shape, mesh.shape["fsdp"]), tree)

    def one(x: jax.Array, spec: PartitionSpec) -> jax.Array:
        if "fsdp" in spec:
            x = jax.lax.all_gather(x, "fsdp", axis=spec.index("fsdp"), tiled=True)
        return x[None]

    return jax.shard_map(
        lambda tree: jax.tree.map(one, tree, specs),
        mesh=mesh,
        in_specs=(specs,),
        out_specs=PartitionSpec(mesh.axis_names),
        check_vma=False,
    )(tree)


def describe(target: Any) -> str:
    """Describes in one line how the state is split.

    Args:
      target: tree of `jax.ShapeDtypeStruct` with shardings.
    """
    leaves = jax.tree.leaves(target)
    mesh = leaves[0].sharding.mesh
    split = [x for x in leaves if not x.sharding.is_fully_replicated]
    share = sum(x.size for x in split) / sum(x.size for x in leaves)
    cut = "; the state is whole on each"
    if split:
        cut = (
            f"; {len(split)} of {len(leaves)} arrays of the state, {share:.1%} of its numbers, are "
            f"cut into {mesh.shape['fsdp']}"
        )
    return f"mesh: data {mesh.shape['data']}, fsdp {mesh.shape['fsdp']}{cut}"


def local_rows(mesh: Mesh, batch_size: int) -> Int[np.ndarray, " b"]:
    """Rows of a global batch on this process's devices, ascending."""
    places = split_batch(mesh).addressable_devices_indices_map((batch_size,))
    return np.sort(np.concatenate([np.arange(batch_size)[rows] for rows in places.values()]))


def to_devices(mesh: Mesh, local: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    """Makes global arrays of this process's rows (`local_rows`) of a batch."""
    sharding = split_batch(mesh)
    return {k: jax.make_array_from_process_local_data(sharding, v) for k, v in local.items()}


def from_whole(mesh: Mesh, batch: np.ndarray) -> jax.Array:
    """Makes a split global array of a batch that every process holds whole."""
    return jax.make_array_from_callback(batch.shape, split_batch(mesh), lambda rows: batch[rows])
