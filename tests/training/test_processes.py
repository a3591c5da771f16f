"""Many processes, as they are started on many hosts: experiments/pretrain.py once for each."""

import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from igm_jax import locking
from igm_jax.data import SkeletonStore
from igm_jax.errors import InputError
from igm_jax.training import distributed
from igm_jax.training.checkpoint import restore_params
from igm_jax.training.packing import Packing

ROOT = pathlib.Path(__file__).parents[2]
# The cheapest objective that compares clips across the batch; its MLPs are large enough to be cut.
SETTINGS = (
    f"--config={ROOT}/configs/synthetic.py:smoke",
    "--config.objective.name=spectral_contrastive",
    "--config.model.projector_width=32",
    "--config.model.encoder.mlp_width=256",
    "--config.train.log_every=1",
    "--heartbeat=10",
)

# What gloo, the collectives of the CPU, says of each connection; its threads write a piece at a
# time, so the pieces of two lines may lie in any order.
GLOO = re.compile(
    r"(\[Gloo\] Rank |\d| is connected to | peer ranks\. |"
    r"Expected number of connected peer ranks is : |\s)*"
)


def start(folder, *flags, devices, processes=1, last=()):
    """The processes of a run, on so many simulated devices each; `last` are flags of the last."""
    env = os.environ | {"JAX_NUM_CPU_DEVICES": str(devices)}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, str(ROOT / "experiments/pretrain.py"), *SETTINGS, *flags]
    others = [f"--coordinator=127.0.0.1:{port}", f"--processes={processes}"]
    return [
        subprocess.Popen(
            [
                *command,
                *([*others, f"--process={i}"] if processes > 1 else []),
                *(last if i == processes - 1 else ()),
            ],
            cwd=folder,
            env=env,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for i in range(processes)
    ]


def ends(processes, timeout=300):
    """(exit code, stdout, stderr) of each, without what gloo says."""
    try:
        texts = [process.communicate(timeout=timeout) for process in processes]
    finally:
        for process in processes:
            process.kill()

    def ours(text):
        return "".join(line for line in text.splitlines(True) if not GLOO.fullmatch(line))

    return [(p.returncode, *map(ours, both)) for p, both in zip(processes, texts)]


def reports(run_folder):
    path = run_folder / "metrics.jsonl"
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def steps_in(run_folder):
    return sorted(int(p.name) for p in (run_folder / "checkpoints").iterdir() if p.name.isdigit())


def wait_for_step(run_folder, step, processes):
    deadline = time.monotonic() + 240
    while not any(report["step"] >= step for report in reports(run_folder)):
        assert all(p.poll() is None for p in processes), ends(processes)
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    script = ROOT / "experiments/prepare_data.py"
    command = [sys.executable, script, "--dataset=synthetic", "--num_clips=96"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder  # 48 training clips: an epoch is 3 steps


def test_two_processes_of_four_devices_are_one_of_eight(folder):
    for name, devices, processes in (("one", 8, 1), ("two", 4, 2)):
        flags = (f"--run=runs/{name}", "--config.parallel.fsdp=2", "--config.train.knn_every=2")
        results = ends(start(folder, *flags, devices=devices, processes=processes))
        for code, _, stderr in results:
            assert code == 0, stderr
        # The first process alone writes and talks.
        assert results[0][1].startswith(f"runs/{name}: finished")
        assert "mesh: data 4, fsdp 2; " in results[0][2] and " are cut into 2" in results[0][2]
        assert [(out, err) for _, out, err in results[1:]] == [("", "")] * (processes - 1)
    one, two = folder / "runs/one", folder / "runs/two"
    assert (one / "config.json").read_bytes() == (two / "config.json").read_bytes()
    assert steps_in(one) == steps_in(two) == [3, 6]
    assert len(reports(one)) == len(reports(two)) == 7
    for a, b in zip(reports(one), reports(two)):
        assert a.keys() == b.keys()
        # Sums are added up in another order, and each step of AdamW makes more of the difference.
        rtol = 1e-4 if a["step"] == 1 else 1e-2
        for key in a.keys() - {"clips_per_second"}:
            np.testing.assert_allclose(b[key], a[key], rtol=rtol, atol=1e-5, err_msg=key)
    # Neither the place in the data nor the files of the state know the number of processes.
    data = [(f / "checkpoints/6/data/metadata").read_text() for f in (one, two)]
    assert data[0] == data[1]
    target = {"encoder": {"embed": {"kernel": jax.ShapeDtypeStruct((24, 32), np.float32)}}}
    kernels = [restore_params(f, 6, target)["encoder"]["embed"]["kernel"] for f in (one, two)]
    np.testing.assert_allclose(*kernels, atol=1e-4)


def test_two_processes_compute_the_rows_that_one_does(folder):
    """Absent bodies are packed: of the 16 rows of 8 clips, each device computes 11."""
    bodies = SkeletonStore.open(folder / "data/synthetic").clips["bodies"]
    assert Packing.of(bodies, most=2, clips=16, shards=2, parts=1).capacity == 11
    changes = ("--config.data.bodies=2", "--config.train.epochs=1", "--config.train.knn_every=9")
    changes += ("--config.optimizer.warmup_epochs=0",)
    for processes in (1, 2):
        flags = (f"--run=runs/packed{processes}", *changes)
        for code, _, stderr in ends(
            start(folder, *flags, devices=2 // processes, processes=processes)
        ):
            assert code == 0, stderr
    one, two = (reports(folder / f"runs/packed{processes}") for processes in (1, 2))
    assert len(one) == len(two) == 4
    for a, b in zip(one, two):
        for key in a.keys() - {"clips_per_second"}:
            np.testing.assert_allclose(b[key], a[key], rtol=1e-2, atol=1e-5, err_msg=key)


def test_lost_process_ends_the_other_and_a_signal_to_one_saves_in_both(folder):
    flags = ("--run=runs/lost", "--config.train.epochs=1000", "--config.train.knn_every=1000")
    run_folder = folder / "runs/lost"
    processes = start(folder, *flags, devices=1, processes=2)
    wait_for_step(run_folder, 7, processes)
    processes[1].kill()
    begin = time.monotonic()
    (code, stdout, stderr), _ = ends(processes, timeout=60)
    # Twice the heartbeat, and a machine that has other things to do.
    assert time.monotonic() - begin < 40
    assert code not in (0, None) and stdout == ""
    assert "error: process 0 of 2 lost another one" in stderr or "another task died" in stderr

    processes = start(folder, *flags, devices=1, processes=2)
    reached = max(report["step"] for report in reports(run_folder))
    wait_for_step(run_folder, reached + 2, processes)
    processes[1].send_signal(signal.SIGTERM)
    (first, second) = ends(processes)
    assert first[0] == second[0] == 75, (first, second)
    assert "; resumed after step " in first[2] and second[1:] == ("", "")
    step = max(steps_in(run_folder))
    assert f"SIGTERM: saved step {step} of 3000 in runs/lost" in first[2].splitlines()[-1]
    assert max(report["step"] for report in reports(run_folder)) == step


def test_folder_that_is_held_is_refused_by_all_processes(folder):
    """The first alone looks, and the others do not wait for it until they count as lost."""
    with locking.exclusive(folder / "runs/held", "trains"):
        first, second = ends(start(folder, "--run=runs/held", devices=1, processes=2))
    assert first[0] == second[0] == 1
    told = f"process {os.getpid()} on host {socket.gethostname()} trains this run"
    assert told in first[2].splitlines()[-1]
    assert second[2].splitlines()[-1] == "error: process 0 cannot begin: its log says why"
    assert not (folder / "runs/held").exists()


def test_processes_that_were_started_on_different_things(folder):
    flags = {"devices": 1, "processes": 2, "last": ["--config.seed=5"]}
    processes = start(folder, "--run=runs/differ", **flags)
    for code, _, stderr in ends(processes):
        assert code == 1
        assert stderr.splitlines()[-1].startswith(
            "error: the 2 processes of this run differ in config: start all of them with"
        )
    assert not (folder / "runs/differ").exists()


def test_divergence_ends_all_at_the_same_step_with_the_same_line(folder):
    flags = ("--config.optimizer.learning_rate=1e38", "--config.optimizer.warmup_epochs=0.0")
    first, second = ends(start(folder, "--run=runs/nan", *flags, devices=1, processes=2))
    assert first[0] == second[0] == 1
    (line,) = second[2].splitlines()
    assert first[2].splitlines()[-1] == line
    assert line.startswith("error: ") and " not finite at step " in line
    assert len(line.split("clips of the batch: ")[1].split(", ")) == 16  # of both processes


# Without other processes


@pytest.mark.parametrize(
    ("stated", "told"),
    [
        (("a:1", None, None), "--coordinator=a:1, --processes=None, --process=None: give all"),
        ((None, 2, 0), "give all three, or none"),
        (("a:1", 2, 2), "--process=2 is not one of --processes=2, from 0"),
    ],
)
def test_half_an_address_is_refused(stated, told):
    with pytest.raises(InputError, match=told):
        distributed.join(*stated)


SLURM = {"SLURM_STEP_NODELIST": "n[1-2]", "SLURM_NTASKS": "2"}


@pytest.mark.parametrize(
    ("environment", "joined"),
    [
        ({}, False),
        (SLURM, True),
        (SLURM | {"SLURM_NTASKS": "1"}, False),
        ({"SLURM_NTASKS": "8"}, False),  # the batch script of a job, not a step of it
        ({"OMPI_COMM_WORLD_SIZE": "4"}, True),
    ],
)
def test_launchers_that_number_their_processes_are_believed(monkeypatch, environment, joined):
    for name in (*SLURM, "OMPI_COMM_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    calls = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *args, **_: calls.append(args))
    service = jax.config.jax_enable_preemption_service
    try:
        distributed.join()
        assert calls == ([(None, None, None)] if joined else [])
        distributed.join("h:1", 3, 2)
        assert calls[-1] == ("h:1", 3, 2)
    finally:
        jax.config.update("jax_enable_preemption_service", service)
