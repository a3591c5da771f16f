"""PKU-MMD, phase I or II, at the paper's size: `configs/pku_mmd.py:xsub` or `:xview`."""

from configs import base


def get_config(variant: str | None = None):
    """Paper size; `variant` is a protocol, with or without `-smoke`."""
    protocol, smoke = base.variants(variant, ("xsub", "xview"))
    c = base.get_config()
    c.name = f"pku_mmd-{protocol}"
    c.data.update(dataset="pku_mmd", path="data/pku_mmd", protocol=protocol, bodies=2)
    c.model.encoder.dtype = c.model.generator.dtype = "bfloat16"
    return base.smoke(c) if smoke else c
