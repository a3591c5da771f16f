"""The named grids of ablations: row → config key → value."""

from typing import Any

from igm_jax.skeleton import STREAMS

_L_GEN_ALONE = {
    "objective.feature_weight": 0.0,
    "objective.distribution_weight": 0.0,
    "objective.entropy_weight": 0.0,
}
# The baselines that hide tokens read one view of the joints, in the plane or in space.
_ONE_VIEW = {"data.crops": 1, "data.streams": ("joint",), "model.encoder.channels": 0}

_MASKED_DIFFUSION = {"objective.name": "igm", "data.crops": 1, **_L_GEN_ALONE}
# A slow teacher, whose features of a second view are the targets.
_TEACHER = {"data.crops": 2, "objective.ema_decay": 0.99}

# Settings of rows of the poster. docs/results.md has the search on validation clips.
_SLOWER = {"optimizer.learning_rate": 5e-4}
# A projector of 128 numbers, and a queue of half of the clips (0).
_PROJECTED = {"model.projector_width": 128, "objective.queue_size": 0}


def _streams(keys: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """A row for each stream; experiments/ensemble.py adds their scores. 0: channels of the data."""
    one = {"model.encoder.channels": 0}
    return {stream: {**keys, "data.streams": (stream,), **one} for stream in STREAMS}


# The first row of a grid is the one that the others are compared to.
GRIDS: dict[str, dict[str, dict[str, Any]]] = {
    "constraints": {
        "L_gen alone": _L_GEN_ALONE,
        "feature": {"objective.distribution_weight": 0.0},
        "distribution": {"objective.feature_weight": 0.0},
        "both": {},
    },
    # Values of data.camera. The third is for many cameras and classes of left and right.
    "augmentation": {
        "fixed": {"data.camera": "fixed"},
        "moving": {"data.camera": "moving"},
        "moving, not mirrored": {"data.camera": "moving", "data.mirror": 0.0},
    },
    "objectives": {
        "masked_autoencoding": {"objective.name": "masked_autoencoding", **_ONE_VIEW},
        "motion_prediction": {"objective.name": "motion_prediction", **_ONE_VIEW},
        "masked diffusion": _MASKED_DIFFUSION,
        "spectral_contrastive": {"objective.name": "spectral_contrastive", "data.crops": 2},
        "momentum_contrast": {"objective.name": "momentum_contrast", **_TEACHER},
        "igm": {"objective.name": "igm"},
    },
    # The ideas of the systems in the poster's table of results, all with one encoder and one data
    # pipeline. docs/objectives.md says how each differs from the published system.
    "poster": {
        "IGM": {"objective.name": "igm"},
        "SkeletonMAE": {
            "objective.name": "masked_autoencoding",
            "objective.masking": "joints_and_frames",
            **_ONE_VIEW,
            **_SLOWER,
        },
        "MAMP": {"objective.name": "motion_prediction", **_ONE_VIEW, **_SLOWER},
        "GL-Transformer": {
            "objective.name": "displacement_prediction",
            "objective.mask_ratio": 0.0,
            **_ONE_VIEW,
        },
        "Colorization": {
            "objective.name": "colorization",
            "objective.mask_ratio": 0.0,
            "data.crops": 1,
            "model.encoder.positions": False,
        },
        "MacDiff": {
            **_MASKED_DIFFUSION,
            "model.adapter.eta": 0.0,
            "objective.condition_drop": 0.1,
        },
        "spectral contrast": {"objective.name": "spectral_contrastive", "data.crops": 2},
        "SkeletonCLR": {"objective.name": "momentum_contrast", **_TEACHER},
        "MCR2": {"objective.name": "coding_rate", "data.crops": 2},
        "AimCLR": {
            "objective.name": "extreme_contrast",
            "objective.mined_positives": 1,
            **_TEACHER,
            **_PROJECTED,
        },
        "CRRL": {
            "objective.name": "motion_contrast",
            "objective.mask_ratio": 0.0,
            "objective.ema_decay": 0.99,
            **_ONE_VIEW,
            **_PROJECTED,
        },
        "CPM": {"objective.name": "positive_mining", **_TEACHER, **_PROJECTED},
        "CMD": {
            "objective.name": "mutual_distillation",
            "data.streams": ("joint", "motion", "bone"),
            "model.encoder.channels": 0,
            "model.encoder.towers": 3,
            **_TEACHER,
            **_PROJECTED,
        },
        "ActCLR": {
            "objective.name": "actionlet_contrast",
            "objective.mask_ratio": 0.0,
            "objective.target_temperature": 0.04,
            **_TEACHER,
        },
        "PCM3": {
            "objective.name": "masked_contrast",
            "objective.mask_ratio": 0.6,
            **_ONE_VIEW,
            **_TEACHER,
            **_PROJECTED,
        },
    },
    "streams": _streams({}),
    # The poster's ablation over t: the largest t of L_ide, from which x̂0 is made.
    "t": {
        f"max_t {share:g} K": {"objective.max_t_share": share}
        for share in (0.15, 0.05, 0.3, 0.6, 0.9)
    },
    # The t of x̂0: of its own, or that of L_gen; clips beyond the largest t are left out then.
    "clean_t": {
        "own, max_t 0.15 K": {"objective.own_t": True, "objective.max_t_share": 0.15},
        **{
            f"that of L_gen, max_t {share:g} K": {
                "objective.own_t": False,
                "objective.max_t_share": share,
            }
            for share in (0.15, 0.9)
        },
    },
    # The t' of the noisy feature in the auxiliary tokens.
    "feature_t": {
        "no auxiliary tokens": {"objective.aux_tokens": False},
        **{
            f"t' up to {share:g} K": {
                "objective.aux_tokens": True,
                "objective.max_feature_t_share": share,
            }
            for share in (1.0, 0.5, 0.1)
        },
    },
    # The weights λ, one at a time.
    "lambda": {
        f"feat {feature:g}, dist {distribution:g}, entropy {entropy:g}": {
            "objective.feature_weight": feature,
            "objective.distribution_weight": distribution,
            "objective.entropy_weight": entropy,
        }
        for feature, distribution, entropy in (
            (1.0, 0.1, 8.0),
            (0.25, 0.1, 8.0),
            (4.0, 0.1, 8.0),
            (1.0, 0.0, 8.0),
            (1.0, 1.0, 8.0),
            (1.0, 0.1, 0.0),
            (1.0, 0.1, 2.0),
            (1.0, 0.1, 32.0),
        )
    },
    # The strength η of the adapter h.
    "eta": {f"eta {eta:g}": {"model.adapter.eta": eta} for eta in (0.1, 0.0, 0.5, 1.0)},
}
# The rows of the poster that are published with three streams ("3s"). CMD has all three in one run.
GRIDS |= {
    f"{name.lower()}_streams": _streams(GRIDS["poster"][name])
    for name in ("AimCLR", "ActCLR", "Colorization")
}
