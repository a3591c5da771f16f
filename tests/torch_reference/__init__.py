"""The whole IGM training step in plain PyTorch: the second implementation that ours is tested by.

It is written from the method, not from `igm_jax`. Only `parity` and `jax_draws`, which compare the
two, import that. Tokens stay in their natural order everywhere. A config is any object with the
attributes of `igm_jax.training.config.ExperimentConfig`. All randomness is an argument
(`draws.Draws`), so that both implementations can be given the same.
"""
