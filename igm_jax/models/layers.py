"""Shared layers of encoder and generator: patches, attention, MLP, positions."""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, Key

from igm_jax import precision
from igm_jax.errors import InputError
from igm_jax.models.attention import MIXED, attention
from igm_jax.models.hardware import Hardware

# Transformers without a class token are trained with Xavier-uniform matrices since MAE.
kernel_init = nn.initializers.xavier_uniform()
position_init = nn.initializers.truncated_normal(0.02, jnp.float32)


def apply(model: nn.Module, params: Any, *args: Any, method: str | None = None) -> Any:
    """Calls a module, or a method of it, with these parameters; returns its result alone.

    `nn.Module.apply` can also return changed variables; no module here has any.

    Args:
      model: the module.
      params: its parameters.
      args: arguments of the call.
      method: name of the method; `__call__` by default.
    """
    return model.apply({"params": params}, *args, method=method)


def check_transformer(part: str, width: int, heads: int, dtype: str) -> None:
    """Raises `InputError` for a size or precision that the blocks of `part` cannot have."""
    if heads < 1 or width < 1 or width % heads:
        raise InputError(f"{part} width={width} is not a multiple of heads={heads}")
    if dtype not in ("float32", "bfloat16"):
        raise InputError(f"{part} dtype={dtype!r} is unknown: choose float32 or bfloat16")


@dataclasses.dataclass(frozen=True)
class Patch:
    """Size of a token: so many frames of so many neighbouring joints.

    Attributes:
      frames: must divide T.
      joints: must divide V; the joints of a token follow each other in the layout. 0 = all V.
    """

    frames: int = 4
    joints: int = 1

    def grid(self, frames: int, joints: int) -> tuple[int, int]:
        """Tokens of a clip in time, and tokens at each time."""
        return frames // self.frames, joints // (self.joints or max(joints, 1))

    def check(self, frames: int, joints: int) -> None:
        """Raises `InputError` unless a clip of T frames and V joints is a whole number of patches.

        Args:
          frames: T.
          joints: V, or 0 while it is not known.
        """
        if self.frames < 1 or frames < 1:
            raise InputError(f"frames={frames} and patch_frames={self.frames} must be at least 1")
        if frames % self.frames:
            raise InputError(
                f"frames={frames} is not a multiple of patch_frames={self.frames}: choose another "
                f"frame count, such as {frames - frames % self.frames or self.frames}"
            )
        if self.joints < 0 or joints % (self.joints or 1):
            divisors = ", ".join(str(n) for n in range(1, joints + 1) if joints % n == 0)
            raise InputError(
                f"joints={joints} is not a multiple of patch_joints={self.joints}: choose "
                f"{divisors or 'at least 1'}, or 0 for all joints"
            )


def patchify(clip: Float[Array, "B T V C"], patch: Patch) -> Float[Array, "B N P"]:
    """Cuts a clip into tokens of `patch.frames` frames × `patch.joints` joints.

    Args:
      clip: [B, T, V, C].
      patch: size of a token.

    Returns:
      [B, N, P] with N the product of `patch.grid(T, V)` and P the numbers in a token; of the
      tokens, joints vary fastest.

    Raises:
      InputError: the patch does not divide the clip.
    """
    b, t, v, c = clip.shape
    patch.check(t, v)
    steps, groups = patch.grid(t, v)
    patches = clip.reshape(b, steps, t // steps, groups, v // groups, c).swapaxes(2, 3)
    return patches.reshape(b, steps * groups, -1)


def unpatchify(
    patches: Float[Array, "B N P"], patch: Patch, joints: int
) -> Float[Array, "B T V C"]:
    """The inverse of `patchify`, for clips of V = `joints`."""
    b, n, _ = patches.shape
    groups = patch.grid(patch.frames, joints)[1]
    x = patches.reshape(b, n // groups, groups, patch.frames, joints // groups, -1)
    return x.swapaxes(2, 3).reshape(b, n // groups * patch.frames, joints, -1)


def flat(layer: Callable[[Array], Array], x: Float[Array, "B N D"]) -> Float[Array, "B N E"]:
    """Applies a token-wise layer to [B·N, D].

    XLA's CPU backend takes twice as long for the gradient of a dense layer over [B, N, D].
    """
    return layer(x.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], -1)


def dense(width: int, dtype: str, name: str, **settings: Any) -> nn.Dense:
    """A dense layer with the product's precision that `igm_jax.precision` states for `dtype`.

    Args:
      width: numbers of the output.
      dtype: compute precision; parameters are float32 always.
      name: of the parameters.
      **settings: of `nn.Dense`; the kernel is Xavier-uniform by default.
    """
    settings = {"kernel_init": kernel_init, **settings}
    return nn.Dense(width, dtype=dtype, precision=precision.of(dtype), name=name, **settings)


class SelfAttention(nn.Module):
    """Multi-head self-attention with biases: 4 D² + 4 D parameters."""

    heads: int
    dtype: str
    hardware: Hardware

    @nn.compact
    def __call__(self, x: Float[Array, "B N D"]) -> Float[Array, "B N D"]:
        """[B, N, D] → [B, N, D]."""
        b, n, d = x.shape
        qkv = flat(dense(3 * d, self.dtype, "qkv"), x)
        query, key, value = jnp.unstack(qkv.reshape(b, n, 3, self.heads, d // self.heads), axis=2)
        mixed = attention(query, key, value, self.hardware).reshape(b, n, d)
        return flat(dense(d, self.dtype, "out"), mixed)


class Mlp(nn.Module):
    """Dense, GELU, Dense."""

    hidden: int
    dtype: str

    @nn.compact
    def __call__(self, x: Float[Array, "B N D"]) -> Float[Array, "B N D"]:
        """[B, N, D] → [B, N, D]."""
        width = x.shape[-1]
        inner = dense(self.hidden, self.dtype, "in")
        outer = dense(width, self.dtype, "out")
        return flat(lambda x: outer(nn.gelu(inner(x))), x)


class PositionEmbedding(nn.Module):
    """Learned temporal and spatial embeddings, separate and added.

    Attributes:
      grid: tokens in time, and tokens at each time (`Patch.grid`).
      width: D.
    """

    grid: tuple[int, int]
    width: int

    @nn.compact
    def __call__(self) -> Float[Array, "N D"]:
        """Returns one row for each token, in the order of `patchify`."""
        steps, groups = self.grid
        temporal = self.param("temporal", position_init, (steps, self.width))
        spatial = self.param("spatial", position_init, (groups, self.width))
        return (temporal[:, None] + spatial[None]).reshape(-1, self.width)


def by_rows(module: nn.Module, mesh: Mesh | None, micro_batches: int, *rows: Any) -> Any:
    """Computes `module(*rows)`: each device its own rows, and those in equal parts one by one.

    The backward pass recomputes each part, so only one part's activations are in memory.
    The result is that of all rows at once, so a loss that compares clips compares all of them.

    Args:
      module: a network whose every output row depends on the same row of its inputs alone.
      mesh: devices that the rows are split over, each of which has its own copy of the parameters
        (`parallel.spread`). None: the parameters have no axis of devices.
      micro_batches: number of parts.
      *rows: trees of arrays [R, …] with R a multiple of parts times devices, or None.

    Returns:
      What the module returns, [R, …].
    """
    if module.is_initializing() or (mesh is None and micro_batches == 1):
        return module(*rows)
    network, variables = module.unbind()

    def on_one_device(params: Any, rows: Any) -> Any:
        if mesh is not None:
            params = jax.tree.map(lambda x: x[0], params)
        return _in_parts(lambda rows: network.apply({"params": params}, *rows), micro_batches, rows)

    if mesh is None:
        return on_one_device(variables["params"], rows)
    split = PartitionSpec(mesh.axis_names)
    # Nothing crosses the devices in here, so there is nothing to be checked.
    everywhere = jax.shard_map(
        on_one_device, mesh=mesh, in_specs=(split, split), out_specs=split, check_vma=False
    )
    return everywhere(variables["params"], rows)


def _in_parts(function: Callable[[Any], Any], count: int, rows: Any) -> Any:
    """`function(rows)` in `count` parts, each recomputed in the backward pass."""
    if count == 1:
        return function(rows)

    def split(x: Array) -> Array:
        return x.reshape(-1, count, *x.shape[1:]).swapaxes(0, 1)

    def join(x: Array) -> Array:
        return x.swapaxes(0, 1).reshape(-1, *x.shape[2:])

    parts = jax.lax.map(jax.checkpoint(function, prevent_cse=False), jax.tree.map(split, rows))
    return jax.tree.map(join, parts)


def scan_blocks(
    block: type[nn.Module],
    depth: int,
    hardware: Hardware,
    *,
    broadcast: int = 0,
    each: int = 0,
    remat: bool = False,
):
    """`depth` blocks with stacked parameters [depth, …], compiled once.

    Args:
      block: a module whose call is `(x, *broadcast, *each) -> (x, None)`.
      depth: number of blocks.
      hardware: on CPU the loop is unrolled. Elsewhere the backward pass recomputes what is cheap,
        such as GELU and norms, and keeps the products (`keep_products`).
      broadcast: how many arguments after x every block gets alike.
      each: how many further arguments [depth, …] give every block its own entry.
      remat: recompute the whole block in the backward pass, and keep only its input.
    """
    on_cpu = hardware.platform == "cpu"
    if remat:
        block = nn.remat(block, prevent_cse=False)
    elif not on_cpu:
        block = nn.remat(block, prevent_cse=False, policy=keep_products)
    return nn.scan(
        block,
        variable_axes={"params": 0},
        split_rngs={"params": True, "drop_path": True},
        in_axes=(nn.broadcast,) * broadcast + (0,) * each,  # pyright: ignore[reportArgumentType]
        length=depth,
        # Copies in and out of the loop cost the CPU a fifth of the step; compiling costs it little.
        unroll=depth if on_cpu else 1,
    )


def keep_products(primitive: Any, *args: Any, **params: Any) -> bool:
    """Policy of `jax.checkpoint`: keeps dense layers and attention, recomputes all between them.

    Of attention it keeps the mixed values (`MIXED`), and of a fused kernel all that it returns,
    but no weights. So no large product is computed twice where attention is fused.
    """
    policies = jax.checkpoint_policies
    return (
        policies.dots_with_no_batch_dims_saveable(primitive, *args, **params)
        or policies.save_only_these_names(MIXED)(primitive, *args, **params)
        or primitive.name.startswith("dot_product_attention_fwd")  # cuDNN's
    )


def drop_path(
    key: Key[Array, ""], branch: Float[Array, "B N D"], rate: float | Float[Array, ""]
) -> Float[Array, "B N D"]:
    """Drops a residual branch of some rows, and scales it in the others to the same mean.

    Args:
      key: random key.
      branch: [B, N, D], the output of attention or MLP, before it is added.
      rate: share of the rows that lose it, in [0, 1).

    References:
      Huang et al., Deep Networks with Stochastic Depth (ECCV 2016).
    """
    kept = 1 - jnp.asarray(rate, jnp.float32)
    chosen = jax.random.bernoulli(key, kept, (branch.shape[0], 1, 1))
    return branch * (chosen.astype(jnp.float32) / kept).astype(branch.dtype)


class Block(nn.Module):
    """A transformer block: x + attention(LN x), then x + MLP(LN x)."""

    heads: int
    mlp_width: int
    dtype: str
    hardware: Hardware

    @nn.compact
    def __call__(
        self, x: Float[Array, "B N D"], dropped: Float[Array, ""] | None = None
    ) -> tuple[Float[Array, "B N D"], None]:
        """Maps [B, N, D] to ([B, N, D], None), as `nn.scan` needs.

        Args:
          x: tokens.
          dropped: rate of `drop_path` for both branches, with keys named "drop_path"; None for no
            drop-path.
        """

        def added(x: Array, branch: Array) -> Array:
            if dropped is not None:
                branch = drop_path(self.make_rng("drop_path"), branch, dropped)
            return x + branch

        h = nn.LayerNorm(dtype=self.dtype, name="norm1")(x)
        x = added(x, SelfAttention(self.heads, self.dtype, self.hardware, name="attention")(h))
        h = nn.LayerNorm(dtype=self.dtype, name="norm2")(x)
        return added(x, Mlp(self.mlp_width, self.dtype, name="mlp")(h)), None
