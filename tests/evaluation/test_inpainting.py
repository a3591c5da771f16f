"""Inpainting: what is hidden is never read, what is known is kept, and both are as defined."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

import igm_jax
from igm_jax import diffusion
from igm_jax.errors import InputError
from igm_jax.evaluation import generate, inpainting
from igm_jax.evaluation.generate import LoadedGenerator
from igm_jax.evaluation.given import given_of_store
from igm_jax.models import IGM, apply
from igm_jax.skeleton import STREAMS

POSE = np.random.default_rng(5).normal(size=(6, 3)).astype(np.float32)
HIDDEN = {
    "joints": dict(joints=("left hand", "shoulder centre")),
    "frames": dict(frames=(3, 6)),
    "both": dict(joints=("right hip",), frames=(0, 2)),
}


@pytest.fixture(scope="module")
def generator(finished):
    """A generator of all streams with random weights, so that everything has an influence."""
    run = igm_jax.load_generator(finished.folder).run
    c = run.config.model
    c = dataclasses.replace(c, encoder=dataclasses.replace(c.encoder, channels=9))
    run = dataclasses.replace(
        run,
        config=dataclasses.replace(run.config, model=c),
        reading=dataclasses.replace(
            run.reading, streams=STREAMS, mean=(0.1,) * 9, std=(0.5, 0.6, 0.7) * 3
        ),
    )
    return LoadedGenerator(run, tiny.random_params(IGM(c)))


@pytest.fixture(scope="module")
def given(finished, generator):
    return given_of_store(finished.store, np.arange(6), generator.run.reading)


def hidden_of(generator, name):
    return inpainting.hidden_part(generator.run.reading, **HIDDEN[name])


@pytest.mark.parametrize("name", HIDDEN)
def test_hidden_values_change_nothing_and_known_ones_are_kept(generator, given, name):
    """Even NaN in the hidden part leaves the output as it is, bit for bit."""
    hidden = hidden_of(generator, name)
    setting = {"pose": POSE, "seed": 4}
    made = generator.inpaint(given, hidden, 3, **setting)
    np.testing.assert_array_equal(made[:, :, ~hidden], given.clip[:, :, ~hidden])
    assert inpainting.hidden_error(made, given.clip, given.present, hidden) > 0.01
    spoilt = given._replace(clip=np.where(hidden[..., None], np.float32(np.nan), given.clip))
    np.testing.assert_array_equal(generator.inpaint(spoilt, hidden, 3, **setting), made)
    from_guess = generator.inpaint(spoilt, hidden, 3, start=50, **setting)
    assert np.isfinite(from_guess).all() and np.abs(from_guess - made).max() > 0.01


@pytest.mark.parametrize("start", [None, 40])
def test_inpainting_is_ddim_beside_the_noised_clip(generator, given, start):
    """Against a loop over steps, joints and streams for one clip."""
    hidden, index, seed, steps = hidden_of(generator, "frames"), 1, 7, 3
    run, reading = generator.run, generator.run.reading
    found = generator.inpaint(given, hidden, steps, pose=POSE, start=start, seed=seed)[index]
    guess = given.clip[index].copy()
    for t, share in ((3, 0.25), (4, 0.5), (5, 0.75)):  # between the frames 2 and 6
        guess[:, t] = (1 - share) * guess[:, 2] + share * guess[:, 6]
    rows = reading(jnp.asarray(guess))
    known = np.ones(rows.shape, bool)
    for t in range(8):
        known[:, t, :, :6] = t not in (3, 4, 5)  # joint and bone
        known[:, t, :, 6:] = t not in (2, 3, 4, 5)  # motion: this frame and the next
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), index), 1)
    noise = np.asarray(jax.random.normal(key, rows.shape))
    model, objective = IGM(run.config.model), run.config.objective
    alpha = np.asarray(diffusion.alpha_bar(objective.schedule, objective.diffusion_steps))
    tokens = apply(model, generator.params, rows, method="encode")
    condition = apply(model, generator.params, tokens, None, method="condition")
    times = (
        np.linspace(generator.most_ddim_steps - 1 if start is None else start, 0, steps)
        .round()
        .astype(int)
    )
    noised = lambda t: np.sqrt(alpha[t]) * rows + np.sqrt(1 - alpha[t]) * noise  # noqa: E731
    x = noise if start is None else noised(start)
    for t, after in zip(times, [*times[1:], None]):
        x = jnp.where(known, noised(t), x)
        step, signal = jnp.full(len(rows), t), jnp.full(len(rows), alpha[t])
        predicted = apply(model, generator.params, x, condition, step, signal, method="generate")
        clean = (x - np.sqrt(1 - alpha[t]) * np.asarray(predicted)) / np.sqrt(alpha[t])
        clean = np.clip(clean, -objective.clean_clip, objective.clean_clip)
        direction = (x - np.sqrt(alpha[t]) * clean) / np.sqrt(1 - alpha[t])
        if after is not None:
            x = np.sqrt(alpha[after]) * clean + np.sqrt(1 - alpha[after]) * direction
    metres = clean[..., :3] * np.array(reading.std[:3]) + np.array(reading.mean[:3])
    expected = np.where(hidden[..., None], metres, given.clip[index])
    expected = np.where(given.present[index][:, None, None, None], expected, 0)
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_known_streams_are_those_that_hidden_joints_do_not_move(generator):
    reading, rng = generator.run.reading, np.random.default_rng(0)
    for name in HIDDEN:
        hidden = hidden_of(generator, name)
        clip = rng.normal(size=(8, 6, 3)).astype(np.float32)
        moved = clip + hidden[..., None].astype(np.float32) * rng.normal(size=clip.shape)
        changed = np.asarray(reading(clip)) != np.asarray(reading(moved.astype(np.float32)))
        changed[:, 0, 3:6] = hidden[:, [0]]  # the root has no bone, its zero stays
        np.testing.assert_array_equal(~inpainting.known_streams(hidden, reading), changed)


def test_batches_and_seeds(monkeypatch, generator, given):
    hidden = hidden_of(generator, "both")
    make = lambda seed: generator.inpaint(given, hidden, 2, pose=POSE, seed=seed)  # noqa: E731
    whole = make(1)
    np.testing.assert_array_equal(make(1), whole)
    assert np.abs(make(2) - whole).max() > 0.01
    monkeypatch.setattr(generate, "BATCH_SIZE", 4)
    np.testing.assert_allclose(make(1), whole, atol=1e-5)


def test_the_guess_puts_joints_beside_their_neighbours(generator):
    """The hand beside the shoulder, which stands beside the hip and its other hand."""
    clip = np.random.default_rng(1).normal(size=(2, 8, 6, 3)).astype(np.float32)
    hidden = hidden_of(generator, "joints")
    guess = inpainting.filled(clip, hidden, POSE, tiny.LAYOUT)
    hip, shoulder, left, right = 0, 1, 4, 5
    beside = [clip[..., n, :] + POSE[shoulder] - POSE[n] for n in (hip, right)]
    expected = (beside[0] + beside[1]) / 2
    np.testing.assert_allclose(guess[..., shoulder, :], expected, atol=1e-6)
    expected = expected + POSE[left] - POSE[shoulder]
    np.testing.assert_allclose(guess[..., left, :], expected, atol=1e-6)
    np.testing.assert_array_equal(guess[..., [0, 2, 3, 5], :], clip[..., [0, 2, 3, 5], :])


def test_error_and_mean_pose(finished, generator, given):
    hidden = hidden_of(generator, "both")
    moved = given.clip + np.where(hidden[..., None], np.float32([0.3, 0, 0.4]), 0)
    moved[~given.present] = 100
    found = inpainting.hidden_error(moved, given.clip, given.present, hidden)
    assert found == pytest.approx(0.5, abs=1e-5)
    pose = inpainting.mean_pose(finished.store, np.arange(6), generator.run.reading)
    bodies = [given.clip[i, m].mean(axis=0) for i, m in zip(*np.nonzero(given.present))]
    np.testing.assert_allclose(pose, np.mean(bodies, axis=0), atol=1e-5)


def test_what_is_refused(generator, given):
    reading = generator.run.reading
    part = inpainting.hidden_part
    with pytest.raises(InputError, match=r"no joint 'left hnad' \(did you mean 'left hand'"):
        part(reading, ["left hnad"])
    for span in ((3, 3), (5, 2), (0, 9), (-1, 2)):
        with pytest.raises(InputError, match=rf"{span[0]}:{span[1]} are no range within 0:8"):
            part(reading, frames=span)
    for everything in ({"frames": (0, 8)}, {"joints": tiny.LAYOUT.joints}):
        with pytest.raises(InputError, match="all joints are hidden in all frames"):
            part(reading, **everything)
    with pytest.raises(InputError, match=r"'hip centre' cannot be hidden: it is the origin"):
        part(dataclasses.replace(reading, coordinates="posture"), ["hip centre"])
    with pytest.raises(InputError, match=r"3 DDIM steps are outside 1..2"):
        generator.inpaint(given, hidden_of(generator, "both"), 3, pose=POSE, start=1)
    with pytest.raises(InputError, match=r"hidden is \[8, 6\], True at 0%"):
        generator.inpaint(given, np.zeros((8, 6), bool), 3, pose=POSE)
