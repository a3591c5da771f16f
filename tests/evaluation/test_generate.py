"""Generated clips: the noise, the condition and the coordinates are what they should be."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import igm_jax
from igm_jax import diffusion
from igm_jax.data import protocols
from igm_jax.errors import InputError
from igm_jax.evaluation import generate, generation_quality
from igm_jax.evaluation.generate import generator_of
from igm_jax.evaluation.given import given_of_store
from igm_jax.models import IGM, apply
from igm_jax.skeleton import COORDINATES


@pytest.fixture(scope="module")
def generator(finished):
    return igm_jax.load_generator(finished.folder)


@pytest.fixture(scope="module")
def given(finished, generator):
    return given_of_store(finished.store, np.arange(6), generator.run.reading)


def test_one_step_is_the_prediction_of_the_generator(generator, given):
    """Against the formulas, for one clip, written out with the model itself."""
    run, t = generator.run, 40
    ours = generator.one_step(given, t, seed=3)
    noised = generator.noised(given, t, seed=3)
    model, reading, objective = IGM(run.config.model), run.reading, run.config.objective
    alpha = diffusion.alpha_bar(objective.schedule, objective.diffusion_steps)[t]
    for i in (0, 4):
        rows = reading(jnp.asarray(given.clip[i]))
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(3), i), 1)
        noise = jax.random.normal(key, rows.shape)
        x_t = jnp.sqrt(alpha) * rows + jnp.sqrt(1 - alpha) * noise
        tokens = apply(model, generator.params, rows, method="encode")
        condition = apply(model, generator.params, tokens, None, method="condition")
        step, signal = jnp.full(len(rows), t), jnp.full(len(rows), alpha)
        predicted = apply(model, generator.params, x_t, condition, step, signal, method="generate")
        clean = (x_t - jnp.sqrt(1 - alpha) * predicted) / jnp.sqrt(alpha)
        clean = np.clip(clean, -objective.clean_clip, objective.clean_clip)
        for found, rows in ((ours[i], clean), (noised[i], np.asarray(x_t))):
            metres = rows * np.array(reading.std) + np.array(reading.mean)
            metres = np.where(given.present[i][:, None, None, None], metres, 0)
            np.testing.assert_allclose(found, metres, atol=1e-4)


def test_little_noise_gives_the_clip_back_and_places_it_where_it_was(finished, generator, given):
    """At t = 0 almost nothing is predicted, so the result is the clip in the camera's metres."""
    clip = generator.one_step(given, 0)
    np.testing.assert_allclose(clip, given.clip, atol=0.05)
    camera = dataclasses.replace(generator.run.reading, coordinates="camera")
    expected = given_of_store(finished.store, np.arange(6), camera)
    np.testing.assert_allclose(given.placed_back(given.clip), expected.clip, atol=1e-5)


@pytest.mark.parametrize("coordinates", COORDINATES)
def test_every_frame_of_reference_is_undone(finished, generator, coordinates):
    reading = dataclasses.replace(generator.run.reading, coordinates=coordinates)
    camera = dataclasses.replace(reading, coordinates="camera")
    one, other = (given_of_store(finished.store, np.arange(4), r) for r in (reading, camera))
    np.testing.assert_allclose(one.placed_back(one.clip), other.clip, atol=1e-5)


def test_raw_clips_are_read_as_those_of_the_store(finished, generator, given):
    for i in range(3):
        read = generator.read(finished.store[i].frames[None])
        for ours, theirs in zip(read, given.take([i])):
            np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_ddim_starts_where_noise_still_holds_some_signal(generator, given):
    """A loop over its steps for one clip; at ᾱ = 1e-4 every x̂0 would be clipped to ±clean_clip."""
    run, i = generator.run, 2
    found = generator.sample(given, 4, seed=5)[i]
    model, objective = IGM(run.config.model), run.config.objective
    alpha = np.asarray(diffusion.alpha_bar(objective.schedule, objective.diffusion_steps))
    assert generator.most_ddim_steps == 989 and alpha[989] < 0.02 < alpha[988]
    rows = run.reading(jnp.asarray(given.clip[i]))
    tokens = apply(model, generator.params, rows, method="encode")
    condition = apply(model, generator.params, tokens, None, method="condition")
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(5), i), 1)
    x = np.asarray(jax.random.normal(key, rows.shape))
    steps = [988, 659, 329, 0]
    for t, after in zip(steps, [alpha[659], alpha[329], alpha[0], 1]):
        step, signal = jnp.full(len(rows), t), jnp.full(len(rows), alpha[t])
        noise = apply(
            model, generator.params, jnp.asarray(x), condition, step, signal, method="generate"
        )
        clean = (x - np.sqrt(1 - alpha[t]) * np.asarray(noise)) / np.sqrt(alpha[t])
        clean = np.clip(clean, -objective.clean_clip, objective.clean_clip)
        direction = (x - np.sqrt(alpha[t]) * clean) / np.sqrt(1 - alpha[t])
        x = np.sqrt(after) * clean + np.sqrt(1 - after) * direction
    metres = x * np.array(run.reading.std) + np.array(run.reading.mean)
    metres = np.where(given.present[i][:, None, None, None], metres, 0)
    np.testing.assert_allclose(found, metres, atol=1e-3)


def test_batches_and_seeds(monkeypatch, generator, given):
    """A seed decides all; the size of a batch decides nothing."""
    whole = generator.sample(given, 3, mask_ratio=0.5, seed=1)
    assert whole.shape == given.clip.shape and np.isfinite(whole).all()
    monkeypatch.setattr(generate, "BATCH_SIZE", 4)
    np.testing.assert_allclose(generator.sample(given, 3, mask_ratio=0.5, seed=1), whole, atol=1e-5)
    assert np.abs(generator.sample(given, 3, mask_ratio=0.5, seed=2) - whole).max() > 0.01


def test_nothing_hidden_is_the_pooled_condition_as_in_training(generator):
    """`model.condition="tokens"` would let g copy what f read."""
    assert generator.run.config.model.condition == "tokens"
    assert generator._setting(0.0) == generator._setting(None) != generator._setting(0.5)


def test_unconditional_clips_ignore_the_features(generator):
    clips = generator.unconditional(3, 2)
    assert clips.shape == (3, 1, 8, 6, 3) and np.isfinite(clips).all()
    assert np.abs(clips[0] - clips[1]).max() > 0.01


def test_what_is_refused(generator, given):
    run = generator.run
    with pytest.raises(InputError, match=r"t=1000 is outside 0..999"):
        generator.one_step(given, 1000)
    with pytest.raises(InputError, match=r"0 DDIM steps are outside 1..989"):
        generator.sample(given, 0)
    objective = dataclasses.replace(run.config.objective, condition_drop=0.0)
    config = dataclasses.replace(run.config, objective=objective)
    never = dataclasses.replace(generator, run=dataclasses.replace(run, config=config))
    with pytest.raises(InputError, match="without a condition"):
        never.unconditional(2, 2)
    bones = dataclasses.replace(run.reading, streams=("bone",))
    with pytest.raises(InputError, match="joint positions do not follow"):
        generator_of(dataclasses.replace(run, reading=bones))


def test_the_table_starts_with_real_clips(finished, generator):
    rows = generation_quality.quality_table(
        generator, finished.store, count=12, t_shares=(0.0, 0.9), steps=(2,)
    )
    names = ["real clips", "one step, t=0", "one step, t=900", "DDIM, 2 steps"]
    assert [row["clips"] for row in rows] == [*names, "DDIM, 2 steps, unconditional"]
    real, near, far, *_ = rows
    assert near["frechet_raw"] < 1.2 * real["frechet_raw"] + 0.05 < far["frechet_raw"]
    assert near["bone_error_%"] < far["bone_error_%"] and near["jerk"] < far["jerk"]
    assert rows[-1]["bone_error_%"] is None
    first, second = generation_quality.held_out(finished.store, "xsub", 12)
    assert len(first) == len(second) == 12 and not set(first) & set(second)


def test_the_real_clips_of_the_table_are_described_once(finished, generator, monkeypatch):
    described, counts = generation_quality.described, []

    def counted(generator, clip, present):
        counts.append(len(clip))
        return described(generator, clip, present)

    monkeypatch.setattr(generation_quality, "described", counted)
    settings = {"count": 12, "t_shares": (0.0,), "steps": (2,)}
    rows = generation_quality.quality_table(generator, finished.store, **settings)
    assert len(rows) == 4 and counts == [12] * (len(rows) + 1)


def test_sets_that_the_test_split_cannot_fill(finished):
    half = len(protocols.split(finished.store, "xsub", "test")) // 2
    assert generation_quality.clips_in_a_set(finished.store, "xsub", None) == half
    for count in (3, half + 1):
        with pytest.raises(InputError, match=rf"two sets of {half}, and {count} are asked for"):
            generation_quality.clips_in_a_set(finished.store, "xsub", count)


def test_a_generator_too_narrow_for_noise_says_so(generator):
    model = generator.run.config.model

    def told(**changes):
        config = dataclasses.replace(
            generator.run.config,
            model=dataclasses.replace(
                model, generator=dataclasses.replace(model.generator, **changes)
            ),
        )
        run = dataclasses.replace(generator.run, config=config)
        return dataclasses.replace(generator, run=run).advice

    numbers = model.encoder.patch_numbers
    assert told(width=numbers, heads=1) == ""
    assert told(width=numbers - 1, heads=1).startswith(f"a token has {numbers} numbers")
    assert told(width=numbers - 1, heads=1, predicts="clip") == ""


def test_the_table_of_a_run_of_few_steps_stays_within_them(finished, generator, monkeypatch):
    """The defaults are shares of K, so no run is too short for them."""
    objective = dataclasses.replace(generator.run.config.objective, diffusion_steps=30)
    config = dataclasses.replace(generator.run.config, objective=objective)
    short = dataclasses.replace(generator, run=dataclasses.replace(generator.run, config=config))
    assert short.most_ddim_steps < 50
    # Only which rows there are is asked, and that their t and steps are in range.
    monkeypatch.setattr(generation_quality, "judged", lambda name, *_: {"clips": name})
    monkeypatch.setattr(generate.LoadedGenerator, "_batches", lambda self, clips, *_: clips)
    rows = generation_quality.quality_table(short, finished.store, count=8)
    ts = [f"one step, t={t}" for t in (0, 2, 3, 6, 12, 24)]
    steps = [f"DDIM, {n} steps" for n in (1, 5, 20, short.most_ddim_steps)]
    alone = [f"{name}, unconditional" for name in steps]
    assert [row["clips"] for row in rows] == ["real clips", *ts, *steps, *alone]
