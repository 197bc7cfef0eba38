"""Optimisers and learning-rate schedules by name, and how rates scale with width.

Every scalar comes from `Run.values()` and may be a traced array, so that runs with
different rates, decays and lengths share one compiled step.

A run's learning rate is that of a layer with BASE inputs. The rates at other widths
follow Yang et al. 2022 (arXiv 2203.03466), table 3, so that a rate which is optimal at
one width is optimal at all: for Adam and similar optimisers a matrix of n inputs takes
BASE / n of the rate, and parameters that do not sum over the width (tables, gains,
biases, decay rates) take the whole rate. The matching initialisation of the head is in
families/_layers.py. Weight decay is not scaled: rate times decay is the inverse of the
number of steps that a weight averages over, which does not change with width (Wang and
Aitchison 2024, arXiv 2405.13698). The rule applies to every family, optimiser and run;
a family only states which dimensions its parameters sum over.

SOAP and Shampoo are missing: optax has neither.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from optax import contrib

from scaling import families
from scaling.errors import UserError, unknown
from scaling.families._layers import BASE
from scaling.run import Program

Values = Mapping[str, Any]

# Groups of parameters that weight decay applies to; norms and recurrences are exempt.
_DECAYED = ("matrix", "embedding")


def _wsd(step: jax.Array, values: Values) -> jax.Array:
    """Warm-up, stable, decay (Hu et al. 2024, arXiv 2404.06395, sec. 4.1).

    Linear to the peak over `warmup` steps, flat, then linear to zero from `decay` to
    `steps`; step counts from 0, and the last step still moves.
    """
    rise = (step + 1.0) / jnp.maximum(values["warmup"], 1.0)
    fall = (values["steps"] - step) / jnp.maximum(
        values["steps"] - values["decay"], 1.0
    )
    return jnp.clip(jnp.minimum(rise, fall), 0.0, 1.0)


def _cosine(step: jax.Array, values: Values) -> jax.Array:
    """Linear warm-up, half a cosine to a tenth of the peak (Hoffmann et al. 2022)."""
    # 0.1 + 0.9 (1 + cos(pi progress)) / 2, below the rise.
    rise = (step + 1.0) / jnp.maximum(values["warmup"], 1.0)
    span = jnp.maximum(values["steps"] - values["warmup"], 1.0)
    progress = jnp.clip((step - values["warmup"]) / span, 0.0, 1.0)
    return jnp.minimum(rise, 0.55 + 0.45 * jnp.cos(jnp.pi * progress))


def _constant(step: jax.Array, values: Values) -> jax.Array:
    """Linear warm-up, then flat."""
    return jnp.minimum((step + 1.0) / jnp.maximum(values["warmup"], 1.0), 1.0)


_SCHEDULES: dict[str, Callable[[jax.Array, Values], jax.Array]] = {
    "wsd": _wsd,
    "cosine": _cosine,
    "constant": _constant,
}

# --- Width -------------------------------------------------------------------


class _Fans(NamedTuple):
    """Inputs that an output of a parameter sums over, outputs that an input goes to.

    0 where the number does not grow with the model's width.
    """

    inputs: int
    outputs: int


def _fans(parameter: nnx.Variable) -> _Fans:
    axes, shape = parameter.get_metadata("axes"), parameter.shape
    contracted = parameter.get_metadata("contracted")
    # What is before the contracted dimensions counts separate matrices.
    first = max(contracted, default=-1) + 1
    outputs = [i for i in range(first, len(axes)) if axes[i] != "vocab"]
    return _Fans(
        math.prod(shape[i] for i in contracted) if contracted else 0,
        math.prod(shape[i] for i in outputs) if any(axes[i] for i in outputs) else 0,
    )


def _per_parameter(rule: Callable[[nnx.Variable], Any], params: Any) -> Any:
    """A tree like `params` of what the rule says of each, from shape and metadata."""
    is_leaf = lambda x: isinstance(x, nnx.Variable)
    return jax.tree.map(lambda p: p.replace(rule(p)), params, is_leaf=is_leaf)


def _of_entries(parameter: nnx.Variable) -> float:
    """The share of the rate for updates whose entries are near 1 in size.

    Updates align with inputs, so their product grows like a sum, not a random walk.
    """
    return BASE / (_fans(parameter).inputs or BASE)


def _of_gradients(parameter: nnx.Variable) -> float:
    """The share of the rate for plain gradients, which shrink as outputs grow."""
    # Table 3 of Yang et al. 2022, SGD: a vector's rate grows with its outputs, a hidden
    # matrix keeps its own, the output layer's falls with its inputs.
    inputs, outputs = _fans(parameter)
    return (outputs or BASE) / (inputs or BASE)


def _of_spectra(parameter: nnx.Variable) -> float:
    """The share of the rate for matrix updates whose singular values are near 1.

    sqrt(outputs / inputs): Bernstein and Newhouse 2024 (arXiv 2409.20325), section 3.
    A square matrix of BASE moves by 0.2 an entry, as Adam moves the rest (Liu et al.
    2025, arXiv 2502.16982, section 2.2), so that one rate serves both.
    """
    if not _is_hidden(parameter):
        return _of_entries(parameter)
    inputs, outputs = _fans(parameter)
    return 0.2 * math.sqrt(BASE * outputs / inputs)


def _is_hidden(parameter: nnx.Variable) -> bool:
    """Whether it is a matrix that grows on both sides."""
    return parameter.get_metadata("group") == "matrix" and all(_fans(parameter))


# --- Optimisers --------------------------------------------------------------


def _adamw(
    b1: float = 0.9, b2: float = 0.95, eps: float = 1e-8
) -> optax.GradientTransformation:
    return optax.scale_by_adam(b1=b1, b2=b2, eps=eps)


def _lion(b1: float = 0.9, b2: float = 0.99) -> optax.GradientTransformation:
    return optax.scale_by_lion(b1=b1, b2=b2)


def _adafactor(
    decay: float = 0.8, clipping: float = 1.0
) -> optax.GradientTransformation:
    """Shazeer and Stern 2018 (arXiv 1804.04235), algorithm 4, without the momentum.

    Without the scale by the parameters' size as well, which is a rule of width of its
    own. Moments are factored where two dimensions are 128 or more.
    """
    factored = optax.scale_by_factored_rms(decay_rate=decay)
    return optax.chain(factored, optax.clip_by_block_rms(clipping))


def _sgd(momentum: float = 0.9) -> optax.GradientTransformation:
    return optax.trace(decay=momentum, nesterov=True)


def _muon(
    momentum: float = 0.95, b1: float = 0.9, b2: float = 0.95, eps: float = 1e-8
) -> optax.GradientTransformation:
    """Jordan et al. 2024, "Muon", for hidden matrices; Adam for the rest."""

    def kinds(params: Any) -> Any:
        kind = lambda p: "matrix" if _is_hidden(p) else "rest"
        return _per_parameter(kind, params)

    rules = {
        "matrix": contrib.scale_by_muon(
            beta=momentum, weight_dimension_numbers=_matrices
        ),
        "rest": _adamw(b1, b2, eps),
    }
    return optax.partition(rules, kinds)


def _matrices(params: Any) -> Any:
    """Which dimensions of each parameter make its matrix.

    Parameters that `optax.partition` gives to another rule hold nothing here.
    """

    def dimensions(parameter: nnx.Variable) -> nnx.Variable:
        if not jax.tree.leaves(parameter):
            return parameter
        rank = len(parameter.get_metadata("axes"))
        contracted = parameter.get_metadata("contracted")
        outputs = tuple(range(max(contracted) + 1, rank))
        return parameter.replace(contrib.MuonDimensionNumbers(contracted, outputs))

    is_leaf = lambda x: isinstance(x, nnx.Variable)
    return jax.tree.map(dimensions, params, is_leaf=is_leaf)


@dataclasses.dataclass(frozen=True)
class _Rule:
    """An optimiser. Clipping, decoupled decay and rate are common to all.

    direction(**options): from gradients to updates.
    share: of the rate that a parameter takes for its width.
    """

    direction: Callable[..., optax.GradientTransformation]
    share: Callable[[nnx.Variable], float]


_RULES = {
    "adafactor": _Rule(_adafactor, _of_entries),
    "adamw": _Rule(_adamw, _of_entries),
    "lion": _Rule(_lion, _of_entries),
    "muon": _Rule(_muon, _of_spectra),
    "sgd": _Rule(_sgd, _of_gradients),
}


def check(program: Program) -> None:
    """Raises UserError for an unknown optimiser, option or schedule."""
    if program.optimiser not in _RULES:
        raise unknown("optimiser.name", program.optimiser, _RULES)
    if program.schedule not in _SCHEDULES:
        raise unknown("schedule.name", program.schedule, _SCHEDULES)
    try:
        _RULES[program.optimiser].direction(**dict(program.optimiser_options))
    except TypeError as error:
        raise UserError(
            "optimiser.options", dict(program.optimiser_options), str(error)
        ) from error


def learning_rate(schedule: str, step: jax.Array, values: Values) -> jax.Array:
    """The rate that step number `step`, from 0, uses at the base width."""
    return values["learning_rate"] * _SCHEDULES[schedule](step, values)


def transform(program: Program, values: Values) -> optax.GradientTransformation:
    """Clip, the rule's direction, the share of width, decoupled decay, scheduled rate.

    Decay is decoupled as in Loshchilov and Hutter 2019 (arXiv 1711.05101), algorithm 2:
    it is scaled by the rate with the rest of the update, but not by the share.
    """
    rule = _RULES[program.optimiser]
    return optax.chain(
        optax.stateless(functools.partial(_clip, values["clip_norm"])),
        rule.direction(**dict(program.optimiser_options)),
        optax.stateless(functools.partial(_share, rule.share)),
        optax.stateless(functools.partial(_decay, values["weight_decay"])),
        optax.scale_by_schedule(
            lambda step: -learning_rate(program.schedule, step, values)
        ),
    )


def _clip(largest: Any, gradients: Any, params: Any) -> Any:
    """Clips by global norm, each parameter's squares weighed by the share of gradients.

    That is the norm of the gradients of weights which plain gradient descent would move
    by one rate at every width; without weights, the head's alone would grow with width.
    """
    shares = _per_parameter(_of_gradients, params)
    alike = jax.tree.map(lambda g, share: math.sqrt(share) * g, gradients, shares)
    norm = optax.tree.norm(alike)
    return jax.tree.map(lambda g: g * (largest / jnp.maximum(norm, largest)), gradients)


def _share(share: Callable[[nnx.Variable], float], updates: Any, params: Any) -> Any:
    shares = _per_parameter(share, params)
    return jax.tree.map(lambda u, share: u * share, updates, shares)


def _decay(weight_decay: Any, updates: Any, params: Any) -> Any:
    return jax.tree.map(
        lambda u, p, group: u + weight_decay * p if group in _DECAYED else u,
        updates,
        params,
        families.groups(params),
    )
