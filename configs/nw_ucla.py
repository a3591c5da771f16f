"""Northwestern-UCLA, cross-view: trains on views 1 and 2, tests on view 3. For two CPU cores."""

from configs import base


def get_config(variant: str | None = None):
    """`variant` is `xview` or `smoke`."""
    protocol, smoke = base.variants(variant, ("xview",))
    c = base.get_config()
    c.name = "nw_ucla"
    c.data.update(
        dataset="nw_ucla", path="data/nw_ucla", protocol=protocol, view="body", min_crop_frames=16
    )
    c.model.encoder.update(
        frames=32, joints=20, patch_frames=8, width=128, depth=4, heads=4, mlp_width=512
    )
    c.model.generator.update(width=128, depth=2, heads=4, mlp_width=512)
    c.objective.update(mask_ratio=0.6, reencode_mask_ratio=0.6, queue_size=960)
    c.optimizer.warmup_epochs = 10.0
    c.train.update(epochs=200, batch_size=64)
    return base.smoke(c) if smoke else c
