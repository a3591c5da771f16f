"""A dense .npz of MAMP or CTR-GCN at the paper's size, with the split of the file."""

from configs import base


def get_config(variant: str | None = None):
    """Paper size; `variant` is `split` or `smoke`."""
    protocol, smoke = base.variants(variant, ("split",))
    c = base.get_config()
    c.name = "mamp_npz"
    c.data.update(dataset="mamp_npz", path="data/mamp_npz", protocol=protocol, bodies=2)
    c.model.encoder.dtype = c.model.generator.dtype = "bfloat16"
    return base.smoke(c) if smoke else c
