"""The classifier that is fine-tuned: the encoder f and an MLP head."""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from igm_jax.models import Encoder, EncoderConfig, Hardware, pool, stretch_means
from igm_jax.models.layers import dense


def joint_features(
    tokens: Float[Array, "BM N D"], steps: int, stretches: int, present: Bool[Array, "B M"]
) -> Float[Array, "B SGD"]:
    """Mean over each stretch of time and over present bodies; the rest stands side by side.

    Args:
      tokens: [B·M, N, D], joints varying fastest, bodies of a clip adjacent.
      steps: tokens in time; N = steps · G, with G = 1 where a token holds the whole pose.
      stretches: S of the clip, as in `igm_jax.models.EncoderConfig`.
      present: [B, M], False for an absent body, whose row counts for nothing.
    """
    rows, n, d = tokens.shape
    of_joints = tokens.reshape(rows, steps, n // steps * d)
    return pool(stretch_means(of_joints, steps, stretches)[:, None], present)


class Head(nn.Module):
    """Dropout, dense, batch normalisation, ReLU, dense (MAMP's head)."""

    hidden: int
    classes: int
    dropout: float

    @nn.compact
    def __call__(self, x: Float[Array, "B SGD"], *, train: bool) -> Float[Array, "B classes"]:
        """Maps pooled features to logits; `train` uses and updates the statistics of the batch."""
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        x = dense(self.hidden, "float32", "hidden")(x)
        # Momentum and ε are the defaults of PyTorch, which the recipe was published with.
        norm = nn.BatchNorm(use_running_average=not train, momentum=0.9, epsilon=1e-5, name="norm")
        small = nn.initializers.truncated_normal(0.02)
        return dense(self.classes, "float32", "classes", kernel_init=small)(nn.relu(norm(x)))


class Classifier(nn.Module):
    """Encoder and head; the parameters are `{"encoder": …, "head": …}`."""

    encoder_config: EncoderConfig
    hidden: int
    classes: int
    dropout: float
    drop_path: float
    hardware: Hardware = dataclasses.field(default_factory=Hardware.here)

    @nn.compact
    def __call__(
        self, clip: Float[Array, "B M T V C"], present: Bool[Array, "B M"], *, train: bool
    ) -> Float[Array, "B classes"]:
        """Maps standardised clips to logits.

        Args:
          clip: [B, M, T, V, C].
          present: [B, M].
          train: drop paths and features, with the keys named "drop_path" and "dropout", and
            normalise by the statistics of the batch.
        """
        c = self.encoder_config
        encoder = Encoder(c, self.hardware, name="encoder")
        rows = clip.reshape(-1, *clip.shape[2:])
        tokens = encoder(rows, drop_path=self.drop_path if train else 0.0)
        x = joint_features(tokens.astype(jnp.float32), c.grid[0], c.stretches, present)
        return Head(self.hidden, self.classes, self.dropout, name="head")(x, train=train)
