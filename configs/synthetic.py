"""The synthetic data set, used by `make demo`. For two CPU cores and a few minutes."""

from configs import base


def get_config(variant: str | None = None):
    """`variant` is `xsub` or `xview`, with or without `-smoke`."""
    protocol, smoke = base.variants(variant, ("xsub", "xview"))
    c = base.get_config()
    c.name = f"synthetic-{protocol}"
    c.data.update(protocol=protocol, min_crop_frames=24)
    base.small_networks(c)
    c.objective.update(ramp_epochs=2, queue_size=960)
    c.optimizer.warmup_epochs = 1.0
    c.train.update(epochs=14, knn_every=7, checkpoint_every=7)
    return base.smoke(c) if smoke else c
