"""The code of README and docs/own_data.md runs as it stands, commands in their smoke variants."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
OWN_DATA = (ROOT / "docs" / "own_data.md").read_text(encoding="utf-8")


def blocks(language, text=README):
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def commands_of(text):
    return [
        line.split()
        for block in blocks("bash", text)
        for line in block.splitlines()
        if line.startswith("python experiments/")
    ]


def run(arguments, cwd):
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        arguments, cwd=cwd, env=env, capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder in which the README's commands were run, the training ones as smoke tests."""
    folder = tmp_path_factory.mktemp("readme")
    commands = commands_of(README)
    assert [c[1] for c in commands] == [
        f"experiments/{name}.py" for name in ("prepare_data", "pretrain", "linear_probe", "knn")
    ]
    for _, script, *flags in commands:
        if "prepare_data" in script:
            # As many as in test_commands.py, whose compiled programs then serve here.
            flags = [*flags, "--num_clips=192"]
        if "pretrain" in script:
            flags = [re.sub(r"configs/(\w+)\.py", rf"{ROOT}/configs/\1.py:smoke", f) for f in flags]
            flags += ["--run=runs/synthetic-xsub"]
        run([sys.executable, str(ROOT / script), *flags], folder)
    return folder


def test_commands_leave_what_the_readme_says(folder):
    made = {p.name for p in (folder / "runs" / "synthetic-xsub").iterdir()}
    assert made >= {
        "config.json", "environment.json", "metrics.jsonl", "checkpoints", "linear_probe.json",
        "knn.json",
    }  # fmt: skip


@pytest.mark.parametrize("code", blocks("python"), ids=lambda code: code.splitlines()[0])
def test_python_block_runs(code, folder):
    assert run([sys.executable, "-c", code], folder).strip()


def test_there_are_blocks_to_run():
    assert len(blocks("python")) == 2


def test_named_files_exist():
    for path in re.findall(r"`((?:igm_jax|configs|experiments)/[\w./]*)`", README + OWN_DATA):
        assert (ROOT / path).exists(), path


def test_own_data_from_the_first_line_to_the_tables(tmp_path):
    (code,) = blocks("python", OWN_DATA)
    assert run([sys.executable, "-c", code], tmp_path) == "my_clips: 60 clips\n"
    scripts = []
    for _, script, *flags in commands_of(OWN_DATA):
        flags = [flag.replace("=configs/", f"={ROOT}/configs/") for flag in flags]
        run([sys.executable, str(ROOT / script), *flags], tmp_path)
        scripts.append(pathlib.Path(script).stem)
    assert scripts == ["prepare_data", "pretrain", "linear_probe", "knn"]
    made = {p.name for p in (tmp_path / "runs" / "custom-xsub-smoke").iterdir()}
    assert made >= {"checkpoints", "linear_probe.json", "knn.json"}
