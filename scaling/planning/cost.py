"""Counts a run's parameters, FLOPs and memory without training it.

Parameters are exact: the model is built under `jax.eval_shape`. FLOPs are those of the
matrix products, as the family states them; `flops_xla` counts what the compiled
program really multiplies, so that the two can be set side by side in every record.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from scaling import families, inpainting, objective, optim
from scaling.families import _layers
from scaling.planning import work
from scaling.planning.work import Work
from scaling.run import Program, Run


@dataclasses.dataclass(frozen=True)
class Cost:
    """Parameters, FLOPs and memory of one run.

    Attributes:
      params_total, params_active, params_embedding: counts; embedding is the input
        table plus the output head, active is what works on one token.
      steps, tokens: of training.
      flops: of training, the whole run: three times the forward matrix products (once
        what a family counts, where it is fitted and not trained by gradient).
      flops_per_token: `flops` / `tokens`.
      evaluation_flops: of the run's scorings and samples, forward alone.
      memory: bytes of one training step at the width and precision asked for.
      state: those of them that last from step to step: parameters, optimiser.
      depth: how often like blocks of layers repeat, as `_layers.depth` counts.
      products, elements, starts: of one training step on a CPU, as work.py has
        them; 0 for what a family fits and no gradient trains.
    """

    params_total: int
    params_active: int
    params_embedding: int
    steps: int
    tokens: int
    flops: float
    flops_per_token: float
    evaluation_flops: float
    memory: int
    state: int
    depth: int
    products: float
    elements: float
    starts: float


def describe(
    run: Run, spec: families.Spec, width: int = 1, precision: str = ""
) -> Cost:
    """The cost of `run`.

    Args:
      run: as a study file states it.
      spec: what its models read.
      width: slots of the pack that `memory` is for.
      precision: of the compute that `memory` is for; by default the run's, where
        "auto" counts as float32.

    Raises:
      UserError: a family, option, size, objective or optimiser that does not exist.
    """
    program = run.program()
    if not precision:
        precision = "float32" if run.precision == "auto" else run.precision
    params, flops_each, step, depth = _program(program, spec, precision)
    total, active, embedding = params
    forward, trained = flops_each
    flops = trained * run.batch * run.steps
    reads = objective.make(run.objective, spec).reads
    scored = sum(len(e.parts) * e.tokens for e in run.evaluation) * run.evaluations
    return Cost(
        params_total=total,
        params_active=active,
        params_embedding=embedding,
        steps=run.steps,
        tokens=run.tokens,
        flops=flops,
        flops_per_token=flops / run.tokens,
        evaluation_flops=forward * (scored / run.length * reads + _sampled(run, spec)),
        memory=width * step.memory,
        state=width * step.state,
        depth=depth,
        **dataclasses.asdict(step.work),
    )


def _sampled(run: Run, spec: families.Spec) -> int:
    """Forward passes, of one example each, that the run's samples take."""
    if isinstance(spec, families.Tokens):  # a pass for every pixel that is drawn
        pixels = spec.length - spec.prefix
        each = {entry: pixels for entry in run.samples}
        hidden = inpainting.DRAWS * -(-pixels // 2)
    else:
        evaluations = 2 * objective.STEPS - 1
        each = {entry: evaluations + len(entry.sigmas) for entry in run.samples}
        hidden = inpainting.ISLANDS * inpainting.PARTICLES * inpainting.STEPS
    made = sum(n * entry.count * len(entry.at) for entry, n in each.items())
    return made + hidden * sum(entry.hidden for entry in run.samples)


class _Step(NamedTuple):
    """Of one slot: bytes of a step, those of them that last, and what it does."""

    memory: int
    state: int
    work: Work


@functools.cache
def _program(
    program: Program, spec: families.Spec, precision: str
) -> tuple[tuple[int, int, int], tuple[float, float], _Step, int]:
    """Parameters, FLOPs of an example scored and trained, a step, depth; of a slot."""
    optim.check(program)
    family, config = families.member(program.model, spec)
    forward = float(family.flops(config, spec))
    if families.fitted(program.model.family):
        kept = family.params(config)
        memory = family.memory(config)
        step = _Step(memory, memory, Work())
        return (kept, kept, 0), (forward, forward), step, 0
    model = jax.eval_shape(
        lambda: family.Model(config, spec, nnx.Rngs(jax.random.key(0)))
    )
    total, embedding = _layers.count(model)
    active = getattr(family, "active", lambda config, spec: total)(config, spec)
    params = total, int(active), embedding
    step = _step(program, spec, model, precision)
    return params, (forward, 3.0 * forward), step, _layers.depth(model)


def _step(program: Program, spec: families.Spec, model: Any, precision: str) -> _Step:
    """A training step of one slot.

    Its bytes: parameters, gradients and the optimiser's state in float32; the compute
    copy of the parameters where it is another dtype; and everything that the backward
    pass reads, as JAX saves it before XLA fuses or recomputes anything, with the
    logits' gradient: an upper estimate of the activations. The peak of XLA's own plan
    is compared with it in the tests.
    """
    values = {name: 1.0 for name in _VALUES}
    rule = optim.transform(program, values)
    state = jax.eval_shape(rule.init, model)
    goal = objective.make(program.objective, spec)
    computed = _cast(model, jnp.dtype(precision))
    batch = jax.ShapeDtypeStruct((program.batch, spec.row), jnp.int32)
    number = jax.ShapeDtypeStruct((), jnp.int32)  # a real one would be compiled for
    drawn = jax.eval_shape(lambda n, x: goal.draw(jax.random.key(n), x), number, batch)

    def descent(m: Any, x: Any, drawn: Any) -> Any:
        loss, backward = jax.vjp(lambda m: goal.loss(m, x, drawn), m)
        return backward, backward(jnp.ones_like(loss))

    traced = jax.make_jaxpr(descent, return_shape=True)
    trace, (backward, _) = traced(computed, batch, drawn)
    logits = 4 * program.batch * _outputs(spec)
    copy = 0 if precision == "float32" else _bytes(computed)
    # The weights are among what the backward pass reads, and counted already.
    activations = max(0, _bytes(backward) - _bytes(computed)) + logits
    averages = jax.eval_shape(goal.average, number) is not None
    lasting = (1 + averages) * _bytes(model) + _bytes(state)
    memory = lasting + _bytes(model) + copy + activations
    update = jax.make_jaxpr(rule.update)(model, state, model)
    done = work.count(trace.jaxpr) + work.count(update.jaxpr)
    return _Step(memory, lasting, done)


def _outputs(spec: families.Spec) -> int:
    """Numbers that a model says of one example."""
    if isinstance(spec, families.Tokens):
        return spec.length * spec.vocab
    return spec.size


_VALUES = ("learning_rate", "weight_decay", "clip_norm", "warmup", "decay", "steps")


def _cast(model: Any, dtype: Any) -> Any:
    """Abstract parameters as the compute sees them; norms, recurrences as they are."""
    return jax.tree.map(
        lambda leaf, group: jax.ShapeDtypeStruct(
            leaf.shape, dtype if group in ("matrix", "embedding") else leaf.dtype
        ),
        model,
        families.groups(model),
    )


def _bytes(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def flops_xla(
    stage: jax.stages.Lowered | jax.stages.Compiled, steps: int = 1
) -> tuple[float | None, str]:
    """FLOPs of the matrix products and convolutions in a program, per training step.

    XLA's own `cost_analysis` adds elementwise work and counts the body of a loop once,
    so the products are read from the program's text instead, a loop's as often as XLA
    says that it runs.

    Args:
      stage: a compiled step (of any number of steps, slots and devices), or the
        lowered one; the lowered one for a TPU, whose compiler spells the products of
        attention as padded convolutions.
      steps: training steps in one call of it, over all slots.

    Returns:
      The count and "", or None and the reason why XLA's text does not tell.
    """
    if isinstance(stage, jax.stages.Lowered):
        text = stage.as_text(dialect="hlo")
    else:
        text = stage.as_text() or ""
    if not text:
        return None, "this backend gives no text of its programs"
    hidden = re.search(r'custom_call_target="(\S*(?:gemm|matmul|dot|conv)\S*)"', text)
    if hidden:
        return None, f"products are inside a library call ({hidden[1]})"
    computations, entry = instructions(text)
    try:
        total = _products(computations, entry, {})
    except Uncounted as reason:
        return None, str(reason)
    partitions = re.search(r"num_partitions=(\d+)", text)
    # A lowered program is not cut up yet: it states the products of all devices.
    if isinstance(stage, jax.stages.Lowered):
        partitions = None
    devices = int(partitions[1]) if partitions else 1
    return total * devices / steps, ""


class Uncounted(Exception):
    """Work whose number of repetitions XLA does not state."""


_INSTRUCTION = re.compile(
    r"^\s+(?:ROOT )?%?([\w.\-]+) = (\(.*?\)|\S+) ([\w\-]+)\((.*?)\)(.*)$"
)


Instructions = dict[str, list[re.Match[str]]]


def instructions(text: str) -> tuple[Instructions, str]:
    """Instructions by computation, and the name of the one that runs first.

    An instruction's groups: name, type of the result, opcode, operands, attributes.
    """
    computations: Instructions = {}
    name = entry = ""
    for line in text.splitlines():
        header = re.match(r"(ENTRY )?%?([\w.\-]+).*\{$", line)
        if header and not line.startswith("HloModule"):
            name = header[2]
            computations[name] = []
            entry = name if header[1] else entry
        elif name and (instruction := _INSTRUCTION.match(line)):
            computations[name].append(instruction)
    return computations, entry


def trip_count(computations: Instructions, attributes: str) -> int:
    """How often a loop runs: as XLA says, or as its condition does.

    The TPU compiler does not say. A scan counts from zero, and its condition compares
    the counter with a constant.

    Raises:
      Uncounted: neither says.
    """
    stated = re.search(r'"known_trip_count":\{"n":"(\d+)"\}', attributes)
    if stated:
        return int(stated[1])
    condition = re.search(r"condition=%?([\w.\-]+)", attributes)
    inside = computations[condition[1]] if condition else []
    by_name = {i[1]: i for i in inside}
    for instruction in inside:
        if instruction[3] != "compare" or "direction=LT" not in instruction[5]:
            continue
        left, right = re.findall(r"([\w.\-]+)(?:,|$)", instruction[4])
        counter, limit = by_name[left], by_name[right]
        kinds = (counter[3], limit[3])
        if kinds == ("get-tuple-element", "constant") and limit[4].isdecimal():
            return int(limit[4])
    raise Uncounted("XLA does not state how often a loop runs")


def _products(computations: Instructions, name: str, known: dict[str, float]) -> float:
    """FLOPs of one computation with everything it calls."""
    if name in known:
        return known[name]
    shapes = {i[1]: _shape(i[2]) for i in computations[name]}
    total = 0.0
    for instruction in computations[name]:
        _, result, opcode, operands, attributes = instruction.groups()
        if opcode in ("dot", "convolution"):
            names = re.findall(r"([\w.\-]+)(?:,|$)", operands)
            sides = [shapes[operand] for operand in names]
            summed = _summed(opcode, sides, attributes)
            total += 2.0 * math.prod(_shape(result)) * summed
            continue
        if opcode == "conditional":
            raise Uncounted("XLA does not state which branch runs")
        inside = sum(
            _products(computations, callee, known)
            for callee in re.findall(
                r"(?:calls|to_apply|body)=%?([\w.\-]+)", attributes
            )
        )
        if opcode == "while" and inside:
            inside *= trip_count(computations, attributes)
        total += inside
    known[name] = total
    return total


def _shape(text: str) -> list[int]:
    """Dimensions in an array's type such as f32[4,64]{1,0}; none for a tuple."""
    match = re.match(r"\w+\[([\d,]*)\]", text)
    return [int(n) for n in match[1].split(",") if n] if match else []


def _summed(opcode: str, sides: list[list[int]], attributes: str) -> int:
    """Products that are added up for each number of the result."""
    if opcode == "dot":
        match = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", attributes)
        dimensions = [int(n) for n in match[1].split(",") if n] if match else []
        return math.prod(sides[0][n] for n in dimensions)
    # A kernel's output features are spread over the result, the rest is summed.
    labels = re.search(r"dim_labels=\w+_(\w+)->", attributes)
    assert labels is not None, attributes
    return math.prod(sides[1]) // sides[1][labels[1].index("o")]
