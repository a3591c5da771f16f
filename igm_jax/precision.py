"""Which matrix products need which precision: the one place that says so.

By default a TPU rounds float32 operands to bfloat16 (8 bits), and an H100 to TF32 (11 bits). A CPU
rounds none. The precision of a product follows from the dtype that a network was told to use.

| product | operands | precision |
|---|---|---|
| of a network in bfloat16 | bfloat16, summed in float32 | default: nothing is rounded further |
| gradient of its attention's logits | float32 | default: rounded, as in FlashAttention |
| of a network in float32 | float32 | highest: float32 means float32 |
| adapter, projector, g's output layer, classifiers | float32 | highest, whatever the networks use |
| losses, metrics, rotations | float32 | highest |

`root` is the square root of what may be zero.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Float

from igm_jax.arguments import Array

EXACT = jax.lax.Precision.HIGHEST


def of(dtype: str | jnp.dtype) -> jax.lax.Precision | None:
    """Precision of the products of a network that computes in `dtype`.

    >>> of("float32").name, of("bfloat16")
    ('HIGHEST', None)
    """
    return EXACT if jnp.dtype(dtype) == jnp.float32 else None


def dot(matrix: Float[Array, "..."], other: Float[Array, "..."]) -> Float[jax.Array, "..."]:
    """Product of matrices or vectors in full precision.

    The default on GPU and TPU has 8 to 11 bits. That is too few to tell neighbours apart, and an
    error of 1e-3 in a cosine is blown up by 1/temperature.

    >>> dot(jnp.eye(2), jnp.ones((2, 1))).tolist()
    [[1.0], [1.0]]
    """
    return jnp.matmul(matrix, other, precision=EXACT)


def float32(x: Float[Array, "*shape"]) -> Float[jax.Array, "*shape"]:
    """The array on the device, as float32 at least.

    >>> float32(jnp.ones(2, "bfloat16")).dtype.name
    'float32'
    """
    x = jnp.asarray(x)
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def root(x: Float[Array, "*shape"]) -> Float[jax.Array, "*shape"]:
    """√x; of zero, and of what rounding left below it, 0 with a gradient of 0.

    The gradient of `jnp.sqrt` at zero is infinite. NaN stays NaN.

    >>> root(jnp.array([4.0, 0.0, -1e-9])).tolist(), float(jax.grad(root)(0.0))
    ([2.0, 0.0, 0.0], 0.0)
    """
    is_zero = x <= 0
    return jnp.where(is_zero, 0, jnp.sqrt(jnp.where(is_zero, 1, x)))
