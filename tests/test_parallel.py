"""One step on any mesh and in any number of micro-batches is the same step."""

import functools

import jax
import numpy as np
import pytest
import tiny
from jax.sharding import PartitionSpec as P

from igm_jax import parallel
from igm_jax.errors import InputError
from igm_jax.parallel import ParallelConfig
from igm_jax.training.program import build_program

MASKED = {"data.crops": 1}
COORDINATES = {"data.crops": 2}
# Everything that looks at more than one clip: queue, entropy, projector, batch adapter.
OBJECTIVES = {
    "igm": {
        "objective.entropy_weight": 0.5,
        "objective.ema_decay": 0.9,
        "model.projector_width": 16,
        "model.adapter.over": "batch",
        "data.bodies": 1,
    },
    "masked_autoencoding": MASKED,
    "motion_prediction": MASKED,
    "displacement_prediction": MASKED,
    "colorization": {**MASKED, "model.encoder.positions": False},
    "spectral_contrastive": {**COORDINATES, "model.projector_width": 16},
    "coding_rate": {**COORDINATES, "model.projector_width": 16},
    "momentum_contrast": {**COORDINATES, "objective.ema_decay": 0.9, "model.projector_width": 16},
    "extreme_contrast": {**COORDINATES, "objective.ema_decay": 0.9, "model.projector_width": 16},
    "motion_contrast": {**MASKED, "objective.ema_decay": 0.9, "model.projector_width": 16},
    "mutual_distillation": {
        **tiny.changes_for("mutual_distillation"),
        "objective.ema_decay": 0.9,
        "model.projector_width": 16,
    },
    "actionlet_contrast": {
        **COORDINATES,
        "objective.ema_decay": 0.9,
        "objective.mining_start": 0.0,
        "model.projector_width": 16,
    },
    "masked_contrast": {**COORDINATES, "objective.ema_decay": 0.9, "model.projector_width": 16},
    "positive_mining": {
        **COORDINATES,
        "objective.ema_decay": 0.9,
        "objective.mining_start": 0.0,
        "model.projector_width": 16,
    },
}


@pytest.fixture(autouse=True)
def split_small_arrays_too(monkeypatch):
    monkeypatch.setattr(parallel, "SMALL", 64)


def raw_batch(config, rows=16, seed=0):
    rng = np.random.default_rng(seed)
    bodies = config.data.bodies
    present = rng.random((rows, bodies)) < 0.7
    present[:, 0] |= ~present.any(axis=1)
    draw = lambda: (  # noqa: E731
        rng.normal(size=(rows, bodies, 8, 6, 3)).astype(np.float32) * present[..., None, None, None]
    )
    raw = {"clip": draw(), "present": present}
    return raw | ({"other": draw()} if config.data.crops == 2 else {})


def settings(name, changes=None):
    return {
        "objective.name": name,
        "train.batch_size": 16,
        "objective.queue_size": 32,
        "objective.ramp_epochs": 0,
        "objective.mask_ratio": 0.5,
        **OBJECTIVES[name],
        **(changes or {}),
    }


def two_steps(changes, devices=8):
    """State and metrics after two steps, on the host, and the bytes that a step needs besides."""
    config = tiny.config(changes)
    reading = tiny.reading_for(config)
    program = build_program(config, reading, 40, jax.devices()[:devices])
    state = program.init(jax.random.key(0))
    key = jax.device_put(jax.random.key(1), parallel.replicated(program.mesh))
    batches = [parallel.to_devices(program.mesh, raw_batch(config, seed=i)) for i in range(2)]
    step = program.step.lower(state, batches[0], key).compile()
    for batch in batches:
        state, metrics = step(state, batch, key)
    shardings = jax.tree.map(lambda x: x.sharding, state)
    assert shardings == program.shardings
    return *jax.device_get((state, metrics)), step.memory_analysis().temp_size_in_bytes


def assert_same_step(a, b):
    (state_a, metrics_a, _), (state_b, metrics_b, _) = a, b
    assert metrics_a.keys() == metrics_b.keys()
    for name, value in metrics_a.items():
        np.testing.assert_allclose(metrics_b[name], value, rtol=2e-4, atol=2e-5, err_msg=name)
    np.testing.assert_allclose(state_a.queue, state_b.queue, atol=5e-5)
    # Adam's first moments are the gradients: unlike its steps, small ones stay small.
    for x, y in zip(jax.tree.leaves(state_a.opt_state), jax.tree.leaves(state_b.opt_state)):
        np.testing.assert_allclose(x, y, rtol=1e-3, atol=2e-6)


# The rule


def test_the_largest_dimension_that_divides_is_split():
    assert parallel.split_rule((8, 256, 1024), 8) == P(None, None, "fsdp")
    assert parallel.split_rule((8, 1024, 256), 8) == P(None, "fsdp")
    assert parallel.split_rule((8, 90, 30), 8) == P("fsdp")  # 90 and 30 are no multiples of 8
    assert parallel.split_rule((64, 64), 2) == P("fsdp")
    assert parallel.split_rule((9, 27), 2) == P()
    assert parallel.split_rule((64, 64), 1) == P()
    assert parallel.split_rule((), 4) == P()


def test_small_arrays_stay_whole(monkeypatch):
    monkeypatch.setattr(parallel, "SMALL", 100)
    assert parallel.split_rule((99,), 3) == P()
    assert parallel.split_rule((102,), 3) == P("fsdp")


def test_parameters_teacher_and_optimiser_are_cut_alike():
    config = tiny.config({"objective.ema_decay": 0.9, "parallel.fsdp": 4})
    target = build_program(config, tiny.READING, 40).restore_target
    specs = lambda tree: jax.tree.map(lambda x: x.sharding.spec, tree)  # noqa: E731
    params = specs(target.params)
    adam = target.opt_state[1][0]
    assert specs(adam.mu) == specs(adam.nu) == params
    assert specs(target.teacher) == {"encoder": params["encoder"]}
    assert params["encoder"]["blocks"]["mlp"]["in"]["kernel"] == P(None, None, "fsdp")
    assert target.queue.sharding.is_fully_replicated and adam.count.sharding.is_fully_replicated
    line = parallel.describe(target)
    assert line.startswith("mesh: data 2, fsdp 4; ") and line.endswith(" are cut into 4")
    held = sum(x.sharding.shard_shape(x.shape)[-1] for x in [adam.mu["encoder"]["embed"]["kernel"]])
    assert held * 4 == 16  # a quarter of the kernel is what a device has


def test_whole_state_is_described():
    target = build_program(tiny.config(), tiny.READING, 40).restore_target
    assert parallel.describe(target) == "mesh: data 8, fsdp 1; the state is whole on each"


# The mesh


@pytest.mark.parametrize(
    ("data", "fsdp", "shape"), [(0, 1, (8, 1)), (0, 4, (2, 4)), (2, 0, (2, 4)), (4, 2, (4, 2))]
)
def test_mesh_takes_all_devices(data, fsdp, shape):
    mesh = parallel.make_mesh(ParallelConfig(data, fsdp), 16)
    assert mesh.devices.shape == shape and mesh.axis_names == ("data", "fsdp")
    assert sorted(d.id for d in mesh.devices.flat) == list(range(8))
    assert parallel.local_rows(mesh, 16).tolist() == list(range(16))


@pytest.mark.parametrize(
    ("config", "batch_size", "told"),
    [
        (ParallelConfig(3, 1), 24, "do not fit 8 devices: their product has to be 8"),
        (ParallelConfig(0, 3), 24, "parallel.data=0 and parallel.fsdp=3 do not fit 8 devices"),
        (ParallelConfig(16, 0), 32, "do not fit 8 devices"),
        (ParallelConfig(), 12, "batch_size=12 is not a multiple of the 8 devices"),
        (ParallelConfig(accumulate=4), 48, "of the 8 devices times parallel.accumulate=4"),
    ],
)
def test_mesh_that_does_not_fit(config, batch_size, told):
    with pytest.raises(InputError, match=told):
        parallel.make_mesh(config, batch_size)


@pytest.mark.parametrize("changes", [{"data": -1}, {"accumulate": 0}, {"data": 0, "fsdp": 0}])
def test_impossible_settings(changes):
    with pytest.raises(InputError, match=r"parallel\."):
        ParallelConfig(**changes)


# The step


@pytest.fixture(scope="module")
def one_device():
    """Name of an objective → its step on one device, all clips at once."""
    return functools.cache(lambda name: two_steps(settings(name), devices=1))


@pytest.mark.parametrize(
    ("name", "mesh"),
    [
        ("spectral_contrastive", {"parallel.fsdp": 8}),
        ("igm", {"parallel.data": 2, "parallel.fsdp": 4}),
        ("momentum_contrast", {"parallel.fsdp": 2, "parallel.accumulate": 2}),
        ("positive_mining", {"parallel.fsdp": 8}),
        ("motion_contrast", {"parallel.fsdp": 8}),
        ("extreme_contrast", {"parallel.fsdp": 8}),
        ("masked_contrast", {"parallel.fsdp": 8}),
        ("actionlet_contrast", {"parallel.fsdp": 8}),
        ("mutual_distillation", {"parallel.fsdp": 8}),
        ("displacement_prediction", {"parallel.fsdp": 8}),
    ],
)
def test_step_on_every_mesh_is_that_of_one_device(one_device, name, mesh):
    assert_same_step(one_device(name), two_steps(settings(name, mesh)))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_micro_batches_are_the_whole_batch(one_device, name):
    """Whatever the objective compares, it compares all clips of the batch; in less memory."""
    parts = two_steps(settings(name, {"parallel.accumulate": 4}), devices=1)
    assert_same_step(one_device(name), parts)
    # Half of what a teacher's objective computes has no gradient, and so no activations to keep.
    taught = "objective.ema_decay" in OBJECTIVES[name] and name != "igm"
    assert parts[2] < (0.75 if taught else 0.5) * one_device(name)[2]
