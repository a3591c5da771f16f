"""The sizes that are measured are those of the config files, and need neither data nor grain."""

import sys

import pytest
from commands import ROOT, finish, output

from benchmarks import sizes
from igm_jax.errors import InputError
from igm_jax.training.config import differences
from igm_jax.training.mapping import to_mapping


def changed(a, b):
    lines = differences(to_mapping(a), to_mapping(b))
    return {line.partition(":")[0] for line in lines} - {"name"}


def test_sizes_differ_from_their_config_files_by_precision_and_masks_alone():
    precision = {"model.encoder.dtype", "model.generator.dtype"}
    masks = {"objective.mask_ratio", "objective.reencode_mask_ratio"}
    expected = {"nw_ucla": set(), "ntu_masked": precision, "ntu_unmasked": precision | masks}
    for name, keys in expected.items():
        of_file = sizes.size(sizes.SIZES[name][0])
        assert changed(of_file, sizes.size(name, on_cpu=False)) == keys, name


def test_a_config_file_is_a_size_and_keeps_its_precision():
    config = sizes.size("configs/ntu120.py:xset", batch=4)
    assert (config.data.protocol, config.train.batch_size) == ("xset", 4)
    assert config.model.generator.dtype == "bfloat16"
    assert sizes.size("configs/ntu120.py", dtype="float32").model.generator.dtype == "float32"
    with pytest.raises(InputError, match=r"configs/none\.py: no such config file"):
        sizes.size("configs/none.py")
    with pytest.raises(InputError, match="'xviewer' is unknown"):
        sizes.size("configs/ntu120.py:xviewer")


def test_a_config_that_leaves_its_joints_to_a_store_is_refused():
    with pytest.raises(InputError, match=r"model\.encoder\.joints=0 must be 20 or 25"):
        sizes.reading(sizes.size("configs/custom.py"))


@pytest.mark.parametrize("name", sizes.SIZES)
def test_every_size_can_be_built(name):
    for batch in (0, 3):
        config = sizes.size(name, batch=batch)
        assert batch in (0, config.train.batch_size)
        layout = sizes.reading(config).layout
        assert layout.num_joints == config.model.encoder.joints
    expected = sizes.size(sizes.SIZES[name][0]).train.batch_size
    assert sizes.size(name, on_cpu=False).train.batch_size == expected


def test_unknown_size_is_refused():
    with pytest.raises(InputError, match=r"'nw_ucle' is unknown \(did you mean 'nw_ucla'\?\)"):
        sizes.size("nw_ucle")


BLOCKER = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"grain", "array_record", "orbax"}:
            raise ModuleNotFoundError(f"{name} was imported")

sys.meta_path.insert(0, Absent())
"""


def test_program_and_benchmarks_need_neither_grain_nor_orbax():
    """On a machine with jax, flax, optax, jaxtyping and ml_collections alone."""
    code = "import igm_jax.training.program, benchmarks.ours, benchmarks.attention\n"
    code += "benchmarks.ours.sizes.size('nw_ucla')"
    scripts = "sys.path.append('benchmarks')\n"  # as if one of them were started
    output(ROOT, sys.executable, "-c", BLOCKER + scripts + code)
    # The blocker can be seen to work.
    done = finish(ROOT, sys.executable, "-c", BLOCKER + "import grain")
    assert done.returncode == 1 and "grain was imported" in done.stderr
