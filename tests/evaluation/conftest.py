"""A finished run of the tiny experiment."""

import dataclasses

import jax
import pytest
import tiny

from igm_jax.training import loop


@dataclasses.dataclass(frozen=True)
class Finished:
    """Where a run is, with its store and config; its best checkpoint is step 5, its last 10."""

    folder: object
    store: object
    config: object


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    root = tmp_path_factory.mktemp("evaluation")
    store = tiny.write_store(root / "store")
    config = tiny.config(
        {
            "objective.feature_weight": 0,
            "objective.distribution_weight": 0,
            "optimizer.learning_rate": 0.01,
        }
    )
    accuracy = iter([0.9, 0.5])
    evaluated = lambda *_, **__: {"val_knn_1": next(accuracy)}  # noqa: E731
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "evaluate", evaluated)
        loop.pretrain(config, store, root / "runs" / "tiny", devices=jax.devices()[:1])
    return Finished(root / "runs" / "tiny", store, config)
