"""The worker that takes steps of the PyTorch reference; see `benchmarks.worker`.

It imports no JAX, so that its peak memory is that of PyTorch alone.
"""

import pathlib
import sys
import time
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests"))

import numpy as np
import torch
from torch_reference.draws import draw
from torch_reference.training import Trainer

from benchmarks.worker import Prepared, random_batch, serve


def namespace(value: Any) -> Any:
    """Nested mappings → nested attributes."""
    if isinstance(value, dict):
        return SimpleNamespace(**{name: namespace(x) for name, x in value.items()})
    return value


def read_tree(file: str) -> dict[str, Any]:
    """The nested dict of arrays that an .npz file holds under names like `encoder/embed/kernel`."""
    tree: dict[str, Any] = {}
    with np.load(file) as flat:
        for path, array in flat.items():
            *groups, name = path.split("/")
            group = tree
            for part in groups:
                group = group.setdefault(part, {})
            group[name] = array
    return tree


def prepare(job: dict[str, Any]) -> Prepared:
    """Builds the trainer that `job["config"]` describes, from the weights of our side."""
    if job["threads"]:
        torch.set_num_threads(job["threads"])
    torch.manual_seed(0)
    config, device = namespace(job["config"]), torch.device(job["torch_device"])
    trainer = Trainer(
        config,
        namespace(job["reading"]),
        read_tree(job["weights"]),
        np.load(job["queue"]),
        total_steps=job["total_steps"],
        steps_per_epoch=job["steps_per_epoch"],
        device=device,
        compiled=job["compiled"],
    )
    trainer.model.generator.each_token = job["each_token"]
    batch = random_batch(config, bodies=job["bodies"])
    raw = {name: torch.from_numpy(x).to(device) for name, x in batch.items()}

    def step() -> float:
        draws = draw(config, config.train.batch_size, device)
        return float(trainer.step(**raw, draws=draws)["loss"])  # waits

    seconds = 0.0
    if job["compiled"]:
        start = time.perf_counter()
        step()
        seconds = time.perf_counter() - start

    def peak_bytes() -> int:
        return torch.cuda.max_memory_allocated() if device.type == "cuda" else 0

    name = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    ready = {
        "compile_seconds": seconds,
        "device": name,
        "threads": torch.get_num_threads(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "versions": {"torch": torch.__version__, "numpy": np.__version__},
    }
    return ready, step, peak_bytes


if __name__ == "__main__":
    serve(prepare)
