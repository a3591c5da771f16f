"""The embedded data set: what `make demo` runs. For two CPU cores and a few minutes."""

from configs import base


def get_config(variant: str | None = None):
    """`variant` is `xsub` or `xview`, with or without `-smoke`."""
    protocol, smoke = base.variants(variant, ("xsub", "xview"))
    c = base.get_config()
    c.name = f"synthetic-{protocol}"
    c.data.update(protocol=protocol, view="body", min_crop_frames=24)
    c.model.encoder.update(frames=32, patch_frames=8, width=128, depth=4, heads=4, mlp_width=512)
    c.model.generator.update(width=128, depth=2, heads=4, mlp_width=512)
    c.objective.update(mask_ratio=0.6, reencode_mask_ratio=0.6, queue_size=960)
    c.optimizer.warmup_epochs = 3.0
    c.train.update(epochs=40, batch_size=64)
    return base.smoke(c) if smoke else c
