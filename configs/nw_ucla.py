"""Northwestern-UCLA, cross-view: trains on views 1 and 2, tests on view 3. For two CPU cores.

docs/results.md has accuracy and time.
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
    c.objective.queue_size = 960
    c.optimizer.warmup_epochs = 10.0
    c.train.update(epochs=100, log_every=100, knn_every=25, checkpoint_every=25)
    return base.smoke(c) if smoke else c
