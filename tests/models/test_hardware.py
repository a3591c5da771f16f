"""Programs are built for the devices of their mesh."""

import jax

from igm_jax import parallel
from igm_jax.models import Hardware
from igm_jax.parallel import ParallelConfig


def test_a_mesh_of_one_device_computes_whole_rows():
    one = Hardware.of(parallel.make_mesh(ParallelConfig(), 8, jax.devices()[:1]))
    many = Hardware.of(parallel.make_mesh(ParallelConfig(), 8))
    assert one == Hardware("cpu") and one.device == jax.devices()[0]
    assert many == Hardware("cpu", whole=False)
    assert Hardware.of(parallel.make_mesh(ParallelConfig(), 8), whole=True) == Hardware("cpu")


def test_here_is_what_this_process_has():
    assert jax.device_count() == 8
    assert Hardware.here() == Hardware("cpu", whole=False)


def test_only_gpus_have_options_of_the_compiler():
    assert Hardware("gpu").compiler_options == {"xla_gpu_enable_triton_gemm": False}
    assert Hardware("cpu").compiler_options == Hardware("tpu").compiler_options == {}
