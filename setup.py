"""Packaging of igm_jax. Versions: the ranges the test suite passes on (see README)."""

import pathlib
import re

from setuptools import find_packages, setup

_ROOT = pathlib.Path(__file__).parent
_INIT = (_ROOT / "igm_jax" / "__init__.py").read_text(encoding="utf-8")

setup(
    name="igm_jax",
    version=re.search(r'__version__ = "(.+?)"', _INIT)[1],
    description="Idempotent generative models for skeleton representation learning, in JAX",
    long_description=(_ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["igm_jax", "igm_jax.*"]),
    package_data={"igm_jax": ["py.typed"], "igm_jax.report": ["*.html", "*.css", "*.js"]},
    python_requires=">=3.11",
    install_requires=[
        "jax>=0.10,<0.13",
        "flax>=0.12.8",
        "optax>=0.2.8",
        "orbax-checkpoint>=0.12",
        "chex>=0.1.92",
        "numpy>=2.0",
        "scipy>=1.14.1",  # reads .mat files; jax brings it already
        "ml-collections>=1.1",
        "grain>=0.2.18",
        "absl-py>=2.1",
        "filelock>=4.0",  # one process a run folder, on every system
        "jaxtyping>=0.3",  # shapes in public signatures; no cost at run time
        "rich>=13",  # progress bar and tables; flax brings it already
    ],
    extras_require={
        "cuda12": ["jax[cuda12]"],
        "cuda13": ["jax[cuda13]"],
        "tpu": ["jax[tpu]"],
        # Pictures, experiments/report.py, and train.tensorboard.
        "viz": ["matplotlib", "openTSNE>=1.0", "pillow", "plotly>=6.0", "tensorboardX"],
        "export": [  # experiments/export.py, and the .parquet of embed.py
            "flatbuffers>=24",
            "safetensors>=0.4",
            "onnx>=1.20",  # with jax2onnx, which docs/using.md says how to install
            "onnxruntime>=1.24",
            "pyarrow>=16",
        ],
        "torch": ["torch>=2.6"],  # experiments/import_weights.py reads .pth files
        "bench": ["torch>=2.6"],  # tests/torch_reference: the step in PyTorch
        "test": [
            "pytest",
            "pytest-xdist",
            "hypothesis",
            "scikit-learn",
            "beartype",
            "tensorboardX",
            "matplotlib",
            "openTSNE",
            "pillow",
            "playwright",  # drives a Chromium that is installed, over the page of a report
            "plotly",
            "flatbuffers",
            "safetensors",
            "pyarrow",
            "ruff==0.17.*",
            "pyright[nodejs]==1.1.414",  # with its own Node.js; other versions find other errors
            "setuptools>=77",  # a test builds the wheel
        ],
    },
)
