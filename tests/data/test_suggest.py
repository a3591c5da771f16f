"""Suggested config keys, for stores whose cameras, classes and facing are known."""

import dataclasses

import numpy as np
import pytest
import tiny

from configs import custom
from igm_jax.data.store import Clip, SkeletonStore
from igm_jax.data.suggest import BATCH_SIZE, direction_classes, facing_spread, suggest, width_spread
from igm_jax.training.config import ExperimentConfig
from igm_jax.training.config_data import CAMERAS
from igm_jax.training.mapping import from_mapping, to_mapping

PLAIN = dataclasses.replace(tiny.LAYOUT, axes=None)


def turned(degrees):
    """The rotation about y that a person makes who turns by so many degrees."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


@pytest.fixture
def store_of(tmp_path):
    """Writes a store with a clip for each facing in degrees."""

    def store_of(
        facings,
        *,
        cameras=(1,),
        classes=("a", "b"),
        layout=tiny.LAYOUT,
        bodies=(1,),
        axes=None,
        channels=3,
        subjects=(1,),
    ):
        axes = np.eye(3) if axes is None else axes
        body = np.array(
            [[0, 0, 0], [0, 0.5, 0], [0.1, 0, 0], [-0.1, 0, 0], [0.4, 0.3, 0], [-0.4, 0.3, 0]]
        )
        clips = [
            Clip(
                f"clip{i}",
                np.tile(
                    (body @ turned(degrees).T @ axes + [0, 0, 3])[:, :channels],
                    (bodies[i % len(bodies)], 20, 1, 1),
                ).astype(np.float32),
                i % len(classes),
                subject=subjects[i % len(subjects)],
                camera=cameras[i % len(cameras)],
            )
            for i, degrees in enumerate(facings)
        ]
        path = tmp_path / f"store{len(list(tmp_path.iterdir()))}"
        SkeletonStore.write(
            path, clips, layout=layout, class_names=classes, source="tests", dataset="custom"
        )
        return SkeletonStore.open(path)

    return store_of


def keys(store):
    return {found.key: found.value for found in suggest(store)}


ALIKE, MANY = (-5, 0, 3, 5), (-60, 10, 60, 0)


def test_spread_against_circular_statistics_of_scipy(store_of):
    from scipy import stats

    for facings in (ALIKE, MANY, (170, -170, 175, 181)):
        expected = stats.circstd(facings, high=180, low=-180)
        assert facing_spread(store_of(facings)) == pytest.approx(expected, rel=1e-4)
    z_up = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]], float)
    flat = facing_spread(store_of(MANY, axes=z_up))
    assert flat == pytest.approx(facing_spread(store_of(MANY)), rel=1e-4)
    assert facing_spread(store_of((0, 180))) > 300


def test_spread_is_unknown_without_axes(store_of):
    assert facing_spread(store_of(MANY, layout=PLAIN)) is None
    assert facing_spread(store_of(MANY, layout=PLAIN, channels=2)) is None


@pytest.mark.parametrize(
    ("facings", "options", "expected"),
    [
        (ALIKE, {}, "fixed"),
        (MANY, {}, "moving"),
        # The facing counts more than the table, where it is known.
        (ALIKE, {"cameras": (1, 2)}, "fixed"),
        (MANY, {"cameras": (0,)}, "moving"),
        (MANY, {"layout": PLAIN}, "fixed"),
        (MANY, {"layout": PLAIN, "cameras": (0,)}, "fixed"),
        (MANY, {"layout": PLAIN, "cameras": (1, 2)}, "moving"),
        (ALIKE, {"layout": PLAIN, "channels": 2, "cameras": (1, 2)}, "moving"),
        (ALIKE, {"channels": 2}, "fixed"),
        (MANY, {"channels": 2}, "moving"),
        (MANY, {"layout": dataclasses.replace(PLAIN, pairs=()), "channels": 2}, "fixed"),
    ],
)
def test_camera(store_of, facings, options, expected):
    assert keys(store_of(facings, **options))["data.camera"] == expected


def test_spread_of_widths(store_of):
    """The shoulders of the body here are 0.2 apart, its hands 0.8."""
    store = store_of(MANY, channels=2)
    expected = []
    for frame in (store[i].frames[0, 0] for i in range(len(store))):
        pairs = [frame[a, 0] - frame[b, 0] for a, b in store.layout.pairs]
        size = np.sqrt(((frame - frame.mean(axis=0)) ** 2).sum(axis=1).mean())
        expected.append(np.median(pairs) / size)
    expected = np.std(expected) / np.mean(np.abs(expected))
    assert width_spread(store) == pytest.approx(expected, rel=1e-6) and expected > 0.16
    assert width_spread(store_of(ALIKE, channels=2)) < 0.01
    assert width_spread(store_of(MANY)) is None
    assert "their widths vary by 0%" in suggest(store_of(ALIKE, channels=2))[0].reason


def test_reasons_name_the_facts(store_of):
    reason = suggest(store_of(MANY, cameras=(1, 2)))[0].reason
    assert reason == (
        "people are seen from many sides (they face ± 44° in the first frames); 2 cameras"
    )
    reason = suggest(store_of(ALIKE, classes=("swipe left", "b"), cameras=(0,)))[0].reason
    assert "one side" in reason and "± 4°" in reason
    assert reason.endswith(
        "the camera is not known; classes have a direction, such as 'swipe left'"
    )


def test_classes_of_left_and_right_are_not_mirrored(store_of):
    sided = store_of(MANY, classes=("swipe left", "b"))
    assert keys(sided) == {
        "data.camera": "moving",
        "data.coordinates": "posture",
        "data.mirror": 0.0,
    }
    assert "data.mirror" not in keys(store_of(MANY))
    assert "data.mirror" not in keys(store_of(ALIKE, classes=("swipe left", "b")))
    lone = dataclasses.replace(tiny.LAYOUT, pairs=())
    assert keys(store_of(MANY, layout=lone))["data.mirror"] == 0.0


def test_words_for_directions():
    sided = ("draw circle (counter clockwise)", "turn-right", "left", "LeftSwipe", "R2 ccw")
    assert direction_classes(("wave", *sided, "bright", "cleft", "7")) == list(sided)


def test_coordinates_and_bodies(store_of):
    assert keys(store_of(ALIKE))["data.coordinates"] == "posture"
    assert keys(store_of(ALIKE, layout=PLAIN))["data.coordinates"] == "centred"
    assert keys(store_of(ALIKE, layout=PLAIN, channels=2))["data.coordinates"] == "posture"
    assert "data.bodies" not in keys(store_of(ALIKE))
    assert "data.bodies" not in keys(store_of(ALIKE, bodies=(1, 2)))
    rare = store_of((0,) * 30, bodies=(2, *(1,) * 29))
    assert keys(rare)["data.bodies"] == 1


def test_batch_of_a_small_store(store_of):
    """The largest power of two that the training clips fill: those of the odd subjects."""
    batch = lambda *facings, **who: keys(store_of(facings, **who)).get("train.batch_size")  # noqa: E731
    assert batch(*[0] * 45, subjects=(1, 2, 3)) == 16
    assert batch(*[0] * 96, subjects=(1, 2, 3)) is None
    assert batch(0, 0, 0) is None, "one person leaves nobody to validate on"


def test_suggestions_are_keys_of_the_config(store_of):
    plain = from_mapping(ExperimentConfig, custom.get_config().to_dict())
    rare = store_of(MANY * 8, classes=("left", "right"), bodies=(2, *(1,) * 31), subjects=(1, 3))
    found = suggest(rare)
    assert len(found) == 5 and plain.train.batch_size == BATCH_SIZE
    values = to_mapping(plain)
    for suggestion in found:
        group, _, key = suggestion.key.partition(".")
        values[group][key] = suggestion.value
    data = from_mapping(ExperimentConfig, values).data
    assert data.augmentation == dataclasses.replace(CAMERAS["moving"], mirror=0.0)
    assert (data.coordinates, data.bodies) == ("posture", 1)
