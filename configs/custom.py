"""Your own skeletons, 2-D or 3-D, with any joints. For two CPU cores.

docs/own_data.md explains its use. Joints, coordinates (two or three) and the number
of bodies are those of the store. `experiments/prepare_data.py` suggests the flags for your clips.
Without them the choices are careful: clips are not mirrored and little rotated
(`data.camera=fixed`). A run has 3,000 steps, or 200 passes over the clips if that is more.
"""

from configs import base


def get_config(variant: str | None = None):
    """`variant` is `xsub` or `split` (the column of labels.csv), with or without `-smoke`."""
    protocol, smoke = base.variants(variant, ("xsub", "split"))
    c = base.get_config()
    c.name = f"custom-{protocol}"
    c.data.update(
        dataset="custom",
        path="data/custom",
        protocol=protocol,
        coordinates="centred",
        bodies=0,
        camera="fixed",
        min_crop_frames=16,
    )
    base.small_networks(c)
    c.model.encoder.update(joints=0, channels=0)
    c.optimizer.warmup_epochs = 10.0
    c.train.update(epochs=200, min_epoch_steps=15, log_every=100)
    return base.smoke(c) if smoke else c
