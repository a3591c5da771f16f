"""Kills a run over and over: `python benchmarks/soak.py --kills=20 --out=FOLDER`.

A small run on synthetic clips is killed with SIGKILL at random moments: while it starts, between
steps, while a checkpoint is being written. A save goes on beside training, and the next one waits
for it: so each start must go on from the last checkpoint that was begun, or from the one before;
and in the end parameters, optimiser state and log must be those of a run that nothing interrupted,
bit for bit.
"""

import json
import pathlib
import random
import re
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))  # works uninstalled too

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import flags

from igm_jax import cli
from igm_jax.errors import InputError

ROOT = pathlib.Path(__file__).resolve().parent.parent

KILLS = flags.DEFINE_integer("kills", 20, "how often the run is killed")
OUT = flags.DEFINE_string("out", "soak", "folder for data and runs; must not exist")
SEED = flags.DEFINE_integer("seed", 0, "of the moments")

INTERVAL = 4  # steps of an epoch, and so between checkpoints
CLIPS = 150  # of which about half are training clips: so many batches of 16
MOST = 4  # intervals that a start gets on with before it is killed


class Failure(AssertionError):
    """A promise that was not kept."""


def soak(kills: int, out: pathlib.Path, seed: int = 0) -> list[str]:
    """Runs it.

    Args:
      kills: how often.
      out: gets data/, whole/ and killed/.
      seed: of the moments.

    Returns:
      One line for each kill.

    Raises:
      Failure: a start went on from an older checkpoint, or the end is another.
    """
    _call("prepare_data.py", "--dataset=synthetic", f"--num_clips={CLIPS}", f"--out={out / 'data'}")
    epochs = (kills + 2) * (MOST + 1)
    settings = [
        f"--config={ROOT / 'configs' / 'synthetic.py'}:smoke",
        f"--config.data.path={out / 'data'}",
        f"--config.train.epochs={epochs}",
        "--config.train.log_every=1",
        "--config.train.knn_every=1000000",
        "--config.train.checkpoint_every=1",
    ]
    whole, killed = out / "whole", out / "killed"
    _call("pretrain.py", *settings, f"--run={whole}")
    if _last_step(whole) != epochs * INTERVAL:
        raise Failure(f"{_last_step(whole)} steps in {epochs} epochs: an epoch is no interval")
    draw, lines, startup = random.Random(seed), [], 10.0
    for kill in range(kills):
        before = _last_step(killed)
        begin = time.monotonic()
        with (out / f"killed.{kill}.log").open("w", encoding="utf-8") as log:
            process = subprocess.Popen(
                _command("pretrain.py", *settings, f"--run={killed}"), stderr=log
            )
            try:
                if draw.random() < 0.2:
                    time.sleep(draw.uniform(0, startup))
                    moment = "starting"
                else:
                    # What was logged after the checkpoint is cut off first, then written again.
                    told = _wait(process, out / f"killed.{kill}.log")
                    startup = time.monotonic() - begin
                    goal = told + draw.randint(1, MOST * INTERVAL)
                    while _last_step(killed) < goal and process.poll() is None:
                        time.sleep(0.001)
                    time.sleep(draw.uniform(0, 0.1))
                    moment = "running"
            finally:
                process.kill()
                process.wait()
        if process.returncode != -9:
            raise Failure(f"start {kill} ended by itself ({process.returncode}): {log.name}")
        lines.append(_check(kill, moment, before, _resumed(out / f"killed.{kill}.log"), killed))
    _call("pretrain.py", *settings, f"--run={killed}")
    _compare(killed, whole)
    return lines


def _check(
    kill: int, moment: str, before: int, resumed: int | None, run_folder: pathlib.Path
) -> str:
    """A start must not go back behind the checkpoint before the one that was begun last.

    That of step `before` itself is begun after its line in the log: it may not have been yet.
    """
    begun = max(0, before - 1) // INTERVAL * INTERVAL
    if resumed is not None and resumed < begun - INTERVAL:
        raise Failure(f"start {kill} went on from step {resumed}, although step {before} was done")
    start = "never said where from" if resumed is None else f"went on from step {resumed}"
    return f"start {kill}: step {before} was done, {start}, killed {moment} at step " + str(
        _last_step(run_folder)
    )


def _compare(a: pathlib.Path, b: pathlib.Path) -> None:
    logs = [
        [
            {k: v for k, v in json.loads(line).items() if k != "clips_per_second"}
            for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        ]
        for folder in (a, b)
    ]
    if logs[0] != logs[1]:
        raise Failure(f"{a}/metrics.jsonl and {b}/metrics.jsonl differ")
    step = logs[0][-1]["step"]
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
        states = [reader.restore((f / f"checkpoints/{step}/state").absolute()) for f in (a, b)]
    arrays = [jax.tree_util.tree_leaves_with_path(state) for state in states]
    for (path, x), (_, y) in zip(*arrays, strict=True):
        if not np.array_equal(x, y):
            raise Failure(f"{jax.tree_util.keystr(path)} differs between {a} and {b}")


def _command(script: str, *arguments: str) -> list[str]:
    return [sys.executable, str(ROOT / "experiments" / script), *arguments]


def _call(script: str, *arguments: str) -> None:
    result = subprocess.run(
        _command(script, *arguments), capture_output=True, encoding="utf-8", errors="replace"
    )
    if result.returncode:
        raise Failure(f"{script} ended with {result.returncode}: {result.stderr[-2000:]}")


def _wait(process: subprocess.Popen, log: pathlib.Path) -> int:
    """The step that a start goes on from, once it says so."""
    while process.poll() is None:
        if (step := _resumed(log)) is not None:
            return step
        time.sleep(0.005)
    raise Failure(f"it ended before its first step: {log.read_text(encoding='utf-8')[-2000:]}")


def _resumed(log: pathlib.Path) -> int | None:
    """The step that the first line of a run names; None as long as it is not there."""
    text = log.read_text(encoding="utf-8")
    match = re.search(r"; (?:resumed after step ([\d,]+)|compiling …)\n", text)
    return match and int((match[1] or "0").replace(",", ""))


def _last_step(run_folder: pathlib.Path) -> int:
    """The newest step in the log."""
    path = run_folder / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    return max((json.loads(x)["step"] for x in lines if x.endswith("\n")), default=0)


def main() -> None:
    """Flags, one call, a line for each kill."""
    out = pathlib.Path(OUT.value)
    if out.exists():
        raise InputError(f"--out={out} exists: choose another folder")
    for line in soak(KILLS.value, out, SEED.value):
        print(line)
    print(f"{KILLS.value} kills: the end is that of an uninterrupted run, bit for bit")


if __name__ == "__main__":
    cli.run(main)
