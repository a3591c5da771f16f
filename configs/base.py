"""The default recipe, which docs/experiments.md led to, and what the configs share.

Of two augmented crops of a clip, f reads one and g generates the other. So the features need not
know what augmentation changed. L_ide takes its doubles from small t, where they are clips and not
noise. The spectral repulsion, the second-order entropy, takes part from the beginning. So nothing
needs a teacher, a late start or auxiliary tokens.

A data set's own file says what it changes. `paper_literal.py` puts the paper's reading back.
"""

import dataclasses

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from igm_jax.training.config import ExperimentConfig


def get_config() -> ConfigDict:
    """All keys with the defaults of the dataclasses; `pretrain.py --help` says what they mean."""
    c = ConfigDict(dataclasses.asdict(ExperimentConfig()))
    # None so far: data.camera decides them. A placeholder lets flags set a value of its type.
    c.data.update(crop=placeholder(tuple), mirror=placeholder(float), rotation=placeholder(tuple))
    return c


def small_networks(c: ConfigDict) -> None:
    """Networks and batch for a thousand clips on a few CPU cores.

    A token holds four frames of the whole pose. 13 tokens instead of 30 V make a step cheap enough
    for thousands of steps. Hiding 0.9 of so few tokens would leave one. Features are the means of
    three stretches of the clip, side by side, so that they keep some of its order. A batch holds
    clips of few sessions (one subject, camera and setup), so that person and place tell no clips
    of it apart. Where a store has no such ids, batches are mixed.
    """
    c.data.batches = "session"
    c.model.encoder.update(frames=52, patch_frames=4, patch_joints=0, depth=4, heads=4, stretches=3)
    c.model.generator.update(width=128, depth=1, heads=4, mlp_width=512)
    c.objective.update(mask_ratio=0.3, reencode_mask_ratio=0.3)
    c.train.batch_size = 64


def smoke(c: ConfigDict) -> ConfigDict:
    """A tiny version for tests: small networks, two epochs, seconds."""
    c.name += "-smoke"
    c.model.encoder.update(
        frames=16,
        patch_frames=4,
        patch_joints=1,
        stretches=1,
        width=32,
        depth=2,
        heads=2,
        mlp_width=64,
    )
    c.model.generator.update(width=32, depth=1, heads=2, mlp_width=64)
    c.objective.update(
        mask_ratio=0.5, reencode_mask_ratio=0.5, queue_size=0, start_epoch=0, ramp_epochs=1
    )
    c.optimizer.warmup_epochs = 1.0
    c.train.update(
        epochs=2, min_epoch_steps=1, batch_size=16, log_every=2, knn_every=1, checkpoint_every=1
    )
    c.probe.epochs = 5
    return c


def variants(argument: str | None, choices: tuple[str, ...]) -> tuple[str, bool]:
    """Reads `configs/x.py:PROTOCOL`, `:smoke` or `:PROTOCOL-smoke`.

    Args:
      argument: the text after the colon.
      choices: protocols of the data set, its default first.

    Returns:
      `(protocol, smoke)`.

    Raises:
      ValueError: anything else.
    """
    words = argument.split("-") if argument else []
    is_smoke = "smoke" in words
    protocols = [w for w in words if w != "smoke"] or [choices[0]]
    if len(protocols) > 1 or protocols[0] not in choices:
        raise ValueError(
            f"config variant {argument!r} is unknown: use one of {', '.join(choices)}, with "
            "-smoke behind it for a run of seconds, or smoke alone"
        )
    return protocols[0], is_smoke
