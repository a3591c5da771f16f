"""Starts commands as a user does: in a process of their own, in another folder than the clone."""

import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]


def start(folder, *command, env=None):
    """Any command in this folder; its output can be read as text."""
    return subprocess.Popen(
        [str(word) for word in command],
        cwd=folder,
        env=env,
        encoding="utf-8",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def finish(folder, *command, env=None):
    """Any command in this folder, at its end."""
    process = start(folder, *command, env=env)
    try:
        stdout, stderr = process.communicate(timeout=300)
    finally:
        process.terminate()
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def output(folder, *command, env=None):
    """The printed text of a command that must succeed."""
    done = finish(folder, *command, env=env)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-2000:]
    return done.stdout


def experiment(name, *flags):
    """The command of a script in experiments/."""
    return [sys.executable, ROOT / "experiments" / name, *flags]


def run(folder, name, *flags):
    """A script of experiments/ in this folder, at its end."""
    return finish(folder, *experiment(name, *flags))


def assert_refused(result, *told):
    """One line, exit code 1, and every one of the words in it."""
    assert result.returncode == 1, result.stderr
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    for word in told:
        assert word in line, line
