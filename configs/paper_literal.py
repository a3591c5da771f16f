"""The paper as written, for any data set: `configs/paper_literal.py:ntu60-xview`.

It changes the config of a data set (default `nw_ucla`): one view of a clip, joints only, 0.9 of
the tokens hidden, both idempotency losses with λ = 1 on clips generated at nearly every t,
auxiliary tokens, no teacher, no entropy term. docs/method.md compares it with our recipe. On
the thousand clips of Northwestern-UCLA it collapses (docs/experiments.md, 23).
"""

import importlib
import pathlib

# All configs of data sets.
DATASETS = sorted(
    file.stem
    for file in pathlib.Path(__file__).parent.glob("*.py")
    if file.stem not in ("__init__", "base", "paper_literal")
)


def get_config(variant: str | None = None):
    """`variant` is a data set, with or without a variant of its own: `nw_ucla-smoke`."""
    dataset, _, rest = (variant or "nw_ucla").partition("-")
    if dataset not in DATASETS:
        raise ValueError(
            f"config variant {variant!r} is unknown: use one of {', '.join(DATASETS)}, with one "
            "of its own variants behind it, as in ntu60-xview"
        )
    c = importlib.import_module(f"configs.{dataset}").get_config(rest or None)
    c.name = f"paper-literal-{c.name}"
    c.data.update(
        coordinates="centred", streams=("joint",), crops=1, mirror=0.0, rotation=(0.3, 0.3, 0.3)
    )
    c.data.batches = "mixed"
    if c.model.encoder.patch_joints == 0:  # a small set: no more tokens than two cores can compute
        c.model.encoder.update(frames=32, depth=2)
    c.model.encoder.update(patch_frames=4, patch_joints=1, stretches=1)
    c.model.encoder.channels = min(3, c.model.encoder.channels)  # 0 stays 0
    c.objective.update(
        mask_ratio=0.9,
        reencode_mask_ratio=0.9,
        condition_drop=0.1,
        feature_weight=1.0,
        distribution_weight=1.0,
        entropy_weight=0.0,
        ramp_epochs=min(20, c.train.epochs // 2),
        aux_tokens=True,
        own_t=False,
        max_t_share=0.9,
    )
    return c
