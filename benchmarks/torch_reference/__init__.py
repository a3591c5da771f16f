"""IGM once more, plainly in PyTorch: what our training step is measured against, and checked by.

Written from the method rather than from `igm_jax`, which it does not import; tokens stay in their
natural order everywhere. A config is any object with the attributes of
`igm_jax.training.config.ExperimentConfig`. All randomness is an argument (`draws.Draws`), so that
both implementations can be given the same.
"""
