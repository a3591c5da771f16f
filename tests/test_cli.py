"""Shared parts of the commands; tests/experiments/ has their answers to bad input."""

import re
import subprocess
import sys

import jax
from commands import ROOT

from igm_jax import cli, shell


def test_a_reader_that_has_enough_ends_the_command_without_a_word():
    program = "from igm_jax import cli; cli.run(lambda: [print(i) for i in range(100000)])"
    command = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert command.stdout.readline() == "0\n"
    command.stdout.close()
    assert command.stderr.read() == "" and command.wait() == 128 + 13
    command.stderr.close()


def test_a_command_can_be_pasted():
    assert shell.command("predict.py", "runs/a b", "FILES…", "--checkpoint=best") == (
        "python experiments/predict.py 'runs/a b' FILES… --checkpoint=best"
    )


def test_compiled_programs_lie_beside_the_runs_or_where_jax_was_told(tmp_path):
    told = jax.config.jax_compilation_cache_dir
    try:
        jax.config.update("jax_compilation_cache_dir", "elsewhere")
        cli.keep_compiled_programs(tmp_path / "runs" / "one")
        assert jax.config.jax_compilation_cache_dir == "elsewhere"
        jax.config.update("jax_compilation_cache_dir", None)
        cli.keep_compiled_programs(tmp_path / "runs" / "one")
        assert jax.config.jax_compilation_cache_dir == str(tmp_path / "runs" / ".jax_cache")
    finally:
        jax.config.update("jax_compilation_cache_dir", told)


def test_every_command_that_loads_a_run_keeps_its_compiled_programs():
    keeps = r"keep_compiled_programs|define_run_folder|run_flags\.define"
    for path in sorted((ROOT / "experiments").glob("[!_]*.py")):
        code = path.read_text(encoding="utf-8")
        assert "load_run(" not in code or re.search(keeps, code), path.name
