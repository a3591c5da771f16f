"""Metrics are compiled once for each shape, not once for each call."""

import jax
import numpy as np
import pytest

from igm_jax import metrics

CALLS = {
    "knn": lambda x, y: metrics.knn_ranks(x, x, y, k=3, num_classes=3),
    "weighted knn": lambda x, y: metrics.knn_ranks(x, x, y, k=3, num_classes=3, temperature=0.1),
    "prototypes": lambda x, y: metrics.few_shot_accuracy(x, _episodes(y), shots=1),
    "few-shot knn": lambda x, y: metrics.few_shot_accuracy(x, _episodes(y), shots=1, method="knn"),
    "uniformity": lambda x, y: metrics.uniformity(x),
    "retrieval": lambda x, y: metrics.retrieval_within(x, y, ks=(1, 2)),
    "ridge": lambda x, y: metrics.fit_ridge(x, y, num_classes=3),
    "k-means": lambda x, y: metrics.kmeans(jax.random.key(0), x, 3, restarts=2, iterations=2),
    "precision": lambda x, y: metrics.manifold_precision_recall(x, x, k=2),
    "diversity": lambda x, y: metrics.diversity(x),
}
EVENT = "/jax/core/compile/backend_compile_duration"


def _episodes(labels):
    return metrics.draw_episodes(labels, ways=3, shots=1, queries=2, episodes=4)


@pytest.fixture
def compiled():
    """Counts what is compiled, or read from the cache on disk."""
    found = []

    def listen(event, duration, **_):
        if event == EVENT:
            found.append(duration)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield found
    jax.monitoring.unregister_event_duration_listener(listen)


@pytest.mark.parametrize("name", CALLS)
def test_a_second_call_compiles_nothing(compiled, name):
    labels = np.arange(24, dtype=np.int32) % 3
    draw = np.random.default_rng(0)
    one, other = draw.normal(size=(2, 24, 5)).astype(np.float32)
    jax.block_until_ready(CALLS[name](one, labels))
    assert compiled
    compiled.clear()
    jax.block_until_ready(CALLS[name](other, labels))
    assert not compiled
