"""Checkpoints: what is kept, what comes back, and what a failure leaves behind."""

import json
import resource
import shutil
import signal

import grain
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
import tiny

from igm_jax import parallel, run_folder
from igm_jax.errors import InputError
from igm_jax.training import checkpoint
from igm_jax.training.checkpoint import Checkpoints
from igm_jax.training.program import build_program


def iterator():
    dataset = grain.MapDataset.range(1000).shuffle(seed=3).repeat()
    return iter(dataset.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)))


def program(devices, fsdp=1):
    config = tiny.config({"objective.ema_decay": 0.5, "parallel.fsdp": fsdp})
    return build_program(config, tiny.READING, num_clips=40, devices=jax.devices()[:devices])


def random_state(target, seed=0):
    """Values of the shapes, types and shardings of `target`."""
    rng = np.random.default_rng(seed)

    def draw(x):
        value = rng.normal(size=x.shape) if x.dtype == jnp.float32 else rng.integers(100)
        return jax.device_put(np.asarray(value, x.dtype), x.sharding)

    return jax.tree.map(draw, target)


META = {"config": {}, "reading": {}, "data": {}}  # what every run's meta has


def save(folder, steps, keep=2):
    """A folder with a checkpoint for each step → knn of the dict; its params are `step`."""
    with Checkpoints(folder, keep) as checkpoints:
        data = iterator()
        for step, knn in steps.items():
            state = {"params": {"encoder": {"a": jnp.full(3, step)}, "rest": jnp.ones(2)}}
            checkpoints.save(step, state, data, META | {"step": step}, knn)
    return folder


def steps_in(folder):
    return sorted(int(p.name) for p in (folder / "checkpoints").iterdir() if p.name.isdigit())


def test_the_last_few_and_the_best_are_kept(tmp_path):
    knn = {1: 0.3, 2: 0.9, 3: None, 4: 0.5, 5: 0.8, 6: None}
    assert steps_in(save(tmp_path / "two", knn)) == [2, 5, 6]
    assert steps_in(save(tmp_path / "three", knn, keep=3)) == [2, 4, 5, 6]
    assert steps_in(save(tmp_path / "unmeasured", dict.fromkeys(knn))) == [5, 6]


def test_best_last_and_numbered_steps(tmp_path):
    folder = save(tmp_path, {1: 0.3, 2: 0.9, 3: 0.4, 4: None})
    assert checkpoint.select_step(folder, "best") == 2
    assert checkpoint.select_step(folder, "last") == 4
    assert checkpoint.select_step(folder, 3) == 3
    with pytest.raises(InputError, match=r"has no checkpoint 1: it has \[2, 3, 4\]"):
        checkpoint.select_step(folder, 1)


def test_checkpoints_that_are_not_there(tmp_path):
    with pytest.raises(InputError, match="has no checkpoints: is it the folder of a run"):
        checkpoint.select_step(tmp_path, "last")
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(InputError, match="has no checkpoint 'last': it has none yet"):
        checkpoint.select_step(tmp_path, "last")
    unmeasured = save(tmp_path / "unmeasured", {1: None, 2: None})
    with pytest.raises(InputError, match=r"no checkpoint 'best': it has \[1, 2\]"):
        checkpoint.select_step(unmeasured, "best")


def test_parts_are_read_without_the_rest(tmp_path):
    folder = save(tmp_path, {1: None, 2: None})
    target = {"encoder": {"a": jax.ShapeDtypeStruct((3,), jnp.int32)}}
    params = checkpoint.restore_params(folder, 1, target)
    assert params.keys() == {"encoder"} and params["encoder"]["a"].tolist() == [1, 1, 1]
    assert params["encoder"]["a"].devices() == {jax.devices()[0]}
    assert checkpoint.restore_meta(folder, 2) == META | {"step": 2}


@pytest.mark.parametrize("fsdp", [1, 4])
def test_state_of_eight_devices_is_read_on_eight_four_and_one(tmp_path, monkeypatch, fsdp):
    """However either mesh cuts it."""
    monkeypatch.setattr(parallel, "SMALL", 64)
    state = random_state(program(8, fsdp).restore_target)
    assert jax.tree.leaves(state.params)[0].sharding.mesh.shape["fsdp"] == fsdp
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(7, state, iterator(), {})
        checkpoints.wait()
        for devices, parts in ((8, 2), (4, 4), (1, 1)):
            target = program(devices, parts).restore_target
            restored, _ = checkpoints.restore(7, target, iterator())
            assert jax.tree.structure(restored) == jax.tree.structure(state)
            jax.tree.map(np.testing.assert_array_equal, restored, state)
            assert {x.dtype for x in jax.tree.leaves(restored)} == {
                x.dtype for x in jax.tree.leaves(state)
            }
            assert jax.tree.map(lambda x: x.sharding, restored) == jax.tree.map(
                lambda x: x.sharding, target
            )
            for x in jax.tree.leaves(restored):
                assert x.devices() == set(jax.devices()[:devices])


def test_checkpoint_of_another_version_is_refused_in_one_line(tmp_path):
    """Before, the place in the data lay in a file for each process; and a state can be another."""
    sharding = jnp.ones(1).sharding
    fits = {
        "params": {
            "encoder": {"a": jax.ShapeDtypeStruct((3,), jnp.int32, sharding=sharding)},
            "rest": jax.ShapeDtypeStruct((2,), jnp.float32, sharding=sharding),
        }
    }
    with ocp.CheckpointManager((tmp_path / "old" / "checkpoints").absolute()) as manager:
        state = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), fits)
        manager.save(
            1,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state),
                data=grain.checkpoint.CheckpointSave(iterator()),
                meta=ocp.args.JsonSave({}),
            ),
        )
    other = {"weights": jax.ShapeDtypeStruct((3,), jnp.int32, sharding=sharding)}
    for folder, target in ((tmp_path / "old", fits), (save(tmp_path / "new", {1: None}), other)):
        with Checkpoints(folder) as checkpoints, pytest.raises(InputError) as caught:
            checkpoints.restore(1, target, iterator())
        (line,) = str(caught.value).splitlines()
        assert "checkpoints/1 is damaged, or no checkpoint of this version" in line
        assert line.endswith("choose another --run")


def test_data_goes_on_and_meta_comes_back_exactly(tmp_path):
    data = iterator()
    for _ in range(7):
        next(data)
    state = {"a": jnp.ones(2)}
    meta = META | {"window": [{"loss": 0.1 + 0.2, "tiny": 1e-45}], "x": [1]}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(7, state, data, meta)
        expected = [next(data) for _ in range(5)]
    target = {"a": jax.ShapeDtypeStruct((2,), jnp.float32, sharding=state["a"].sharding)}
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest_step == 7
        _, restored = checkpoints.restore(7, target, iterator())
    assert [next(restored) for _ in range(5)] == expected
    assert checkpoint.restore_meta(tmp_path, 7) == meta


def test_saving_a_step_twice_keeps_the_first(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest_step is None
        checkpoints.save(3, {"a": jnp.zeros(1)}, iterator(), META | {"which": 1})
        checkpoints.save(3, {"a": jnp.ones(1)}, iterator(), META | {"which": 2})
    assert checkpoint.restore_meta(tmp_path, 3) == META | {"which": 1}


def test_half_written_checkpoint_of_a_killed_run_is_swept_away(tmp_path):
    folder = save(tmp_path, {1: None, 2: None})
    half = folder / "checkpoints" / "3.orbax-checkpoint-tmp"
    (half / "state").mkdir(parents=True)
    with Checkpoints(folder) as checkpoints:
        assert checkpoints.latest_step == 2
        checkpoints.save(4, {"a": jnp.zeros(1)}, iterator(), {})
    assert not half.exists()
    assert steps_in(folder) == [2, 4]


def test_newest_step_without_opening_anything(tmp_path):
    assert run_folder.newest_step(tmp_path / "nothing") == 0
    folder = save(tmp_path, {1: None, 9: None, 10: None})
    (folder / "checkpoints" / "11.orbax-checkpoint-tmp").mkdir()
    assert run_folder.newest_step(folder) == 10


@pytest.mark.parametrize("damage", ["cut short", "without reading", "gone"])
def test_damaged_meta_is_told_in_one_line(tmp_path, damage):
    folder = save(tmp_path, {1: None})
    file = folder / "checkpoints" / "1" / "meta" / "metadata"
    if damage == "gone":
        shutil.rmtree(file.parent)
    else:
        text = file.read_text()
        file.write_text(text[:20] if damage == "cut short" else json.dumps({"data": {}}))
    with pytest.raises(InputError) as caught:
        checkpoint.restore_meta(folder, 1)
    (line,) = str(caught.value).splitlines()
    assert "checkpoints/1 is damaged, or no checkpoint of this version" in line


def test_another_checkpoint_is_named_beside_a_damaged_one(tmp_path):
    folder = save(tmp_path, {1: None, 2: None})
    (folder / "checkpoints" / "2" / "meta" / "metadata").write_text("{")
    with pytest.raises(InputError, match=r"--checkpoint=1, or remove this folder to resume"):
        checkpoint.restore_meta(folder, 2)


@pytest.fixture
def full_disk():
    """Calling it lets every write beyond the first kilobytes of a file fail until the test ends."""
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.getsignal(signal.SIGXFSZ)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("keep", [1, 2])
def test_failed_save_keeps_the_one_before(tmp_path, full_disk, keep):
    """Even if only one is kept, it goes only when the next is complete."""
    rng = np.random.default_rng(0)  # noise, which compression does not make small
    first, second = ({"a": jnp.asarray(rng.normal(size=10_000))} for _ in range(2))
    with pytest.raises(OSError, match=r"not be written \(File too large\).*good one is step 1$"):
        with Checkpoints(tmp_path, keep) as checkpoints:
            checkpoints.save(1, first, iterator(), META | {"step": 1}, knn=0.5)
            checkpoints.wait()
            full_disk()
            checkpoints.save(2, second, iterator(), META | {"step": 2}, knn=0.9)
            checkpoints.wait()
    assert steps_in(tmp_path) == [1]
    assert checkpoint.restore_meta(tmp_path, 1) == META | {"step": 1}
    sharding = first["a"].sharding
    target = {"a": jax.ShapeDtypeStruct((10_000,), jnp.float32, sharding=sharding)}
    with Checkpoints(tmp_path, keep) as checkpoints:
        restored, _ = checkpoints.restore(1, target, iterator())
    np.testing.assert_array_equal(restored["a"], first["a"])


def test_full_disk_is_known_before_anything_is_written(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    with pytest.raises(OSError, match=r"No space left on device for 8 MB\); .* is step 1$"):
        with Checkpoints(tmp_path) as checkpoints:
            checkpoints.save(1, {"a": jnp.zeros(2_000_000)}, iterator(), {})
            checkpoints.wait()
            monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=7_999_999))
            checkpoints.save(2, {"a": jnp.zeros(2_000_000)}, iterator(), {})
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["1"]


def test_nothing_in_a_checkpoint_needs_pickle(tmp_path):
    """Reading a run of somebody else must not run their code."""
    folder = save(tmp_path, {1: 0.5})
    for file in (folder / "checkpoints").rglob("*"):
        if file.is_file():
            assert not file.read_bytes().startswith(b"\x80"), file
    assert json.loads((folder / "checkpoints/1/metrics/metrics").read_text()) == {"knn": 0.5}
