"""The kind of device that a program is built for, by which networks choose how they compute."""

import dataclasses

import jax
from jax.sharding import Mesh

from igm_jax.parallel import Device


@dataclasses.dataclass(frozen=True)
class Hardware:
    """The devices that a network is compiled for.

    The program knows them before it is traced. A program can be compiled for other devices than
    those of this process, so nothing below asks for the default backend.

    Attributes:
      platform: "cpu", "gpu" or "tpu", as in `jax.Device.platform`.
      whole: each device computes whole rows of its own; False where the compiler may still split
        the arrays of the network over several devices.
      device: one of the devices, to try what it can compile; None if there is none to try.
    """

    platform: str
    whole: bool = True
    device: Device | None = dataclasses.field(default=None, compare=False)

    @classmethod
    def of(cls, mesh: Mesh, whole: bool = False) -> "Hardware":
        """The devices of a mesh; a mesh of one device always computes whole rows."""
        mine = [d for d in mesh.devices.flat if d.process_index == jax.process_index()]
        device = (mine or [*mesh.devices.flat])[0]
        return cls(device.platform, whole or mesh.size == 1, device)

    @classmethod
    def here(cls) -> "Hardware":
        """The default devices of this process, for a network that is used without a program."""
        device = jax.devices()[0]
        return cls(device.platform, jax.device_count() == 1, device)
