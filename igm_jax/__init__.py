"""IGM: idempotent generative models for skeleton representation learning, in functional JAX."""

__version__ = "0.1.0"
