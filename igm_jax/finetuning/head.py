"""The head of a fine-tuned run: saved with the facts that it needs, and read back."""

import dataclasses
import functools
import pathlib
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from igm_jax import run_folder
from igm_jax.data import SkeletonStore
from igm_jax.evaluation.encoder import finetuned_run
from igm_jax.evaluation.head import Head
from igm_jax.evaluation.parts import clip_lengths
from igm_jax.evaluation.run import Run
from igm_jax.finetuning import model
from igm_jax.models import EncoderConfig
from igm_jax.training import checkpoint


@dataclasses.dataclass(frozen=True)
class HeadFacts:
    """Facts of a fine-tuned classifier beside its weights.

    Attributes:
      hidden: width of the hidden layer.
      stretches: of the clip, whose means the head reads; 1 where an older version did not save it.
      class_names: of the classes.
      temperature: chosen on validation clips; softmax of logits / temperature is calibrated.
      lengths: frames of the shortest, the median and the longest training clip.
    """

    hidden: int
    stretches: int
    class_names: tuple[str, ...]
    temperature: float
    lengths: tuple[int, int, int]


def save_facts(
    folder: pathlib.Path,
    store: SkeletonStore,
    indices: Int[np.ndarray, " n"],
    hidden: int,
    stretches: int,
    temperature: float,
) -> None:
    """Writes `HeadFacts` into the folder of a subset of the labels.

    Args:
      folder: of the subset.
      store: the data.
      indices: the clips that trained the head.
      hidden: width of its hidden layer.
      stretches: of the encoder's features.
      temperature: chosen on validation clips.
    """
    shortest, median, longest = clip_lengths(store, indices).tolist()
    names = tuple(map(str, store.class_names))
    facts = HeadFacts(hidden, stretches, names, temperature, (shortest, median, longest))
    run_folder.write_json(folder / run_folder.HEAD, dataclasses.asdict(facts))


def load_finetuned(folder: pathlib.Path, name: str | None = None) -> tuple[Run, Head]:
    """Reads a fine-tuned encoder and its head; the pre-training run is not needed.

    Args:
      folder: of the fine-tuned run, or of a subset in it.
      name: of the folder of a subset; by default the first.

    Returns:
      The run, whose parameters are those of the fine-tuned encoder, and the head.

    Raises:
      InputError: no such subset, or it is not finished.
    """
    run = finetuned_run(folder, name)
    subset = run_folder.finetuned_subset(folder, name)
    found = run_folder.read_json(subset / run_folder.HEAD) or {}
    facts = HeadFacts(
        found["hidden"],
        found.get("stretches", 1),
        tuple(found["class_names"]),
        found["temperature"],
        tuple(found["lengths"]),
    )
    encoder = dataclasses.replace(run.config.model.encoder, stretches=facts.stretches)
    target = jax.eval_shape(functools.partial(_head, encoder, facts), jax.random.key(0))
    restored = checkpoint.restore_parts(subset / run_folder.TRAINED, run.step, target)
    params = {"params": restored["params"]["head"], "batch_stats": restored["statistics"]["head"]}
    head = Head(
        params=params,
        logits=functools.partial(_logits, encoder, facts),
        class_names=facts.class_names,
        temperature=facts.temperature,
        lengths=facts.lengths,
        origin=f"fine-tuned run {subset}",
        tensors=_tensors(params),
    )
    return run, head


def _head(c: EncoderConfig, facts: HeadFacts, key: jax.Array) -> dict[str, Any]:
    """Parameters and statistics of an untrained head, for their shapes."""
    network = model.Classifier(c, facts.hidden, len(facts.class_names), 0.0, 0.0)
    clip = jnp.zeros((1, 1, c.frames, c.joints, c.channels), jnp.float32)
    variables = network.init(key, clip, jnp.ones((1, 1), bool), train=False)
    parts = {"params": variables["params"], "statistics": variables["batch_stats"]}
    return {name: {"head": part["head"]} for name, part in parts.items()}


def _logits(
    config: EncoderConfig,
    facts: HeadFacts,
    params: Any,
    tokens: Float[Array, "BM N D"],
    present: Bool[Array, "B M"],
) -> Float[Array, "B classes"]:
    network: nn.Module = model.Head(facts.hidden, len(facts.class_names), dropout=0.0)
    x = model.joint_features(tokens, config.grid[0], config.stretches, present)
    return network.apply(params, x, train=False)  # pyright: ignore[reportReturnType]


def _tensors(params: Any) -> dict[str, np.ndarray]:
    """Weights under the names of MAMP's `ActionHeadFinetune`."""
    p, statistics = params["params"], params["batch_stats"]["norm"]
    tensors = {
        "head.fc1.weight": p["hidden"]["kernel"].T,
        "head.fc1.bias": p["hidden"]["bias"],
        "head.bn.weight": p["norm"]["scale"],
        "head.bn.bias": p["norm"]["bias"],
        "head.bn.running_mean": statistics["mean"],
        "head.bn.running_var": statistics["var"],
        "head.fc2.weight": p["classes"]["kernel"].T,
        "head.fc2.bias": p["classes"]["bias"],
    }
    return {name: np.ascontiguousarray(x, np.float32) for name, x in tensors.items()}
