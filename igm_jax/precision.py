"""Which matrix products need which precision: the one place that says so.

By default a TPU rounds float32 operands to bfloat16 (8 bits), and an H100 to TF32 (11 bits). A CPU
rounds none. The precision of a product follows from the dtype that a network was told to use.

| product | operands | precision |
|---|---|---|
| of a network in bfloat16 | bfloat16, summed in float32 | default: nothing is rounded further |
| gradient of its attention's logits | float32 | default: rounded, as in FlashAttention |
| of a network in float32 | float32 | highest: float32 means float32 |
| adapter, projector, g's output layer | float32 | highest, whatever the networks use |
| losses, metrics, rotations | float32 | highest |
"""

import jax
import jax.numpy as jnp

EXACT = jax.lax.Precision.HIGHEST


def of(dtype: str | jnp.dtype) -> jax.lax.Precision | None:
    """Precision of the products of a network that computes in `dtype`.

    >>> of("float32").name, of("bfloat16")
    ('HIGHEST', None)
    """
    return EXACT if jnp.dtype(dtype) == jnp.float32 else None
