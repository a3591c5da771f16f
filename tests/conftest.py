"""Strict JAX for every test: 8 simulated devices, no silent rank promotion, checked shapes."""

import jax
from jaxtyping import install_import_hook

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_default_matmul_precision", "highest")
# Most of a test's time is compilation, and tiny programs run no faster for it.
jax.config.update("jax_disable_most_optimizations", True)

# Every shape that a public signature promises is checked while the tests run, and free elsewhere.
install_import_hook("igm_jax", "beartype.beartype")


def pytest_configure(config):
    from absl import flags

    flags.FLAGS.mark_as_parsed()  # grain reads absl flags outside app.run
