"""Optimisers and schedules by name, made of optax parts.

Every scalar comes from `Run.values()` and may be a traced array, so that runs with
different rates, decays and lengths share one compiled step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from scaling import families
from scaling.errors import UserError, unknown
from scaling.run import Program

Values = Mapping[str, Any]

# Kinds of parameters that weight decay shrinks; norms and recurrences keep theirs.
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


def _adamw(b1: float = 0.9, b2: float = 0.95, eps: float = 1e-8):
    return optax.scale_by_adam(b1=b1, b2=b2, eps=eps)


def _sgd(momentum: float = 0.9):
    return optax.trace(decay=momentum, nesterov=True)


def _lion(b1: float = 0.9, b2: float = 0.99):
    return optax.scale_by_lion(b1=b1, b2=b2)


# The direction of each rule; clipping, decoupled decay and rate are common to all.
_DIRECTIONS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "adamw": _adamw,
    "sgd": _sgd,
    "lion": _lion,
}


def check(program: Program) -> None:
    """Raises UserError for an unknown optimiser, option or schedule."""
    if program.optimiser not in _DIRECTIONS:
        raise unknown("optimiser.name", program.optimiser, _DIRECTIONS)
    if program.schedule not in _SCHEDULES:
        raise unknown("schedule.name", program.schedule, _SCHEDULES)
    try:
        _DIRECTIONS[program.optimiser](**dict(program.optimiser_options))
    except TypeError as error:
        raise UserError(
            "optimiser.options", dict(program.optimiser_options), str(error)
        ) from error


def learning_rate(schedule: str, step: jax.Array, values: Values) -> jax.Array:
    """The rate that step number `step`, from 0, uses."""
    return values["learning_rate"] * _SCHEDULES[schedule](step, values)


def transform(program: Program, values: Values) -> optax.GradientTransformation:
    """Clip by global norm, the rule's direction, decoupled decay, scheduled rate.

    Decay is decoupled as in Loshchilov and Hutter 2019 (arXiv 1711.05101), algorithm 2:
    it is scaled by the rate with the rest of the update.
    """

    def decay(updates: Any, params: Any) -> Any:
        kinds = families.groups(params)
        return jax.tree.map(
            lambda u, p, kind: (
                u + values["weight_decay"] * p if kind in _DECAYED else u
            ),
            updates,
            params,
            kinds,
        )

    return optax.chain(
        optax.clip_by_global_norm(values["clip_norm"]),
        _DIRECTIONS[program.optimiser](**dict(program.optimiser_options)),
        optax.stateless(decay),
        optax.scale_by_schedule(
            lambda step: -learning_rate(program.schedule, step, values)
        ),
    )
