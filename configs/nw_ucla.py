"""Northwestern-UCLA, cross-view: trains on views 1 and 2, tests on view 3. For two CPU cores.

A token holds all frames of one joint (patch_frames = frames). docs/results.md has its accuracy
and time.
"""

from configs import base


def get_config(variant: str | None = None):
    """`variant` is `xview` or `smoke`."""
    protocol, smoke = base.variants(variant, ("xview",))
    c = base.get_config()
    c.name = "nw_ucla"
    c.data.update(dataset="nw_ucla", path="data/nw_ucla", protocol=protocol, min_crop_frames=16)
    base.small_networks(c)
    c.model.encoder.joints = 20
    c.optimizer.warmup_epochs = 10.0
    c.train.update(epochs=200, log_every=100)
    return base.smoke(c) if smoke else c
