"""Transformer whose feed-forward layers are mixtures of experts.

The blocks of transformer.py, each SwiGLU replaced by E of them (Shazeer et al. 2017,
arXiv 1701.06538), of which every token takes the k that its router scores highest,
weighed by the softmax of those k scores (Jiang et al. 2024, Mixtral, arXiv 2401.04088,
section 2.1). No token is dropped, however many choose the same expert. What keeps the
experts evenly loaded is the auxiliary loss of Fedus et al. 2021 (Switch, arXiv
2101.03961, eq. 4 to 6), with the paper's coefficient and summed over layers as there.
It is taken in each sequence and averaged, as by the groups of GShard (Lepikhin et al.
2020, arXiv 2006.16668, section 2.2): so it does not depend on how a batch is cut up.

A target size counts all parameters ("params") or those that work on one token
("active"), without embeddings both.

Shapes: B batch, L length, D width, F hidden units of an expert, E experts, k chosen;
g groups of T tokens, each sorted on its own; n blocks of b slots, one expert each.

Options:
  experts: E (default 8).
  chosen: k (default 2).
  queries_per_kv, qk_norm: as in transformer.py; without qk_norm, this is Mixtral.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from scaling.errors import UserError
from scaling.families import Output, Tokens, transformer
from scaling.families._decoder import Decoder
from scaling.families._ladder import Ladder, hiddens, measure, options
from scaling.families._layers import Dense, RMSNorm, fan_in, layout, param

OBJECTIVES = ("next_token",)

BALANCE = 0.01

# Blocks that the chosen rows would fill if none were padded, per expert: each expert's
# last block is half empty on average, so a sixteenth of the products is padding.
BLOCKS = 8


@dataclasses.dataclass(frozen=True)
class Config(transformer.Config):
    """A member of the family; `hidden` is one expert's."""

    experts: int
    chosen: int


def ladder(target: float, spec: Tokens, by: str = "params", **given: Any) -> Config:
    """The member about as large as `target`; see families/__init__.py.

    Depth and heads follow width as in transformer.py; the chosen experts together have
    near 8/3 width hidden units, what a Transformer's one layer has.
    """
    defaults = {"experts": 8, "chosen": 2, **transformer.OPTIONS}
    picked: dict[str, Any] = dict(options("moe", given, defaults))
    transformer.check(picked)
    for name, most in (("experts", math.inf), ("chosen", picked["experts"])):
        value = picked[name]
        if not isinstance(value, int) or not 1 <= value <= most:
            right = "1 or more, and no more chosen than there are experts"
            raise UserError(f"model.options.{name}", value, right)
    return _members(spec, by, **picked).at(target)


@functools.cache
def _members(
    spec: Tokens, by: str, experts: int, chosen: int, queries_per_kv: int, qk_norm: bool
) -> Ladder[Config]:
    size = _active if by == "active" else measure(by, spec, params, flops)
    candidates = (
        Config(*shape, hidden, experts, chosen, qk_norm=qk_norm)
        for shape in transformer.shapes(queries_per_kv)
        for hidden in hiddens(shape[1], 1.2 / chosen, 4.8 / chosen)
    )
    strain = lambda c: transformer.strain(c, c.chosen * c.hidden)
    return Ladder(candidates, size, strain)


def params(config: Config) -> int:
    """Non-embedding parameters, all experts'."""
    c = config
    per_layer = _matrices(c, c.experts) + transformer.norm_params(c)
    return c.depth * per_layer + c.width


def _matrices(c: Config, experts: int) -> int:
    """Of a layer with so many experts."""
    attention = c.width * c.head_dim * (2 * c.heads + 2 * c.kv_heads)
    return attention + c.width * c.experts + experts * 3 * c.width * c.hidden


def _active(c: Config) -> int:
    idle = (c.experts - c.chosen) * 3 * c.width * c.hidden
    return params(c) - c.depth * idle


def active(config: Config, spec: Tokens) -> int:
    """Parameters that work on one token, embedding table and head among them."""
    return _active(config) + 2 * spec.vocab * config.width


def flops(config: Config, spec: Tokens) -> float:
    """Forward matrix-product FLOPs of one example, of the chosen experts alone.

    The attention square is counted whole. The padding of each expert's last block is
    not counted: up to an eighth of the experts' products more are made.
    """
    c, length = config, spec.length
    products = c.depth * _matrices(c, c.chosen) + c.width * spec.vocab
    attention = c.depth * 2 * length * c.heads * c.head_dim
    return 2.0 * length * (products + attention)


class Slots(NamedTuple):
    """Where the rows of a group go: its T k (token, choice) pairs sorted by expert.

    Every expert's rows fill whole blocks of b slots, the last one perhaps in part.

    expert_n: of each block. row_S: the row in each slot, T k where it is empty.
    slot_Txk: of each row.
    """

    expert_n: jax.Array
    row_S: jax.Array
    slot_Txk: jax.Array


def assign(expert_Txk: jax.Array, experts: int) -> Slots:
    """Sorts the rows of a group; the number of blocks depends on shapes alone."""
    rows = expert_Txk.size
    b = max(1, rows // (BLOCKS * experts))
    n = (rows + experts * (b - 1)) // b
    # An expert with c rows takes ceil(c / b) blocks; n is the most that all together
    # can take.
    expert_R = expert_Txk.reshape(rows)
    order_R = jnp.argsort(expert_R)
    count_E = jnp.sum(expert_R[:, None] == jnp.arange(experts), axis=0)
    first_E = jnp.cumsum(count_E) - count_E
    ends_E = jnp.cumsum(-(-count_E // b))
    begin_E = b * (ends_E - -(-count_E // b))
    # argsort of argsort is a row's rank; less its expert's first, its place among them.
    slot_R = begin_E[expert_R] + jnp.argsort(order_R) - first_E[expert_R]

    # The inverse: which row is in a slot.
    expert_n = jnp.sum(jnp.arange(n)[:, None] >= ends_E, axis=1)
    expert_n = jnp.minimum(expert_n, experts - 1)  # blocks that nothing fills
    expert_S = jnp.repeat(expert_n, b)
    within_S = jnp.arange(n * b) - begin_E[expert_S]
    filled_S = within_S < count_E[expert_S]
    sorted_S = jnp.where(filled_S, first_E[expert_S] + within_S, 0)
    row_S = jnp.where(filled_S, order_R[sorted_S], rows)
    return Slots(expert_n, row_S, slot_R.reshape(expert_Txk.shape))


def _spread(x_TxD: jax.Array, slots: Slots) -> jax.Array:
    """Each slot's token [S, D], zero where it is empty."""
    filled_S = slots.row_S < slots.slot_Txk.size
    token_S = jnp.where(filled_S, slots.row_S // slots.slot_Txk.shape[1], 0)
    return jnp.where(filled_S[:, None], x_TxD[token_S], 0)


def _collect(x_SxD: jax.Array, weight_Txk: jax.Array, slots: Slots) -> jax.Array:
    """Each token's weighted sum [T, D] over its slots."""
    return jnp.einsum("tkd,tk->td", x_SxD[slots.slot_Txk], weight_Txk)


# Each is the other's transpose. With the gradients written out the backward pass reads
# rows, where JAX's own would add them up one by one.


@jax.custom_vjp
def spread(x_TxD: jax.Array, slots: Slots) -> jax.Array:
    return _spread(x_TxD, slots)


def _spread_backward(slots: Slots, d_SxD: jax.Array) -> tuple[jax.Array, None]:
    return jnp.sum(d_SxD[slots.slot_Txk], axis=1), None


spread.defvjp(lambda x, slots: (_spread(x, slots), slots), _spread_backward)


@jax.custom_vjp
def collect(x_SxD: jax.Array, weight_Txk: jax.Array, slots: Slots) -> jax.Array:
    return _collect(x_SxD, weight_Txk, slots)


def _collect_backward(
    saved: tuple[jax.Array, jax.Array, Slots], d_TxD: jax.Array
) -> tuple[jax.Array, jax.Array, None]:
    x_SxD, weight_Txk, slots = saved
    flat = jnp.append(weight_Txk.reshape(-1), jnp.zeros(1, weight_Txk.dtype))
    d_x = flat[slots.row_S, None] * _spread(d_TxD, slots)
    d_weight = jnp.einsum("tkd,td->tk", x_SxD[slots.slot_Txk], d_TxD)
    return d_x, d_weight, None


collect.defvjp(lambda *args: (_collect(*args), args), _collect_backward)


@jax.checkpoint
def product(x_nxbxI: jax.Array, kernel: jax.Array, expert_n: jax.Array) -> jax.Array:
    """Each block times its expert's matrix: [n, b, I] and [E, I, ...] to [n, b, ...].

    The backward pass picks the matrices again: kept, they would outweigh the model.
    """
    return jnp.einsum("nbi,ni...->nb...", x_nxbxI, kernel[expert_n])


class Experts(nnx.Module):
    """SwiGLU experts and their router; returns the mixture and the balance loss."""

    def __init__(self, config: Config, scale: float, rngs: nnx.Rngs):
        c = config
        self.experts, self.chosen = c.experts, c.chosen
        self.router = Dense((c.width,), (c.experts,), ("embed", None), rngs)
        self.gate_up = param(
            rngs,
            (c.experts, c.width, 2, c.hidden),
            (None, "embed", None, "mlp"),
            "matrix",
            fan_in(c.width),
            contracted=(1,),
        )
        self.down = param(
            rngs,
            (c.experts, c.hidden, c.width),
            (None, "mlp", "embed"),
            "matrix",
            fan_in(c.hidden, scale),
            contracted=(1,),
        )

    def __call__(self, x_BxLxD: jax.Array) -> tuple[jax.Array, jax.Array]:
        scores_BxLxE = self.router(x_BxLxD).astype(jnp.float32)
        expert_BxLxk = highest(scores_BxLxE, self.chosen)
        is_chosen_BxLxkxE = expert_BxLxk[..., None] == jnp.arange(self.experts)
        # Mixtral, section 2.1: softmax over the k highest scores alone.
        top_BxLxk = jnp.sum(
            jnp.where(is_chosen_BxLxkxE, scores_BxLxE[:, :, None], 0), axis=-1
        )
        weight_BxLxk = jax.nn.softmax(top_BxLxk).astype(x_BxLxD.dtype)
        # Devices that share a batch sort each their own part of it.
        groups = math.gcd(x_BxLxD.shape[0], layout().data)
        cut = lambda x: x.reshape(groups, -1, x.shape[-1])
        mixed_gxTxD = jax.vmap(self._mix)(
            cut(x_BxLxD), cut(weight_BxLxk), cut(expert_BxLxk)
        )
        loss = balance(scores_BxLxE, is_chosen_BxLxkxE)
        return mixed_gxTxD.reshape(x_BxLxD.shape), loss

    def _mix(
        self, x_TxD: jax.Array, weight_Txk: jax.Array, expert_Txk: jax.Array
    ) -> jax.Array:
        slots = assign(expert_Txk, self.experts)
        blocks = len(slots.expert_n)
        x_nxbxD = spread(x_TxD, slots).reshape(blocks, -1, x_TxD.shape[-1])
        h_nxbx2xF = product(x_nxbxD, self.gate_up[...], slots.expert_n)
        h_nxbxF = jax.nn.silu(h_nxbx2xF[:, :, 0]) * h_nxbx2xF[:, :, 1]
        y_nxbxD = product(h_nxbxF, self.down[...], slots.expert_n)
        return collect(y_nxbxD.reshape(-1, x_TxD.shape[-1]), weight_Txk, slots)


def highest(scores_BxLxE: jax.Array, k: int) -> jax.Array:
    """Indices [B, L, k] of the k highest scores, falling; of equal ones the first.

    XLA does not split its own top-k over packed runs: every device would gather the
    scores of all. Comparisons it does split.
    """
    found, left = [], jax.lax.stop_gradient(scores_BxLxE)
    for _ in range(k):
        best_BxL = jnp.argmax(left, axis=-1)
        found.append(best_BxL)
        taken = best_BxL[..., None] == jnp.arange(left.shape[-1])
        left = jnp.where(taken, -jnp.inf, left)
    return jnp.stack(found, axis=-1)


def balance(scores_BxLxE: jax.Array, is_chosen_BxLxkxE: jax.Array) -> jax.Array:
    """E sum_e f_e P_e, the mean over sequences; 1 when even.

    f_e: share of the sequence's choices; P_e: mean probability of the expert.
    """
    # Switch, equations 4 to 6, sequence by sequence.
    experts = scores_BxLxE.shape[-1]
    probability_BxE = jnp.mean(jax.nn.softmax(scores_BxLxE), axis=1)
    share_BxE = jnp.mean(is_chosen_BxLxkxE.astype(jnp.float32), axis=(1, 2))
    return experts * jnp.mean(jnp.sum(share_BxE * probability_BxE, axis=-1))


class Block(nnx.Module):
    """Takes and returns (residual stream, balance loss of the blocks so far)."""

    def __init__(self, config: Config, rngs: nnx.Rngs):
        scale = 1.0 / math.sqrt(2 * config.depth)
        self.attention_norm = RMSNorm(config.width, rngs)
        self.attention = transformer.Attention(config, scale, rngs)
        self.mlp_norm = RMSNorm(config.width, rngs)
        self.mlp = Experts(config, scale, rngs)

    def __call__(self, carry: tuple[jax.Array, jax.Array]) -> Any:
        x_BxLxD, unevenness = carry
        x_BxLxD = x_BxLxD + self.attention(self.attention_norm(x_BxLxD))
        mixed_BxLxD, loss = self.mlp(self.mlp_norm(x_BxLxD))
        return x_BxLxD + mixed_BxLxD, unevenness + loss


class Model(Decoder):
    def __init__(self, config: Config, spec: Tokens, rngs: nnx.Rngs):
        blocks = (Block(config, rngs) for _ in range(config.depth))
        super().__init__(config.width, spec, rngs, blocks)

    def __call__(self, x: jax.Array, cond: Any = None) -> Output:
        h_BxLxD, unevenness = self.blocks((self.embedding(x), jnp.float32(0.0)))
        return Output(self.head(h_BxLxD), {"balance": BALANCE * unevenness})
