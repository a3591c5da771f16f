"""The embedded data set: what `make demo` runs. For two CPU cores and a few minutes."""

from configs import base


def get_config(variant: str | None = None):
    """`variant` is `xsub` or `xview`, with or without `-smoke`."""
    protocol, smoke = base.variants(variant, ("xsub", "xview"))
    c = base.get_config()
    c.name = f"synthetic-{protocol}"
    c.data.update(protocol=protocol, view="body", min_crop_frames=24)
    base.small_networks(c)
    c.model.encoder.patch_frames = 16
    # So short a run is mostly the generator's: a stronger or earlier pull costs accuracy.
    c.objective.update(
        mask_ratio=0.8,
        reencode_mask_ratio=0.8,
        feature_weight=0.02,
        distribution_weight=0.02,
        start_epoch=10,
        ramp_epochs=10,
    )
    c.optimizer.warmup_epochs = 1.0
    c.train.update(epochs=24, knn_every=8, checkpoint_every=8)
    return base.smoke(c) if smoke else c
