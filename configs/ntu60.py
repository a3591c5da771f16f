"""NTU RGB+D 60 at the paper's size: `configs/ntu60.py:xsub` or `:xview`.

The paper reports 86.2 % (xsub) and 91.2 % (xview) linear probe accuracy.
"""

from configs import base


def get_config(variant: str | None = None):
    """Paper size; `variant` is a protocol, with or without `-smoke`."""
    protocol, smoke = base.variants(variant, ("xsub", "xview"))
    c = base.get_config()
    c.name = f"ntu60-{protocol}"
    c.data.update(dataset="ntu60", path="data/ntu60", protocol=protocol, bodies=2)
    c.model.encoder.dtype = c.model.generator.dtype = "bfloat16"
    return base.smoke(c) if smoke else c
