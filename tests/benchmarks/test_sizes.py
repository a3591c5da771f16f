"""The sizes that are measured are those of the config files, and need none of their imports."""

import importlib
import pathlib
import subprocess
import sys

import pytest

from benchmarks import sizes
from igm_jax.errors import InputError
from igm_jax.training.config import ExperimentConfig, differences
from igm_jax.training.mapping import from_mapping, to_mapping

ROOT = pathlib.Path(__file__).parents[2]
IRRELEVANT = {"name", "probe", "seed"}
WHERE = {"path", "dataset", "protocol"}  # the data lies


def of_file(module, variant=None):
    mapping = importlib.import_module(f"configs.{module}").get_config(variant).to_dict()
    return from_mapping(ExperimentConfig, mapping)


def relevant(config):
    mapping = {k: v for k, v in to_mapping(config).items() if k not in IRRELEVANT}
    mapping["data"] = {k: v for k, v in mapping["data"].items() if k not in WHERE}
    return mapping


@pytest.mark.parametrize(
    ("name", "file", "dtype"),
    [("nw_ucla", "nw_ucla", "float32"), ("ntu_masked", "ntu60", "bfloat16")],
)
def test_sizes_are_those_of_the_config_files(name, file, dtype):
    ours = sizes.size(name, dtype=dtype, on_cpu=False)
    assert differences(relevant(of_file(file)), relevant(ours)) == []


def test_unmasked_differs_by_the_masks_alone():
    a, b = (sizes.size(f"ntu_{x}", batch=2) for x in ("masked", "unmasked"))
    assert [line.partition(":")[0] for line in differences(relevant(a), relevant(b))] == [
        "objective.mask_ratio", "objective.reencode_mask_ratio",
    ]  # fmt: skip


@pytest.mark.parametrize("name", sizes.SIZES)
def test_every_size_can_be_built(name):
    for batch in (0, 3):
        config = sizes.size(name, batch=batch)
        assert batch in (0, config.train.batch_size)
        layout = sizes.inputs(config).layout
        assert layout.num_joints == config.model.encoder.joints
    assert sizes.size(name, on_cpu=False).train == sizes.SIZES[name].train


def test_unknown_size_is_refused():
    with pytest.raises(InputError, match=r"'nw_ucle' is unknown \(did you mean 'nw_ucla'\?\)"):
        sizes.size("nw_ucle")


BLOCKER = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"grain", "array_record", "ml_collections", "orbax"}:
            raise ModuleNotFoundError(f"{name} was imported")

sys.meta_path.insert(0, Absent())
"""


def test_program_and_benchmarks_need_neither_grain_nor_orbax_nor_ml_collections():
    """On a machine with jax, flax, optax and jaxtyping alone."""
    code = "import igm_jax.training.program, benchmarks.ours, benchmarks.attention"
    done = subprocess.run(
        [sys.executable, "-c", BLOCKER + code], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    # The blocker can be seen to work.
    done = subprocess.run([sys.executable, "-c", BLOCKER + "import grain"], capture_output=True)
    assert done.returncode == 1 and b"grain was imported" in done.stderr
