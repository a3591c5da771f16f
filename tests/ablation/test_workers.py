"""Worker processes, with scripts that write what the true ones write."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from ablation_jobs import finish, plan

from igm_jax import locking
from igm_jax.ablation import plan as ablation
from igm_jax.ablation import workers as processes
from igm_jax.errors import InputError

SCRIPT = """
import json, os, pathlib, signal, sys, time
out, script = pathlib.Path(__file__).parent, pathlib.Path(__file__).stem
flags = dict(a.split("=", 1) for a in sys.argv[1:])
run = pathlib.Path(flags["--run"])
run.mkdir(parents=True, exist_ok=True)
name = f"{run.parent.name}-{run.name}"
with open(out / "calls", "a") as calls:
    print(script, name, *(sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else []),
          file=calls)
if script != "pretrain":
    if (out / f"fail-{name}").exists():
        print("error: out of luck\\n")
        sys.exit(3)
    keys = ["validation_linear", "validation_knn_1", "validation_knn_20"]
    row = dict.fromkeys(keys, 50.0)
    (run / f"{script}.json").write_text(json.dumps({"step": 10, "rows": [row]}))
elif (out / "wait").exists():
    def save(number, _):
        print(f"{signal.Signals(number).name}: saved step 5", flush=True)
        sys.exit(75)
    signal.signal(signal.SIGTERM, save)
    (out / f"starts-{name}").write_text(str(os.getpid()))
    (out / f"starts-{name}").rename(out / f"waits-{name}")
    time.sleep(60)
else:
    (run / "metrics.jsonl").write_text(json.dumps({"step": 10, "epoch": 2.0}) + "\\n")
"""


@pytest.fixture
def scripts(tmp_path):
    for name in ("pretrain", "linear_probe", "knn"):
        (tmp_path / f"{name}.py").write_text(SCRIPT)
    return tmp_path


def run(scripts, jobs, workers=2):
    """The processes, and what went wrong by run."""
    problems = {}
    all_ = processes.Processes(scripts, workers)
    all_.run(jobs, lambda job, problem: problems.update({job.folder.name: problem}))
    return all_, problems


def calls(scripts):
    return [line.split() for line in (scripts / "calls").read_text().splitlines()]


def soon(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not pin")
def test_workers_have_their_own_cpus(scripts):
    jobs = plan(scripts / "runs", {"row": {}}, seeds=range(4))
    before = os.sched_getaffinity(0)
    all_, problems = run(scripts, jobs)
    assert problems == {f"seed{k}": None for k in range(4)} and all_.stopped is None
    assert all(ablation.measured(job, "validation") for job in jobs)
    log = (scripts / "runs" / "row" / "seed0.log").read_text()
    assert [line.split()[2].rpartition("/")[2] for line in log.splitlines()] == [
        "pretrain.py",
        "linear_probe.py",
        "knn.py",
    ]
    shares = {tuple(line[2:]) for line in calls(scripts)}
    if len(before) > 1:
        one, two = shares
        assert not set(one) & set(two) and len(one) + len(two) == len(before)
    assert os.sched_getaffinity(0) == before


def test_failed_run_is_told_with_its_last_line_and_the_others_end(scripts):
    jobs = plan(scripts / "runs", {"row": {}}, seeds=range(3))
    (scripts / "fail-row-seed1").touch()
    _, problems = run(scripts, jobs, workers=1)
    told = "linear_probe.py ended with exit code 3 before its end: error: out of luck"
    assert problems == {"seed0": None, "seed1": told, "seed2": None}
    # The same again, after the reason is gone: only what is missing runs.
    (scripts / "fail-row-seed1").unlink()
    (scripts / "calls").unlink()
    assert run(scripts, jobs, workers=1)[1] == {f"seed{k}": None for k in range(3)}
    expected = [[script, "row-seed1"] for script in ("pretrain", "linear_probe", "knn")]
    assert [line[:2] for line in calls(scripts)] == expected


def test_signal_reaches_the_runs_and_the_same_command_resumes(scripts):
    jobs = plan(scripts / "runs", {"row": {}}, seeds=range(3))
    (scripts / "wait").touch()

    def interrupt():
        soon(lambda: all((scripts / f"waits-row-seed{k}").exists() for k in range(2)))
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=interrupt)
    handler = signal.getsignal(signal.SIGTERM)
    thread.start()
    all_, problems = run(scripts, jobs)
    thread.join()
    assert all_.stopped == signal.SIGTERM and problems == {}
    assert signal.getsignal(signal.SIGTERM) == handler
    for k in range(2):
        log = (scripts / "runs" / "row" / f"seed{k}.log").read_text()
        assert log.endswith("SIGTERM: saved step 5\n")
    assert {name for _, name, *_ in calls(scripts)} == {"row-seed0", "row-seed1"}
    (scripts / "wait").unlink()
    assert run(scripts, jobs)[1] == {f"seed{k}": None for k in range(3)}


def test_signal_while_a_run_is_being_started_reaches_it_once(scripts, monkeypatch):
    """A second one would tell pre-training not to save."""
    (job,) = plan(scripts / "runs", {"row": {}}, seeds=range(1))
    sent = []

    class Child:
        def send_signal(self, number):
            sent.append(number)

        def wait(self):
            thread.join()
            return 75

    class Children(set):
        def add(self, child):
            super().add(child)
            thread.start()
            thread.join(0.3)  # the signal arrives here, or has to wait

    all_ = processes.Processes(scripts, 1)
    all_._children = Children()
    thread = threading.Thread(target=all_._pass_on, args=[signal.SIGTERM])
    monkeypatch.setattr(processes.subprocess, "Popen", lambda *args, **kwargs: Child())
    all_.run([job], lambda job, problem: None)
    assert sent == [signal.SIGTERM] and all_.stopped == signal.SIGTERM


def test_run_stopped_from_elsewhere_is_not_finished(scripts):
    (job,) = plan(scripts / "runs", {"row": {}}, seeds=[0])
    (scripts / "wait").touch()

    def interrupt():
        soon((scripts / "waits-row-seed0").exists)
        os.kill(int((scripts / "waits-row-seed0").read_text()), signal.SIGTERM)

    thread = threading.Thread(target=interrupt)
    thread.start()
    all_, problems = run(scripts, [job])
    thread.join()
    assert all_.stopped is None
    told = (
        "pretrain.py was stopped before its end, the same command resumes it: SIGTERM: saved step 5"
    )
    assert problems == {"seed0": told}


def test_run_of_a_killed_command_is_waited_for(scripts, capsys):
    """A run that a killed command started holds its folder, and may finish."""
    (job,) = plan(scripts / "runs", {"row": {}}, seeds=[0])
    job.folder.mkdir(parents=True)
    code = (
        "import pathlib, time\nfrom igm_jax import locking\n"
        f"with locking.exclusive(pathlib.Path({str(job.folder)!r}), 'trains'):\n"
        f"    while not pathlib.Path({str(scripts / 'go')!r}).exists(): time.sleep(0.02)"
    )
    orphan = subprocess.Popen([sys.executable, "-c", code])
    soon(lambda: locking.is_held(job.folder))
    problems = []
    timer = threading.Timer(0.5, lambda: (problems.append("waited"), (scripts / "go").touch()))
    finish(job)
    (job.folder / "knn.json").unlink()
    timer.start()
    processes.Processes(scripts, 1).run([job], lambda _, problem: problems.append(problem))
    assert problems == ["waited", None] and orphan.wait() == 0
    assert calls(scripts)[-1][0] == "knn"
    told = f"{job.folder}: an earlier start still trains it: waiting for it\n"
    assert capsys.readouterr().err == told


def test_two_commands_share_the_runs(scripts, capsys):
    """The second waits for the run that the first works on, and does not do it again."""
    (job,) = plan(scripts / "runs", {"row": {}}, seeds=[0])
    second, problems = processes.Processes(scripts, 1), []
    thread = threading.Thread(target=lambda: problems.append(second._finish(job)))
    said = []
    with locking.exclusive(job.log, "works"):
        thread.start()
        soon(lambda: said.append(capsys.readouterr().err) or any(said))
        assert thread.is_alive()
        finish(job)
    thread.join()
    assert problems == [None] and not (scripts / "calls").exists()
    assert f"process {os.getpid()} on host" in "".join(said)


# GPUs, of which none is here


def test_gpus_are_shared_out_like_cpus():
    environments = processes.gpu_environments(3, [str(i) for i in range(8)])
    shares = [e["CUDA_VISIBLE_DEVICES"].split(",") for e in environments]
    assert [gpu for share in shares for gpu in share] == [str(i) for i in range(8)]
    assert sorted(map(len, shares)) == [2, 3, 3]
    # No GPU, or one worker: nothing is said, and a run takes what it finds.
    assert processes.gpu_environments(2, []) == [{}, {}]
    assert processes.gpu_environments(1, ["0", "1"]) == [{}]
    with pytest.raises(InputError, match=r"--workers=3, but there are 2 GPUs.*use --workers=2"):
        processes.gpu_environments(3, ["0", "1"])


@pytest.mark.parametrize(
    ("says", "visible", "found"),
    [
        ("gpu 4", None, ["0", "1", "2", "3"]),
        ("gpu 2", "5,GPU-8932", ["5", "GPU-8932"]),
        ("gpu 1", "3,-1,4", ["3"]),
        ("cpu 1", None, []),
    ],
)
def test_gpus_are_counted_in_another_process(says, visible, found, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    asked = []

    def answer(command, **_):
        asked.append(command)
        return subprocess.CompletedProcess(command, 0, f"a line of a plugin\n{says}\n", "")

    monkeypatch.setattr(subprocess, "run", answer)
    assert processes.find_gpus(2) == found and len(asked) == 1
    assert processes.find_gpus(1) == [] and len(asked) == 1


def test_devices_that_cannot_be_shared(monkeypatch):
    done = subprocess.CompletedProcess([], 0, "tpu 4\n", "")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    with pytest.raises(InputError, match="--workers=2: a TPU serves one process"):
        processes.find_gpus(2)
    failed = subprocess.CompletedProcess([], 1, "", "Traceback\nRuntimeError: no backend\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(InputError, match="finds no device for --workers=2: RuntimeError: no back"):
        processes.find_gpus(2)


def test_each_run_sees_the_gpus_of_its_worker(scripts):
    for name in ("pretrain", "linear_probe", "knn"):
        path = scripts / f"{name}.py"
        path.write_text(
            SCRIPT.replace("print(script, name,", "print(os.environ['CUDA_VISIBLE_DEVICES'],")
        )
    jobs = plan(scripts / "runs", {"row": {}}, seeds=range(4))
    all_ = processes.Processes(scripts, 2, ["0", "1", "2"])
    all_.run(jobs, lambda *_: None)
    seen = {line[0] for line in calls(scripts)}
    assert seen == {"0", "1,2"} and len(calls(scripts)) == 12
