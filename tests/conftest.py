"""Strict JAX for every test: 8 simulated devices, no silent rank promotion, checked shapes."""

import ctypes
import gc
import os
import pathlib
import tempfile

# Most of a test's time is compilation, and tiny programs run no faster for being compiled well. The
# commands that tests start inherit all of this.
os.environ |= {
    "JAX_PLATFORMS": "cpu",
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "true",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    # Half of the compilation of a step; jaxlib 0.10 to 0.12 know the flag, and XLA ends at once,
    # naming it, where a later one does not.
    "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_use_fusion_emitters=false",
}
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:  # as in the workers of pytest-xdist
    # What one test compiled, no other one compiles again, until the session ends.
    _compiled = tempfile.TemporaryDirectory(prefix="igm_jax-compiled-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _compiled.name

import jax
import jaxtyping
import pytest

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_default_matmul_precision", "highest")

# Every shape that a public signature promises is checked while the tests run, and free elsewhere.
jaxtyping.install_import_hook("igm_jax", "beartype.beartype")


def pytest_configure(config):
    from absl import flags

    flags.FLAGS.mark_as_parsed()  # grain reads absl flags outside app.run


@pytest.fixture
def unchecked_shapes():
    """Users run without the import hook that checks shapes: then only our own messages are left."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="module", autouse=True)
def forget_compiled_programs():
    """Bounds the memory of a worker: every operation that was compiled takes some 0.3 MB.

    Only from 1 GB on, for it takes half a second. What a later file needs again is read from disk.
    """
    yield
    pages = pathlib.Path("/proc/self/statm")  # of Linux
    if (
        pages.exists()
        and int(pages.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE") > 1e9
    ):
        jax.clear_caches()
        gc.collect()
        libc = ctypes.CDLL(None)
        if hasattr(libc, "malloc_trim"):  # glibc keeps what is freed unless it is told
            libc.malloc_trim(0)
