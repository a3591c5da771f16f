"""UTD-MHAD, cross-subject: trains on the odd subjects, tests on the even ones. For two CPU cores.

A token is the whole path of one joint (patch_frames = frames). Only 431 clips are trained on: more
epochs than for Northwestern-UCLA give about as many steps, and the queue is smaller.
"""

from configs import base


def get_config(variant: str | None = None):
    """`variant` is `xsub` or `smoke`."""
    protocol, smoke = base.variants(variant, ("xsub",))
    c = base.get_config()
    c.name = "utd_mhad"
    c.data.update(
        dataset="utd_mhad", path="data/utd_mhad", protocol=protocol, view="body", min_crop_frames=16
    )
    base.small_networks(c)
    c.model.encoder.joints = 20
    base.two_views(c)
    c.objective.update(queue_size=320, ramp_epochs=20)
    c.optimizer.warmup_epochs = 24.0
    c.train.update(epochs=800, log_every=100, knn_every=50, checkpoint_every=50)
    return base.smoke(c) if smoke else c
