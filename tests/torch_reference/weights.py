"""Parameters of the linen modules as a state dict of these."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

# linen's name → ours; `in` is a keyword.
RENAMED = {"kernel": "weight", "scale": "weight", "in": "hidden"}


def leaves(
    tree: Mapping[str, Any], path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """(path, array) of every leaf of nested mappings."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from leaves(value, (*path, name))
        else:
            yield (*path, name), value


def state_dict(params: Mapping[str, Any]) -> dict[str, Tensor]:
    """Nested linen parameters → names and layout of PyTorch.

    A dense kernel [in, out] is the transposed weight; what lies under `blocks` is stacked over the
    blocks and becomes one entry for each.

    Args:
      params: nested dict of arrays, such as `{"encoder": …, "generator": …}`.
    """
    result = {}
    for path, array in leaves(params):
        name = ".".join(RENAMED.get(part, part) for part in path)
        tensor = torch.from_numpy(np.array(array, np.float32))
        if path[-1] == "kernel":
            tensor = tensor.transpose(-1, -2)
        if "blocks" in path:
            for i, block in enumerate(tensor):
                result[name.replace("blocks.", f"blocks.{i}.")] = block.contiguous()
        else:
            result[name] = tensor.contiguous()
    return result
