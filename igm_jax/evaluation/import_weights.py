"""Makes a run of the encoder weights of MAMP, or of those that `mamp.export_safetensors` wrote."""

import argparse
import dataclasses
import json
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from igm_jax import run_folder
from igm_jax.data import SkeletonStore
from igm_jax.errors import InputError
from igm_jax.evaluation.export import check_difference, not_installed
from igm_jax.evaluation.mamp import encoder_config, encoder_params, mamp_tokens
from igm_jax.evaluation.run import Run
from igm_jax.models import Encoder, IGMConfig, apply
from igm_jax.reading import Reading
from igm_jax.training import checkpoint, claim
from igm_jax.training.config import ExperimentConfig
from igm_jax.training.config_data import DataConfig
from igm_jax.training.config_groups import ObjectiveConfig
from igm_jax.training.mapping import to_mapping
from igm_jax.training.older_runs import config_of_run

# Of the encoder: all other tensors of a checkpoint belong to decoder and head.
_ENCODER = re.compile(r"(joints_embed|blocks|norm)\.|(temp_embed|pos_embed|input_mean|input_std)$")
_OTHERS = re.compile(r"(decoder_\w+|head)(\.|$)|mask_token$")


@dataclasses.dataclass(frozen=True, eq=False)
class Weights:
    """Content of a file of weights.

    Attributes:
      tensors: of the encoder, under the names of MAMP.
      facts: `export.facts` of a file of ours; empty for others.
      heads: number of attention heads, if the file says it.
    """

    tensors: dict[str, np.ndarray]
    facts: dict[str, Any]
    heads: int | None


def read_weights(path: pathlib.Path) -> Weights:
    """Reads a checkpoint of PyTorch (.pth, .pt) or a .safetensors; no pickle code runs.

    Args:
      path: of the file. A checkpoint holds the tensors alone, or beside others under "model" or
        "state_dict".

    Raises:
      InputError: no such file, another format, a damaged file, or tensors of another network.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    if path.suffix not in (".safetensors", ".pth", ".pt"):
        raise InputError(f"{path}: give a .pth, .pt or .safetensors file")
    if not path.stat().st_size:
        raise InputError(f"{path} is empty")
    if path.suffix == ".safetensors":
        tensors, facts, heads = *_safetensors(path), None
    else:
        tensors, heads = _torch(path)
        facts = {}
    tensors = {name.removeprefix("module."): x for name, x in tensors.items()}
    unknown = [name for name in tensors if not _ENCODER.match(name) and not _OTHERS.match(name)]
    if unknown:
        raise InputError(f"{path}: {unknown[0]!r} is no part of MAMP's network, so this is another")
    return Weights({n: x for n, x in tensors.items() if _ENCODER.match(n)}, facts, heads)


def _safetensors(path: pathlib.Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    try:
        import safetensors
        import safetensors.numpy
    except ImportError as error:
        raise not_installed("safetensors") from error
    try:
        with safetensors.safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
        tensors = safetensors.numpy.load_file(path)
    except (safetensors.SafetensorError, ValueError) as error:
        raise InputError(f"{path} is damaged, or no safetensors file: {error}") from error
    return tensors, json.loads(metadata["igm_jax"]) if "igm_jax" in metadata else {}


def _torch(path: pathlib.Path) -> tuple[dict[str, np.ndarray], int | None]:
    """Tensors of a checkpoint, and the number of heads if its settings say it."""
    try:
        import torch
    except ImportError as error:
        raise InputError(
            "torch is not installed, and the extra torch has it: pip install 'igm_jax[torch]'"
        ) from error
    try:
        # Its restricted reader builds tensors, and the settings of a command as plain attributes.
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of many types, for files that are damaged or hold other objects
        raise InputError(
            f"{path} is damaged, or holds other objects than tensors, which are not read: save "
            "model.state_dict()"
        ) from error
    settings = getattr(_get(content, "args"), "model_args", None)
    for key in ("model", "state_dict"):
        content = _get(content, key) or content
    if not isinstance(content, Mapping) or not content:
        raise InputError(f"{path} holds no tensors by name: save model.state_dict()")
    tensors = {str(name): x for name, x in content.items()}
    for name, x in tensors.items():
        if not isinstance(x, torch.Tensor):
            raise InputError(f"{path}: {name!r} is no tensor: save model.state_dict()")
    return {name: x.float().numpy() for name, x in tensors.items()}, _get(settings, "num_heads")


def _get(content: Any, key: str) -> Any:
    return content.get(key) if isinstance(content, Mapping) else None


@dataclasses.dataclass(frozen=True)
class ForeignData:
    """How an encoder of MAMP reads the clips of a store.

    Attributes:
      store: the data that the run is judged on.
      protocol: separates training from test clips.
      coordinates: MAMP's are "centred": the origin is a joint of the first frame.
      bodies: M; 0 = those of the store.
    """

    store: SkeletonStore
    protocol: str
    coordinates: str = "centred"
    bodies: int = 0


def import_run(
    weights: Weights,
    folder: pathlib.Path,
    *,
    data: ForeignData | None = None,
    heads: int | None = None,
) -> tuple[Run, float]:
    """Writes weights as the run folder of a pre-training run, which every evaluation accepts.

    Args:
      weights: of `read_weights`.
      folder: of the run; it must not hold one.
      data: what the encoder reads; needed unless `weights.facts` say it.
      heads: attention heads; needed unless the file says it.

    Returns:
      The run, and the largest difference of its tokens from those of `mamp_tokens`, in NumPy.

    Raises:
      InputError: the folder holds a run, something is not known, the store has other joints, or the
        difference is too large.
    """
    if (folder / run_folder.CONFIG).exists():
        raise InputError(f"{folder} holds a run already: choose another --out")
    if weights.facts:
        config, reading, checksums, place = _described(weights.facts)
    else:
        config, reading, place = _foreign(weights, folder.name, data, heads or weights.heads)
        checksums = data.store.meta["sha256"] if data else {}
    params = encoder_params(weights.tensors, config.model.encoder)
    run = Run(folder, 0, config, reading, checksums, params)
    worst = _difference(run, weights.tensors)
    mapping = to_mapping(config)
    with claim.held(folder):
        claim.begin(folder, mapping)
        meta = {"config": mapping, "data": checksums, "reading": reading.to_dict(), "store": place}
        checkpoint.save_params(folder, {"encoder": run.params}, meta)
    return run, worst


def _described(facts: dict[str, Any]) -> tuple[ExperimentConfig, Reading, dict[str, str], str]:
    """Config, reading, checksums of the data and its place, as a file of ours says them."""
    missing = sorted({"config", "reading", "data"} - facts.keys())
    if missing:
        raise InputError(
            f"the file does not say its {missing[0]!r}: export it again with export.py"
        )
    config = config_of_run(facts["config"])
    return config, Reading.from_dict(facts["reading"]), facts["data"], config.data.path


def _foreign(
    weights: Weights, name: str, data: ForeignData | None, heads: int | None
) -> tuple[ExperimentConfig, Reading, str]:
    """Config and reading of an encoder that MAMP trained."""
    if data is None:
        raise InputError("the file does not say what it was trained on: give a store with --data")
    if heads is None:
        raise InputError("the file does not say the attention heads: give --heads (MAMP has 8)")
    encoder, store = encoder_config(weights.tensors, heads), data.store
    _, joints, channels = store.frames.shape
    if (joints, channels) != (encoder.joints, encoder.channels):
        raise InputError(
            f"the encoder reads {encoder.joints} joints of {encoder.channels} coordinates, and "
            f"{store.path} has {joints} ({store.layout.name}) of {channels}: choose another --data"
        )
    bodies = data.bodies or int(store.clips["bodies"].max())
    config = ExperimentConfig(
        name=name,
        # The augmentation of MAMP, for probes on new crops and for fine-tuning.
        data=DataConfig(
            store.dataset, str(store.path), data.protocol, coordinates=data.coordinates,
            streams=("joint",), bodies=bodies, crops=1, crop=(0.5, 1.0), mirror=0.0,
            rotation=(0.3, 0.3, 0.3),
        ),
        model=IGMConfig(encoder=encoder),
        objective=ObjectiveConfig(name="motion_prediction"),
    )  # fmt: skip
    reading = Reading(store.layout, data.coordinates, encoder.frames, bodies)
    ones = np.ones(channels)
    return config, reading.standardised(0 * ones, ones), str(store.path.absolute())


def _difference(run: Run, tensors: dict[str, np.ndarray]) -> float:
    c, reading = run.config.model.encoder, run.reading
    clip = np.random.default_rng(0).normal(size=(1, c.frames, c.joints, c.channels))
    clip = clip.astype(np.float32)
    mean, std = (np.asarray(x, np.float32) for x in (reading.mean, reading.std))
    tensors = {"input_mean": mean, "input_std": std} | tensors
    found = np.asarray(apply(Encoder(c), run.params, jnp.asarray((clip - mean) / std)))
    worst = float(np.abs(mamp_tokens(tensors, clip, c) - found).max())
    check_difference(run, worst)
    return worst
