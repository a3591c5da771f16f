"""Transformer blocks: one block, a loop over many, and a network split by rows."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, Int, Key

from igm_jax.models.attention import MIXED
from igm_jax.models.hardware import Hardware
from igm_jax.models.layers import Mlp, SelfAttention

# Of the rows that are packed: XLA need not add up or clamp.
_DISTINCT: dict[str, Any] = {"unique_indices": True, "mode": "promise_in_bounds"}


def by_rows(
    module: nn.Module,
    mesh: Mesh | None,
    micro_batches: int,
    *rows: Any,
    packed: Int[Array, " packed"] | None = None,
) -> Any:
    """Computes `module(*rows)`: each device its own rows, in equal parts one after another.

    The backward pass recomputes each part, so only one part's activations are in memory.
    The result is that of all rows at once, so a loss that compares clips compares all of them.

    Args:
      module: a network that computes each row of the batch independently of the others.
      mesh: devices that the rows are split over, each of which has its own copy of the parameters
        (`parallel.spread`). None: the parameters have no axis of devices.
      micro_batches: number of parts.
      *rows: trees of arrays [R, …] with R a multiple of parts times devices, or None.
      packed: [P] the rows to compute, distinct. Each device has P / devices of them, as positions
        among its own rows. None: all rows.

    Returns:
      What the module returns, [R, …]; zeros in rows that are not computed.
    """
    if module.is_initializing() or (mesh is None and micro_batches == 1 and packed is None):
        return module(*rows)
    network, variables = module.unbind()

    def on_one_device(params: Any, rows: Any, packed: Any) -> Any:
        if mesh is not None:
            params = jax.tree.map(lambda x: x[0], params)

        def compute(rows: Any) -> Any:
            return network.apply({"params": params}, *rows)

        if packed is None:
            return _in_parts(compute, micro_batches, rows)
        chosen = jax.tree.map(lambda x: x.at[packed].get(**_DISTINCT), rows)
        count = len(jax.tree.leaves(rows)[0])

        def spread(x: Array) -> Array:
            zeros = jnp.zeros((count, *x.shape[1:]), x.dtype)
            return zeros.at[packed].set(x, **_DISTINCT)

        return jax.tree.map(spread, _in_parts(compute, micro_batches, chosen))

    if mesh is None:
        return on_one_device(variables["params"], rows, packed)
    split = PartitionSpec(mesh.axis_names)
    # No collective runs in here, so `check_vma` has nothing to check.
    everywhere = jax.shard_map(
        on_one_device, mesh=mesh, in_specs=(split, split, split), out_specs=split, check_vma=False
    )
    return everywhere(variables["params"], rows, packed)


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
    gelu: str = "tanh"
    epsilon: float = 1e-6

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

        h = nn.LayerNorm(epsilon=self.epsilon, dtype=self.dtype, name="norm1")(x)
        x = added(x, SelfAttention(self.heads, self.dtype, self.hardware, name="attention")(h))
        h = nn.LayerNorm(epsilon=self.epsilon, dtype=self.dtype, name="norm2")(x)
        return added(x, Mlp(self.mlp_width, self.dtype, self.gelu, name="mlp")(h)), None
