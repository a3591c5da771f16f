"""An annotation file of pyskl, 2-D or 3-D, at the paper's size.

The joints, and whether they have two coordinates or three, are those of the store.
"""

from configs import base


def get_config(variant: str | None = None):
    """`variant` is `xsub`, `xview`, `xset` (NTU RGB+D) or `split`, with or without `-smoke`."""
    protocol, smoke = base.variants(variant, ("xsub", "xview", "xset", "split"))
    c = base.get_config()
    c.name = f"pyskl_pkl-{protocol}"
    c.data.update(
        dataset="pyskl_pkl",
        path="data/pyskl_pkl",
        protocol=protocol,
        bodies=2,
    )
    c.model.encoder.update(joints=0, channels=0, dtype="bfloat16")
    c.model.generator.dtype = "bfloat16"
    return base.smoke(c) if smoke else c
