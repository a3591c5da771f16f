"""A stream is predicted as the clips that its last frames are, and bad lines are named."""

import dataclasses

import numpy as np
import pytest
import tiny

from igm_jax.errors import InputError
from igm_jax.prediction.watch import frames_of_lines, warm_up, watch


def lines(frames, separator=" "):
    return [separator.join(f"{x:.9g}" for x in frame.ravel()) + "\n" for frame in frames]


def parsed(text, bodies=2):
    return list(frames_of_lines(text, tiny.LAYOUT, 3, bodies))


@pytest.mark.parametrize("separator", [" ", ",", ", ", "\t"])
def test_frames_come_back_from_text(clips, separator):
    frames = clips[0].frames.swapaxes(0, 1)  # [T, M, V, C]
    text = ["# x y z of every joint\n", "\n", *lines(frames, separator)]
    np.testing.assert_array_equal(np.stack(parsed(text)), frames)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("1 2 3", r"line 2: has 3 numbers, not 18: 6 joints \(tiny6\) of 3 coordinates"),
        (" ".join(["1"] * 54), r"has 54 numbers, not 18: .* for 1 to 2 bodies"),
        ("1 2 x", "line 2: .*'x'"),
    ],
)
def test_bad_lines_are_named(text, told):
    with pytest.raises(InputError, match=told):
        parsed(["# comment", text])


def test_answers_are_those_of_the_last_frames(predictor, clips):
    """Read one by one: an answer comes before the next frame is asked for."""
    clip = next(c for c in clips if len(c.frames) == 1 and c.frames.shape[1] >= 11)
    given, read = clip.frames.swapaxes(0, 1)[:11], []

    def frames():
        for frame in given:
            read.append(frame)
            yield frame

    answers = []
    for answer in watch(predictor, frames(), length=5, stride=3):
        assert len(read) == answer.frame
        answers.append(answer)
    assert [a.frame for a in answers] == [5, 8, 11]
    for answer in answers:
        part = clip.frames[:, answer.frame - 5 : answer.frame]
        expected = predictor.probabilities([dataclasses.replace(clip, frames=part)])[0]
        np.testing.assert_allclose(answer.probabilities, expected, atol=1e-6)
    (short,) = watch(predictor, given[:3], length=5, stride=3)  # the end comes first
    assert short.frame == 3 and short.probabilities is not None
    assert [a.frame for a in watch(predictor, given[:7], length=5, stride=3)] == [5, 7]


def test_missing_joints_and_bodies_that_come_and_go(predictor, clips):
    clip = next(c for c in clips if len(c.frames) == 2)
    frames = [*clip.frames.swapaxes(0, 1)[:6]]
    frames[1], frames[4] = frames[1][:1], frames[4].copy()
    frames[4][0, 3] = np.nan
    *_, answer = watch(predictor, frames, length=6, stride=1)
    assert answer.problem == "" and np.isfinite(answer.probabilities).all()
    nobody = [np.full_like(frames[0], np.nan)] * 6
    (answer,) = watch(predictor, nobody, length=6, stride=1)
    assert answer.probabilities is None and "shows nobody" in answer.problem
    with pytest.raises(InputError, match="no frame has come"):
        list(watch(predictor, [], length=6, stride=1))


def test_frames_in_other_units_get_no_answer(predictor, clips):
    frames = clips[0].frames.swapaxes(0, 1)[:6] * np.float32(1000)
    reading = predictor.run.reading.standardised(np.full(3, 0.1), np.full(3, 0.5))
    run = dataclasses.replace(predictor.run, reading=reading)
    (answer,) = watch(dataclasses.replace(predictor, run=run), frames, length=6, stride=1)
    assert answer.probabilities is None and "times as large as" in answer.problem


def test_warm_up_calls_the_networks_for_every_number_of_bodies(predictor):
    seen, other = [], dataclasses.replace(predictor)

    def compiled(clip, present):
        seen.append((clip.shape, present.all()))
        return np.zeros((1, 3), np.float32)

    vars(other)["_compiled"] = compiled
    warm_up(other)
    assert seen == [((1, m, 8, 6, 3), True) for m in (1, 2)]
