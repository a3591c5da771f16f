"""Requirements of the objectives on the rest of the config, in words, and whether they are met."""

from collections.abc import Callable

from igm_jax import masking
from igm_jax.models import IGMConfig
from igm_jax.training.config_data import DataConfig
from igm_jax.training.config_groups import ObjectiveConfig, TrainConfig

# Requirement in words → whether the experiment meets it.
Needs = Callable[[ObjectiveConfig, DataConfig, IGMConfig, TrainConfig], dict[str, bool]]


def nothing(o: ObjectiveConfig, d: DataConfig, m: IGMConfig, t: TrainConfig) -> dict[str, bool]:
    """No requirement."""
    return {}


def joints(o: ObjectiveConfig, d: DataConfig, m: IGMConfig, t: TrainConfig) -> dict[str, bool]:
    """One copy of the joints alone, and no projector."""
    return {
        # Motion of motion is no target, and a bone reveals the hidden joint at its other end.
        "data.streams=('joint',)": d.streams == ("joint",),
        "data.crops=1": d.crops == 1,
        "model.projector_width=0": m.projector_width == 0,
    }


def colours(o: ObjectiveConfig, d: DataConfig, m: IGMConfig, t: TrainConfig) -> dict[str, bool]:
    """An encoder that does not know the order of the tokens."""
    return {
        "model.encoder.positions=False": not m.encoder.positions,
        "more than one token in time": m.encoder.grid[0] > 1,
        "data.crops=1": d.crops == 1,
        "model.projector_width=0": m.projector_width == 0,
    }


def _hides(o: ObjectiveConfig, m: IGMConfig) -> dict[str, bool]:
    # Without joints the number of tokens is known once the config is fitted to the data.
    if not m.encoder.joints:
        return {}
    visible = masking.visible_tokens(o.masking, m.encoder.grid, o.mask_ratio)
    return {"objective.mask_ratio that hides a token": visible < m.encoder.num_tokens}


def masked(o: ObjectiveConfig, d: DataConfig, m: IGMConfig, t: TrainConfig) -> dict[str, bool]:
    """Joints of which some are hidden."""
    return joints(o, d, m, t) | _hides(o, m)


def negatives(o: ObjectiveConfig, d: DataConfig, m: IGMConfig, t: TrainConfig) -> dict[str, bool]:
    """Two copies of each clip, and other clips."""
    return {"data.crops=2": d.crops == 2, "train.batch_size above 1": t.batch_size > 1}


def teacher(o: ObjectiveConfig, d: DataConfig, m: IGMConfig, t: TrainConfig) -> dict[str, bool]:
    """Two copies of each clip, of which a teacher reads one."""
    given = {"a teacher (objective.ema_decay above 0)": o.ema_decay > 0}
    return {"data.crops=2": d.crops == 2} | given


def mixed(o: ObjectiveConfig, d: DataConfig, m: IGMConfig, t: TrainConfig) -> dict[str, bool]:
    """A teacher, and other clips whose parts are pasted."""
    return negatives(o, d, m, t) | teacher(o, d, m, t)


def masked_contrast(
    o: ObjectiveConfig, d: DataConfig, m: IGMConfig, t: TrainConfig
) -> dict[str, bool]:
    """Mixed clips of joints of which some are hidden."""
    # The predicted clip is read by f as it is, and a bone reveals the joint at its other end.
    joint = {"data.streams=('joint',)": d.streams == ("joint",)}
    return joint | mixed(o, d, m, t) | _hides(o, m)


def streams(o: ObjectiveConfig, d: DataConfig, m: IGMConfig, t: TrainConfig) -> dict[str, bool]:
    """A teacher, and an encoder for each of several streams."""
    required = {
        "two of data.streams or more": len(d.streams) > 1,
        "model.encoder.towers of the number of data.streams": m.encoder.towers == len(d.streams),
    }
    return teacher(o, d, m, t) | required


def motion(o: ObjectiveConfig, d: DataConfig, m: IGMConfig, t: TrainConfig) -> dict[str, bool]:
    """The joints alone, and a teacher."""
    required = joints(o, d, m, t)
    del required["model.projector_width=0"]
    return required | {"a teacher (objective.ema_decay above 0)": o.ema_decay > 0}


def mining(o: ObjectiveConfig, d: DataConfig, m: IGMConfig, t: TrainConfig) -> dict[str, bool]:
    """A teacher, and a queue that holds the positives."""
    # A queue of zero is not known yet; it follows from the clips.
    fits = o.queue_size == 0 or o.mined_positives <= o.queue_size
    positives = {"objective.mined_positives of at most objective.queue_size": fits}
    return teacher(o, d, m, t) | positives
