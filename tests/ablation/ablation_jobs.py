"""Jobs of a small grid, and the files of a finished run."""

import json

import tiny

from igm_jax.ablation import plan as ablation
from igm_jax.training.mapping import to_mapping

ROWS = {"first": {}, "second row": {"objective.mask_ratio": 0.25}}


def plan(out, rows=ROWS, seeds=(0, 1), given=None, config=None):
    config = config or tiny.config(given)
    return ablation.plan(config, rows, seeds, out, config_file="configs/x.py", given=given or {})


def finish(job, linear=50.0, nearest=40.0, rank=5.0, step=10):
    """The files of a finished run, with these numbers and larger ones on the test split."""
    job.folder.mkdir(parents=True, exist_ok=True)
    (job.folder / "config.json").write_text(json.dumps(to_mapping(job.config)))
    reports = []
    for at, epoch in ((5, 1.0), (step, float(job.config.train.epochs))):
        reports += [{"step": at, "epoch": epoch}]
        reports += [{"step": at, "val_effective_rank": rank + step - at}] if rank else []
    (job.folder / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in reports))
    for probe, row in (
        ("linear_probe", {"validation_linear": linear, "test_linear": linear + 1}),
        (
            "knn",
            {
                "validation_knn_1": nearest,
                "validation_knn_20": nearest + 2,
                "test_knn_1": nearest + 1,
                "test_knn_20": nearest + 3,
            },
        ),
    ):
        content = {"step": step, "rows": [row, {"features": "raw"}]}
        (job.folder / f"{probe}.json").write_text(json.dumps(content))
