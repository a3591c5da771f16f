"""NTU RGB+D 120 at the paper's size: `configs/ntu120.py:xsub` or `:xset`.

The paper reports 80.0 % (xsub) and 81.4 % (xset) linear probe accuracy.
"""

from configs import base


def get_config(variant: str | None = None):
    """Paper size; `variant` is a protocol, with or without `-smoke`."""
    protocol, smoke = base.variants(variant, ("xsub", "xset"))
    c = base.get_config()
    c.name = f"ntu120-{protocol}"
    c.data.update(dataset="ntu120", path="data/ntu120", protocol=protocol, bodies=2)
    c.model.encoder.dtype = c.model.generator.dtype = "bfloat16"
    return base.smoke(c) if smoke else c
