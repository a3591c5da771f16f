"""Windows cover a recording, each is predicted as a clip of its own, and tables hold them all."""

import csv
import dataclasses

import numpy as np
import pytest

from igm_jax.errors import InputError
from igm_jax.prediction.timeline import save_table, timeline, windows


@pytest.mark.parametrize("frames", [1, 3, 4, 9, 40])
@pytest.mark.parametrize(("length", "stride"), [(1, 1), (4, 1), (4, 3), (4, 9)])
def test_windows_cover_the_recording(frames, length, stride):
    places = windows(frames, length, stride)
    assert places[0, 0] == 0 and places[-1, 1] == frames
    assert (places[:, 1] - places[:, 0] == min(length, frames)).all()
    steps = np.diff(places[:, 0])
    assert (steps[:-1] == stride).all() and (steps > 0).all() and (steps <= stride).all()
    if stride <= length:
        assert {i for a, b in places for i in range(a, b)} == {*range(frames)}


def test_a_window_is_a_clip_of_its_own(predictor, clips):
    clip = clips[0]  # of two bodies
    found = timeline(predictor, clip, 5, 2)
    for (a, b), row in zip(found.windows, found.probabilities, strict=True):
        part = dataclasses.replace(clip, frames=clip.frames[:, a:b])
        np.testing.assert_allclose(row, predictor.probabilities([part])[0], atol=1e-5)
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1)
    with pytest.raises(InputError, match="stride=0"):
        windows(9, 3, 0)


def test_tables_hold_all_windows(predictor, clips, tmp_path):
    found = [timeline(predictor, clip, 5, 2) for clip in clips[:2]]
    save_table(tmp_path / "new" / "t.csv", found)
    with (tmp_path / "new" / "t.csv").open(encoding="utf-8", newline="") as file:
        head, *rows = csv.reader(file)
    assert head == ["clip", "start", "stop", "action", "probability", *predictor.head.class_names]
    probabilities = np.concatenate([x.probabilities for x in found])
    np.testing.assert_allclose(np.array([r[5:] for r in rows], float), probabilities, atol=1e-6)
    assert [r[3] for r in rows] == [head[5 + i] for i in probabilities.argmax(axis=1)]
    assert [r[0] for r in rows] == [x.name for x in found for _ in x.windows]
    starts = np.concatenate([x.windows for x in found])
    np.testing.assert_array_equal(np.array([r[1:3] for r in rows], int), starts)


def test_the_picture_shows_the_likely_classes(predictor, clips):
    drawing = pytest.importorskip("igm_jax.drawing")
    found = timeline(predictor, clips[1], 5, 2)
    names = tuple(f"class {i}" for i in range(20))
    probabilities = np.zeros((len(found.windows), 20))
    probabilities[:, :3] = found.probabilities
    figure = drawing.timeline_picture("a $name", found.windows, probabilities, names)
    axes = figure.axes[0]
    labels = [text.get_text() for text in axes.get_yticklabels()]
    assert len(labels) == 12 and labels[:3] == ["class 0", "class 1", "class 2"]
    assert axes.get_xlim() == (0, clips[1].frames.shape[1])
    (marks,) = axes.lines
    np.testing.assert_array_equal(marks.get_ydata(), probabilities.argmax(axis=1) + 0.5)
    figure.canvas.draw()
