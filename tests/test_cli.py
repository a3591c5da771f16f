"""Shared parts of the commands; tests/experiments/ has their answers to bad input."""

import jax

from igm_jax import cli


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
