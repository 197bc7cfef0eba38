"""The compiled calls of one program on one layout.

Train state, batches and losses carry a leading run axis. What a run computes is
written for one run (`OneRun`) and vmapped; runs that differ in rate, budget or seed
differ only in `values`, and a slot that is empty, finished or not finite is frozen by a
mask. Therefore what a run computes does not depend on what the other slots hold.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import functools
import gc
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent import futures
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from scaling import families, objective, optim
from scaling.families._layers import Tracing, gathered, tracing
from scaling.layout import Layout
from scaling.planning import cost
from scaling.run import VALUES, Program
from scaling.training import evaluation, mesh

# Steps that one call makes: enough to hide the cost of a call behind a tiny model's
# steps, few enough that a slot which ends in between wastes little.
STEPS_PER_CALL = 8


class State(nnx.Pytree):
    """What a step changes. Every leaf leads with the run axis when packed.

    step: int32, steps made. diverged: bool, a loss or gradient was not finite. average:
    of the model's weights over the steps, None where the objective wants none.
    """

    def __init__(
        self, model: Any, optimiser: Any, step: Any, diverged: Any, average: Any = None
    ):
        self.model = nnx.data(model)
        self.optimiser = nnx.data(optimiser)
        self.step = nnx.data(step)
        self.diverged = nnx.data(diverged)
        self.average = nnx.data(average)

    @property
    def scored(self) -> Any:
        """The model that is scored."""
        return self.model if self.average is None else self.average


@dataclasses.dataclass(frozen=True)
class Compiled:
    """The compiled calls of one program on one layout, and what they were made for.

    one, one_shardings: shapes and shardings of one run's state, without the run axis.
    empty(): a state of zeros, for slots that hold no run yet.
    refill(state, values, fresh): initial states where `fresh`, the rest untouched.
    advance(state, values, until, batches) -> (state, losses [slot, step]): up to
      STEPS_PER_CALL steps a slot, none at or beyond its `until`; NaN where diverged.
    select(state, slot): one run's state, without the run axis.
    insert(state, one, slot): the inverse.
    read(model, rows, at) -> (values, log_probabilities): what one run says of windows
      or pictures, as `objective` defines it.
    denoiser: of an objective that denoises, (sample, denoised, expected): as it has
      them, of one run's model; else (). Not compiled: see `denoiser` and `expecting`.
    arguments: shapes and dtypes of what `advance` is called with.
    """

    mesh: jax.sharding.Mesh
    one: Any
    one_shardings: Any
    empty: Callable[[], Any]
    refill: Callable[..., Any]
    advance: Any
    select: Callable[..., Any]
    insert: Callable[..., Any]
    read: Callable[..., Any]
    denoiser: tuple[Any, ...]
    arguments: tuple[Any, ...]
    flops_xla: tuple[float | None, str] = (None, "not compiled yet")


# Programs whose compiled calls a process keeps: the one that trains, the one compiled
# ahead, and those of layouts that are tried for one of them. Each holds tens of MB.
KEPT_PROGRAMS = 3


@functools.lru_cache(KEPT_PROGRAMS)
def compiled(program: Program, layout: Layout, spec: families.Spec) -> Compiled:
    """Compiles a program once for a layout; the next packs of the process reuse it.

    Raises:
      UserError: a name, size or option that no family, optimiser or objective knows.
    """
    calls = uncompiled(program, layout, spec)
    advance = _lower(calls).compile()
    steps = STEPS_PER_CALL * layout.width
    flops = cost.flops_xla(advance, steps)
    return dataclasses.replace(calls, advance=advance, flops_xla=flops)


_compiling = threading.Lock()


def ready(program: Program, layout: Layout, spec: families.Spec) -> Compiled:
    """As `compiled`, with the other calls compiled too, by one thread at a time."""
    with _compiling:
        return _ready(program, layout, spec)


@functools.lru_cache(KEPT_PROGRAMS - 1)
def _ready(program: Program, layout: Layout, spec: families.Spec) -> Compiled:
    # The compiler lets go of the interpreter, so that one call compiles while the next
    # is traced, and all of them while another program trains.
    calls = compiled(program, layout, spec)
    state, values, _, _ = calls.arguments
    width = layout.width
    rows = evaluation.windows_per_call(spec.row, mesh.windows(calls.mesh))
    tokens = jax.ShapeDtypeStruct((rows, spec.row), jnp.int32)
    arguments = {
        "refill": (state, values, jax.ShapeDtypeStruct((width,), jnp.bool_)),
        "read": (calls.one.scored, tokens, jax.ShapeDtypeStruct((rows,), jnp.int32)),
        "insert": (state, calls.one, 0),
        "select": (state, 0),
    }
    with jax.set_mesh(calls.mesh), futures.ThreadPoolExecutor() as pool:
        made = {
            name: pool.submit(getattr(calls, name).lower(*given).compile)
            for name, given in arguments.items()
        }
    return dataclasses.replace(
        calls, **{name: future.result() for name, future in made.items()}
    )


@functools.lru_cache(KEPT_PROGRAMS - 1)
def denoiser(
    program: Program, layout: Layout, spec: families.Spec
) -> tuple[Callable[..., Any], ...]:
    """`Compiled.denoiser`, compiled: what makes samples and what denoises pictures.

    Apart from `ready`, since only runs that keep samples need them.
    """
    calls = ready(program, layout, spec)
    if not calls.denoiser:
        return ()
    assert isinstance(spec, families.Images)
    rows = evaluation.windows_per_call(spec.row, mesh.windows(calls.mesh))
    batch = jax.ShapeDtypeStruct((rows, spec.row), jnp.int32)
    noise = jax.ShapeDtypeStruct((rows, *spec.shape), jnp.float32)
    sigma = jax.ShapeDtypeStruct((rows,), jnp.float32)
    arguments = (batch, noise), (batch, noise, sigma)
    with _compiling, jax.set_mesh(calls.mesh):
        return tuple(
            call.lower(calls.one.scored, *given).compile()
            for call, given in zip(calls.denoiser[:2], arguments, strict=True)
        )


@functools.lru_cache(KEPT_PROGRAMS - 1)
def expecting(
    program: Program, layout: Layout, spec: families.Spec
) -> tuple[Callable[..., Any], ...]:
    """The last call of `Compiled.denoiser`, compiled: what lower halves it expects."""
    calls = ready(program, layout, spec)
    if not calls.denoiser:
        return ()
    rows = evaluation.islands_per_call(spec.row, mesh.windows(calls.mesh))
    batch = jax.ShapeDtypeStruct((rows, spec.row), jnp.int32)
    seed = jax.ShapeDtypeStruct((rows,), jnp.int32)
    with _compiling, jax.set_mesh(calls.mesh):
        return (calls.denoiser[2].lower(calls.one.scored, batch, seed).compile(),)


def give_back() -> None:
    """Returns the memory of programs that are kept no more to the operating system.

    JAX keeps what it traced for as long as the process lives unless it is cleared, and
    the C library keeps what was freed.
    """
    with _compiling:  # not under the hands of a program that is compiled ahead
        jax.clear_caches()
    gc.collect()
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL(None).malloc_trim(0)


def lowered(
    program: Program, layout: Layout, spec: families.Spec, devices: Sequence[Any]
) -> jax.stages.Lowered:
    """The same STEPS_PER_CALL training steps, to be compiled for devices elsewhere.

    Args:
      devices: at least `layout.devices`; those of a topology do.

    Raises:
      UserError: as `compiled`.
    """
    return _lower(uncompiled(program, layout, spec, devices))


def _lower(calls: Compiled) -> jax.stages.Lowered:
    with jax.set_mesh(calls.mesh):
        return calls.advance.lower(*calls.arguments)


class OneRun:
    """What one run computes, as functions of arrays without the run axis.

    Raises:
      UserError: a name, size or option that no family or objective knows.
    """

    def __init__(
        self,
        program: Program,
        layout: Layout,
        spec: families.Spec,
        rules: mesh.Rules,
    ):
        self.program, self.layout, self.spec = program, layout, spec
        self.family, self.config = families.member(program.model, spec)
        self.objective = objective.make(program.objective, spec)
        self.tracing = Tracing(layout, functools.partial(mesh.gather, rules=rules))

    def read(
        self, model: Any, tokens: jax.Array, at: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """The reading at every position of a batch, and what is predicted at `at`."""
        with tracing(self.tracing):
            return self.objective.read(gathered(self._cast(model)), tokens, at)

    def loss(self, model: Any, batch: tuple[jax.Array, Any]) -> jax.Array:
        """Args: batch: the examples, and what was drawn for them."""
        with tracing(self.tracing):
            return self.objective.loss(gathered(self._cast(model)), *batch)

    def denoiser(self) -> tuple[Callable[..., Any], ...]:
        """What samples and what denoises, of an objective that does; else nothing."""
        if not isinstance(self.objective, objective.Denoise):
            return ()

        def asked(method: Callable[..., Any]) -> Callable[..., Any]:
            def call(model: Any, *arrays: jax.Array) -> Any:
                with tracing(self.tracing):
                    return method(gathered(self._cast(model)), *arrays)

            return call

        goal = self.objective
        return asked(goal.sample), asked(goal.denoised), asked(goal.expected)

    def fresh(self, values: Any) -> State:
        """The state before the first step."""
        rngs = nnx.Rngs(jax.random.key(values["init_seed"]))
        model = self.family.Model(self.config, self.spec, rngs)
        optimiser = optim.transform(self.program, values).init(model)
        kept = self.objective.average(jnp.int32(1)) is not None
        average = jax.tree.map(jnp.copy, model) if kept else None
        return State(model, optimiser, jnp.int32(0), jnp.bool_(False), average)

    def refill(self, state: State, values: Any, fresh: jax.Array) -> State:
        return _where(fresh, self.fresh(values), state)

    def step(
        self, state: State, values: Any, until: jax.Array, batch: jax.Array
    ) -> tuple[State, jax.Array]:
        """One step, unless the run has come to `until` or has diverged."""
        descent = _accumulated(jax.value_and_grad(self.loss), self.layout.accumulate)
        key = jax.random.fold_in(jax.random.key(values["data_seed"]), state.step)
        drawn = self.objective.draw(key, batch)
        loss, gradients = descent(state.model, (batch, drawn))
        updates, optimiser = optim.transform(self.program, values).update(
            gradients, state.optimiser, state.model
        )
        finite = jnp.isfinite(loss) & jnp.isfinite(optax.tree.norm(gradients))
        active = (state.step < until) & ~state.diverged
        model = optax.apply_updates(state.model, updates)
        step = state.step + 1
        average = self._average(state.average, model, step)
        moved = State(model, optimiser, step, state.diverged, average)
        state = _where(active & finite, moved, state)
        state.diverged = state.diverged | (active & ~finite)
        return state, jnp.where(state.diverged, jnp.nan, loss)

    def _average(self, old: Any, model: Any, step: jax.Array) -> Any:
        """The average of the weights after a step."""
        share = self.objective.average(step)
        if share is None:
            return None
        return jax.tree.map(lambda a, w: share * a + (1.0 - share) * w, old, model)

    def advance(
        self, state: State, values: Any, until: jax.Array, batches: jax.Array
    ) -> tuple[State, jax.Array]:
        """As many steps as there are batches."""
        return jax.lax.scan(
            lambda carry, batch: self.step(carry, values, until, batch), state, batches
        )

    def _cast(self, model: Any) -> Any:
        """Matrices and embeddings in the compute dtype; the rest stays float32."""
        dtype = jnp.dtype(self.layout.precision)
        if dtype == jnp.float32:
            return model
        return jax.tree.map(
            lambda p, kind: p.astype(dtype) if kind in ("matrix", "embedding") else p,
            model,
            families.groups(model),
        )


def uncompiled(
    program: Program,
    layout: Layout,
    spec: families.Spec,
    devices: Sequence[Any] | None = None,
) -> Compiled:
    """The calls of one program, none of them compiled. Raises as `compiled`."""
    optim.check(program)
    mesh.check(program.batch, layout)
    rules = mesh.make(layout, devices)
    run = OneRun(program, layout, spec, rules)
    vmapped = functools.partial(jax.vmap, spmd_axis_name=mesh.RUN)
    arguments = _arguments(program, layout, spec, vmapped(run.fresh))
    abstract = arguments[0]
    one = jax.eval_shape(lambda s: jax.tree.map(lambda x: x[0], s), abstract)
    packed, slots = mesh.state(abstract, rules), mesh.slots(rules.mesh)
    unpacked = mesh.state(one, rules, packed=False)
    windows = mesh.windows(rules.mesh)
    # Runs once a run: on a CPU, compiling it well would take longer than running it.
    once = {"xla_backend_optimization_level": 0} if layout.platform == "cpu" else None
    return Compiled(
        mesh=rules.mesh,
        one=one,
        one_shardings=unpacked,
        empty=lambda: jax.tree.map(_zeros, abstract, packed),
        refill=jax.jit(
            vmapped(run.refill),
            in_shardings=(packed, slots, slots),
            out_shardings=packed,
            donate_argnums=0,
            compiler_options=once,
        ),
        advance=jax.jit(
            vmapped(run.advance),
            in_shardings=(packed, slots, slots, mesh.batches(rules.mesh)),
            out_shardings=(packed, slots),
            donate_argnums=0,
        ),
        select=jax.jit(
            _select,
            in_shardings=(packed, None),
            out_shardings=unpacked,
            compiler_options=once,
        ),
        insert=jax.jit(
            _insert,
            in_shardings=(packed, unpacked, None),
            out_shardings=packed,
            donate_argnums=0,
            compiler_options=once,
        ),
        read=jax.jit(run.read, in_shardings=(unpacked.scored, windows, windows)),
        denoiser=tuple(
            jax.jit(call, in_shardings=(unpacked.scored, *[windows] * count))
            for call, count in zip(run.denoiser(), (2, 3, 2), strict=False)
        ),
        arguments=arguments,
    )


def _arguments(
    program: Program,
    layout: Layout,
    spec: families.Spec,
    fresh: Callable[[Any], Any],
) -> tuple[Any, ...]:
    """Shapes and dtypes of what `advance` is called with.

    Args:
      fresh: from the values of all slots to their states before the first step.
    """
    width = layout.width
    values = {n: jax.ShapeDtypeStruct((width,), dtype) for n, dtype in VALUES.items()}
    until = jax.ShapeDtypeStruct((width,), jnp.int32)
    shape = (width, STEPS_PER_CALL, program.batch, spec.row)
    batches = jax.ShapeDtypeStruct(shape, jnp.int32)
    return jax.eval_shape(fresh, values), values, until, batches


def _select(state: Any, slot: Any) -> Any:
    return jax.tree.map(lambda x: x[slot], state)


def _insert(state: Any, one: Any, slot: Any) -> Any:
    return jax.tree.map(lambda x, y: x.at[slot].set(y), state, one)


def _accumulated(descent: Callable[..., Any], parts: int) -> Callable[..., Any]:
    """`descent(model, batch) -> (loss, gradients)` as the mean over `parts` of a batch.

    A batch is a tree of arrays that lead with its examples.

    The parts are interleaved, so that each lies over the devices as the batch does.
    """
    if parts == 1:
        return descent

    def mean(model: Any, batch: Any) -> Any:
        micro = jax.tree.map(
            lambda x: x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1), batch
        )
        zeros = jax.tree.map(jnp.zeros_like, (jnp.float32(0.0), model))
        total, _ = jax.lax.scan(
            lambda sums, part: (
                jax.tree.map(jnp.add, sums, descent(model, part)),
                None,
            ),
            zeros,
            micro,
        )
        return jax.tree.map(lambda x: x / parts, total)

    return mean


def _zeros(leaf: jax.ShapeDtypeStruct, sharding: jax.sharding.Sharding) -> jax.Array:
    return jax.make_array_from_callback(
        leaf.shape,
        sharding,
        lambda index: np.zeros(sharding.shard_shape(leaf.shape), leaf.dtype),
    )


def _where(condition: jax.Array, new: Any, old: Any) -> Any:
    return jax.tree.map(lambda n, o: jnp.where(condition, n, o), new, old)
