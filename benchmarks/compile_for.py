"""Compiles the train step for a GPU or TPU that is not here: `python benchmarks/compile_for.py`.

Nothing is executed. XLA states the memory of the compiled program, and its collectives can be read
from its text. `--target=h100` needs the extra `cuda12`, and a TPU needs `tpu`, but neither needs a
device: `JAX_PLATFORMS=cpu` is set here. A TPU compiler refuses a program that is too large. A GPU
compiler does not, so the last line says whether it fits.
"""

import dataclasses
import importlib.util
import os
import pathlib
import re
import time

os.environ["JAX_PLATFORMS"] = "cpu"  # before jax: the plugin must not look for a device
os.environ.setdefault("JAX_EXEC_TIME_OPTIMIZATION_EFFORT", "-1.0")  # half the time to compile
os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # libtpu asks a cloud for its machine otherwise
os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")  # two targets can be compiled at once

import _clone  # noqa: F401
import jax
from absl import flags
from jax.experimental import topologies

from benchmarks import collectives, sizes, tracing
from igm_jax import cli, parallel
from igm_jax.errors import InputError
from igm_jax.training.config import ExperimentConfig
from igm_jax.training.mapping import nearest
from igm_jax.training.program import build_program

_ROOT = pathlib.Path(__file__).resolve().parent
GPUS = tuple(path.stem for path in sorted((_ROOT / "targets").glob("*.txtpb")))
# GB of memory a device that a program may use.
TPUS = {"v2": 8.6, "v3": 17.2, "v4": 34.4, "v5e": 16.9, "v5p": 102.8, "v6e": 33.5}
KNOWN = f"GPUs such as h100 or h100x8 ({', '.join(GPUS)}), TPUs such as v5e:2x4 ({', '.join(TPUS)})"
_GPU = re.compile(rf"({'|'.join(GPUS)})(?:x([1-9]\d*))?")
_TPU = re.compile(rf"({'|'.join(TPUS)}):(\d+x\d+(?:x\d+)?)")

_TARGET = flags.DEFINE_string("target", "h100", f"Device, and how many: {KNOWN}.")
_CONFIG = flags.DEFINE_string("config", "configs/ntu60.py", sizes.HELP)
_BATCH = flags.DEFINE_integer("batch", 0, "Clips in a step; 0: the config's.", lower_bound=0)
_FSDP = flags.DEFINE_integer("fsdp", 1, "Devices that share a state.", lower_bound=1)
_ACCUMULATE = flags.DEFINE_integer("accumulate", 1, "Micro-batches.", lower_bound=1)
_REMAT = flags.DEFINE_bool("remat", False, "Recompute whole blocks in the backward pass.")
_MEMORY = flags.DEFINE_float("memory", 0.0, "GB of a device; 0: the target's own.")
_HLO = flags.DEFINE_string("hlo", None, "File for the text of the compiled program.")


@dataclasses.dataclass(frozen=True)
class Target:
    """Devices to compile for.

    Attributes:
      devices: none of them is here.
      memory: bytes that a program may use on each.
    """

    devices: list[jax.Device]
    memory: float


def parse(name: str) -> tuple[str, str]:
    """Splits the name of a target into device and shape: `h100x8`, `v5e:2x4`.

    >>> parse("h100"), parse("rtx4090x8"), parse("v5e:2x4")
    (('h100', '1'), ('rtx4090', '8'), ('v5e', '2x4'))

    Raises:
      InputError: an unknown device or a shape that is none.
    """
    match = _GPU.fullmatch(name) or _TPU.fullmatch(name)
    if not match:
        device = re.split(r":|x\d*$", name)[0]
        if device in TPUS:
            raise InputError(f"--target={name} has no shape: write {device}:2x2")
        if device in GPUS:
            raise InputError(f"--target={name} is no number of devices: write {device}x8")
        near = nearest(device, [*GPUS, *TPUS])
        raise InputError(f"--target={name} is unknown{near}: choose from {KNOWN}")
    return match[1], match[2] or "1"


def find(name: str) -> Target:
    """The devices of a target.

    Raises:
      InputError: an unknown target, or the extra that compiles for it is not installed.
    """
    device, shape = parse(name)
    extra, module = ("cuda12", "jax_cuda12_plugin") if device in GPUS else ("tpu", "libtpu")
    if not importlib.util.find_spec(module):
        raise InputError(f"--target={name} needs a compiler: pip install -e '.[{extra}]'")
    if device in TPUS:
        found = topologies.get_topology_desc(platform="tpu", topology_name=name)
        return Target(found.devices, 1e9 * TPUS[device])
    text = (_ROOT / "targets" / f"{device}.txtpb").read_text(encoding="utf-8")
    found = topologies.get_topology_desc(
        platform="cuda", topology_name=device, topology=f"1x1x{shape}", target_config=text
    )
    memory = re.search(r"device_memory_size: (\d+)", text)
    return Target(found.devices, float(memory[1]))


def configured() -> ExperimentConfig:
    """The config with the flags."""
    config = sizes.size(_CONFIG.value, batch=_BATCH.value, on_cpu=False)
    model = config.model
    if _REMAT.value:
        model = dataclasses.replace(
            model,
            encoder=dataclasses.replace(model.encoder, remat=True),
            generator=dataclasses.replace(model.generator, remat=True),
        )
    mesh = dataclasses.replace(config.parallel, fsdp=_FSDP.value, accumulate=_ACCUMULATE.value)
    return dataclasses.replace(config, model=model, parallel=mesh)


def describe_collectives(config: ExperimentConfig, state, hlo: str) -> list[str]:
    """One line for each kind and dtype of collective, and the formula beside it if there is one."""
    try:
        formula = collectives.collectives(config, state)
    except ValueError as error:
        formula, reason = {}, str(error)
    else:
        reason = ""
    lines = []
    for (kind, dtype), size in sorted(collectives.collectives_by_dtype(hlo).items()):
        beside = f", formula {formula[kind] / 1e6:,.1f} of all dtypes" if kind in formula else ""
        lines.append(f"{kind} {dtype}: {size / 1e6:,.1f} MB{beside}")
    return lines + ([reason] if reason else [])


def main() -> None:
    """Compiles one step; prints what it needs."""
    config, target = configured(), find(_TARGET.value)
    device, limit = target.devices[0], 1e9 * _MEMORY.value or target.memory
    program = build_program(config, sizes.reading(config), sizes.NUM_CLIPS, target.devices)
    state = program.restore_target
    print(
        f"{_TARGET.value}: {len(target.devices)} x {device.device_kind} ({device.platform}), "
        f"{limit / 1e9:.1f} GB each; {_CONFIG.value}, {config.model.encoder.dtype}, "
        f"{config.train.batch_size} clips a step; {parallel.describe(state)}"
    )
    start = time.perf_counter()
    lowered = tracing.trace_step(config, program).lower()
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        used = re.search(r"Used (\S+) of (\S+) hbm", str(error))
        if not used:
            raise
        raise InputError(f"does not fit: the compiler needs {used[1]} of {used[2]}") from error
    seconds = time.perf_counter() - start
    memory, hlo = compiled.memory_analysis(), compiled.as_text()
    if _HLO.value:
        pathlib.Path(_HLO.value).write_text(hlo, encoding="utf-8")
    kept = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    peak = kept + memory.temp_size_in_bytes
    print(f"compiled in {seconds:.0f} s")
    for line in describe_collectives(config, state, hlo):
        print(line)
    if device.platform == "gpu":
        forward, backward = (hlo.count(f'"__cudnn$fmhaSoftmax{x}"') for x in ("", "Backward"))
        print(
            f"attention fused by cuDNN: {forward} forward, {backward} backward"
            if forward
            else "attention is not fused"
        )
    print(
        f"a device: {memory.temp_size_in_bytes / 1e9:.2f} GB of temporaries, {kept / 1e9:.2f} GB "
        f"of arguments and results, {peak / 1e9:.2f} of {limit / 1e9:.1f} GB in all: "
        f"{'fits' if peak <= limit else 'DOES NOT FIT'}"
    )


if __name__ == "__main__":
    cli.run(main)
