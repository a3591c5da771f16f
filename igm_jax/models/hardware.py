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

    @property
    def compiler_options(self) -> dict[str, bool]:
        """Options of XLA for a program that runs there.

        On a GPU, Triton does not compile products of matrices. XLA would tune it for each of them,
        and cuBLAS is as fast: the step of `configs/ntu60.py` took 183 s to compile on one H100 and
        takes 32 s, at 87.6 and 87.3 ms a step (jax 0.11.2, three cores). Without a card nothing
        can be tuned at all.
        """
        return {"xla_gpu_enable_triton_gemm": False} if self.platform == "gpu" else {}

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
