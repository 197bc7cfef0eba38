"""What a training step does, counted in its trace: for the time that a CPU takes.

Bytes that the backward pass reads do not tell it: a compiler fuses most of them away,
more in one architecture than in another. Each number that an operation makes costs
about as much, whatever it is fused with, and what lies between two matrix products
becomes a few operations, each of which takes a while to start.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

# Operations that make no numbers: they name, group or repeat them.
_FREE = frozenset(
    (
        "broadcast_in_dim",
        "convert_element_type",
        "copy",
        "iota",
        "optimization_barrier",
        "reshape",
        "split",
        "squeeze",
        "stop_gradient",
    )
)


@dataclasses.dataclass(frozen=True)
class Work:
    """Of one step.

    Attributes:
      products: FLOPs of its matrix products.
      elements: numbers that its other operations make, or add up.
      starts: matrix products, a loop's as often as it runs.
    """

    products: float = 0.0
    elements: float = 0.0
    starts: float = 0.0

    def __add__(self, other: Work) -> Work:
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return Work(*(a + b for a, b in pairs))

    def __mul__(self, times: float) -> Work:
        return Work(*(times * a for a in dataclasses.astuple(self)))


def count(jaxpr: Any) -> Work:
    """The work of a trace, as `jax.make_jaxpr` gives it.

    A loop whose turns are not in the trace counts as one turn, and of branches all.
    """
    total = Work()
    for equation in jaxpr.eqns:
        inside = list(_inside(equation))
        if inside:
            once = sum(map(count, inside), Work())
            total += once * equation.params.get("length", 1)
        elif equation.primitive.name not in _FREE:
            total += _alone(equation)
    return total


def _inside(equation: Any) -> Iterator[Any]:
    """The traces that an operation calls."""
    for value in equation.params.values():
        for each in value if isinstance(value, tuple | list) else (value,):
            each = getattr(each, "jaxpr", each)
            if hasattr(each, "eqns"):
                yield each


def _alone(equation: Any) -> Work:
    name = equation.primitive.name
    made = sum(math.prod(v.aval.shape) for v in equation.outvars)
    if name == "dot_general":
        (summed, _), _ = equation.params["dimension_numbers"]
        shape = equation.invars[0].aval.shape
        return Work(2.0 * made * math.prod(shape[n] for n in summed), 0.0, 1.0)
    if name == "conv_general_dilated":
        kernel = equation.invars[1].aval.shape
        features = kernel[equation.params["dimension_numbers"].rhs_spec[0]]
        return Work(2.0 * made * math.prod(kernel) / features, 0.0, 1.0)
    if name.startswith("reduce"):
        made = sum(math.prod(v.aval.shape) for v in equation.invars)
    return Work(0.0, float(made), 0.0)
