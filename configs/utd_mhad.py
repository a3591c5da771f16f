"""UTD-MHAD, cross-subject: trains on the odd subjects, tests on the even ones. For two CPU cores.

The camera and the side of the body never change, and some classes differ only in the direction
of a gesture (swipe left and right, circles both ways, sit and stand). So `data.camera` is fixed.
There are only 431 training clips, so there are more epochs and a smaller queue.
"""

from configs import base


def get_config(variant: str | None = None):
    """`variant` is `xsub` or `smoke`."""
    protocol, smoke = base.variants(variant, ("xsub",))
    c = base.get_config()
    c.name = "utd_mhad"
    c.data.update(
        dataset="utd_mhad",
        path="data/utd_mhad",
        protocol=protocol,
        camera="fixed",
        min_crop_frames=16,
    )
    base.small_networks(c)
    c.model.encoder.joints = 20
    c.objective.update(queue_size=320, ramp_epochs=20)
    c.optimizer.warmup_epochs = 20.0
    c.train.update(epochs=150, log_every=100, knn_every=50, checkpoint_every=50)
    return base.smoke(c) if smoke else c
