"""The adapter h: a high-pass filter over features, before they condition the generator."""

import dataclasses

import jax
from jaxtyping import Array, Float

from igm_jax import losses
from igm_jax.arguments import Scalar, check_choice
from igm_jax.precision import dot


@dataclasses.dataclass(frozen=True)
class AdapterConfig:
    """Settings of the filter h.

    Attributes:
      eta: strength η of the filter; 0 is the identity.
      temperature: τ of the similarity softmax.
      over: "tokens" filters the tokens of each clip among themselves (the paper's "sequence
        mean"), "batch" filters the pooled features of the batch (the uniformity of contrastive
        learning) and shifts each clip's tokens along.
    """

    eta: float = 0.1
    temperature: float = 1.0
    over: str = "tokens"

    def __post_init__(self):
        check_choice("model.adapter.over", self.over, ("tokens", "batch"))


def mdff(
    tokens: Float[Array, "*batch N D"], eta: Scalar, temperature: Scalar = 1.0
) -> Float[Array, "*batch N D"]:
    """High-pass filter (1+η) z − η softmax(ẑẑᵀ/τ) z, with ẑ = z/‖z‖.

    softmax(ẑẑᵀ/τ) z is a mean over similar tokens, the low-pass part of z and the direction of the
    uniformity gradient; one step against it makes tokens less alike.

    Args:
      tokens: [..., N, D].
      eta: η ≥ 0.
      temperature: τ > 0.

    Returns:
      [..., N, D].

    References:
      IGM (ECCV 2024), the adapter; the same step as ContraNorm (arXiv 2303.06562).

    >>> import jax.numpy as jnp
    >>> mdff(jnp.ones((4, 3)), eta=0.5)[0].tolist()  # one shared vector has no high-pass part
    [1.0, 1.0, 1.0]
    """
    unit = losses.normalize(tokens)
    similarity = jax.nn.softmax(dot(unit, unit.swapaxes(-1, -2)) / temperature, axis=-1)
    # NumPy's types do not say that JAX's operators come before its own.
    mixed = (1 + eta) * tokens - dot(eta * similarity, tokens)
    return mixed  # pyright: ignore[reportReturnType]


def adapt(
    tokens: Float[Array, "B n D"], config: AdapterConfig
) -> tuple[Float[Array, "B n D"], Float[Array, "B D"]]:
    """Applies h; returns the adapted tokens and their pooled feature.

    Args:
      tokens: [B, n, D] visible tokens of each clip.
      config: see `AdapterConfig`.

    Returns:
      `(tokens [B, n, D], pooled [B, D])`.
    """
    if config.over == "tokens":
        adapted = mdff(tokens, config.eta, config.temperature)
        return adapted, adapted.mean(axis=1)
    pooled = tokens.mean(axis=1)
    filtered = mdff(pooled, config.eta, config.temperature)
    return tokens + (filtered - pooled)[:, None], filtered
