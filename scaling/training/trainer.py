"""Trains one pack: compile, fill the slots, step, branch, score, record, refill.

Train state, batches and losses carry a leading run axis. `advance` is written for one
run and vmapped; runs that differ in rate, budget or seed differ only in `values`, and a
slot that is empty, finished or not finite is frozen by a mask. What a run computes does
therefore not depend on what the other slots hold. Runs that are equal up to their decay
are trained once until there (trunks.py). What was cut short resumes from checkpoints.
"""

from __future__ import annotations

import collections
import contextlib
import ctypes
import dataclasses
import datetime
import functools
import gc
import importlib.metadata
import platform
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from scaling import families, objective, optim, plugins, trunks
from scaling.corpora import (
    EvaluationWindows,
    Prepared,
    TokenStream,
    evaluation_windows,
)
from scaling.engines import CHECKPOINT_SECONDS, Event, Pack
from scaling.families._layers import Tracing, gathered, tracing
from scaling.layout import Layout
from scaling.planning import cost
from scaling.record import Reading, Record, Store, source_commit
from scaling.run import VALUES, Program, Run
from scaling.training import checkpoint, evaluation, mesh

# Steps that one call makes: enough to hide the cost of a call behind a tiny model's
# steps, few enough that a slot which ends in between wastes little.
STEPS_PER_CALL = 8

REPORT_SECONDS = 1.0


class State(nnx.Pytree):
    """What a step changes. Every leaf leads with the run axis when packed.

    step: int32, steps made. diverged: bool, a loss or gradient was not finite.
    """

    def __init__(self, model: Any, optimiser: Any, step: Any, diverged: Any):
        self.model = nnx.data(model)
        self.optimiser = nnx.data(optimiser)
        self.step = nnx.data(step)
        self.diverged = nnx.data(diverged)


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
    nats(model, tokens): the reading of one run at every position.
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
    nats: Callable[..., Any]
    arguments: tuple[Any, ...]
    flops_xla: tuple[float | None, str] = (None, "not compiled yet")


def _precision(layout: Layout) -> Callable[[Any], Any]:
    """Casts matrices and embeddings to the compute dtype; the rest stays float32."""
    dtype = jnp.dtype(layout.precision)

    def cast(model: Any) -> Any:
        if dtype == jnp.float32:
            return model
        return jax.tree.map(
            lambda p, kind: p.astype(dtype) if kind in ("matrix", "embedding") else p,
            model,
            families.groups(model),
        )

    return cast


# Programs whose compiled calls a process keeps: the one that trains, the one compiled
# ahead, and those of layouts that are tried for one of them. Each holds tens of MB.
KEPT_PROGRAMS = 3


@functools.lru_cache(KEPT_PROGRAMS)
def compiled(program: Program, layout: Layout, vocab: int) -> Compiled:
    """Compiles a program once for a layout; the next packs of the process reuse it.

    Raises:
      UserError: a name, size or option that no family, optimiser or objective knows.
    """
    calls = _calls(program, layout, vocab)
    advance = _lower(calls).compile()
    steps = STEPS_PER_CALL * layout.width
    flops = cost.flops_xla(advance, steps)
    return dataclasses.replace(calls, advance=advance, flops_xla=flops)


_compiling = threading.Lock()


def ready(program: Program, layout: Layout, vocab: int) -> Compiled:
    """As `compiled`, with the other calls compiled too, by one thread at a time."""
    with _compiling:
        return _ready(program, layout, vocab)


@functools.lru_cache(KEPT_PROGRAMS - 1)
def _ready(program: Program, layout: Layout, vocab: int) -> Compiled:
    # The compiler lets go of the interpreter, so that one call compiles while the next
    # is traced, and all of them while another program trains.
    calls = compiled(program, layout, vocab)
    state, values, _, _ = calls.arguments
    width, length = layout.width, program.length
    rows = evaluation.windows_per_call(length, mesh.windows(calls.mesh))
    tokens = jax.ShapeDtypeStruct((rows, length), jnp.int32)
    arguments = {
        "refill": (state, values, jax.ShapeDtypeStruct((width,), jnp.bool_)),
        "nats": (calls.one.model, tokens),
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


def give_back() -> None:
    """Returns the memory of programs that are kept no more to the operating system.

    JAX keeps what it traced for as long as the process lives unless told, and the C
    library keeps what was freed.
    """
    with _compiling:  # not under the hands of a program that is compiled ahead
        jax.clear_caches()
    gc.collect()
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL(None).malloc_trim(0)


def lowered(
    program: Program, layout: Layout, vocab: int, devices: Sequence[Any]
) -> jax.stages.Lowered:
    """The same STEPS_PER_CALL training steps, to be compiled for devices elsewhere.

    Args:
      devices: at least `layout.devices`; those of a topology do.

    Raises:
      UserError: as `compiled`.
    """
    return _lower(_calls(program, layout, vocab, devices))


def _lower(calls: Compiled) -> jax.stages.Lowered:
    with jax.set_mesh(calls.mesh):
        return calls.advance.lower(*calls.arguments)


def _calls(
    program: Program, layout: Layout, vocab: int, devices: Sequence[Any] | None = None
) -> Compiled:
    """The calls of one program, none of them compiled. Raises as `compiled`."""
    optim.check(program)
    mesh.check(program.batch, layout)
    spec = families.Tokens(vocab, program.length)
    family, config = families.member(program.model, spec)
    goal = objective.make(program.objective, spec)
    cast = _precision(layout)
    rules = mesh.make(layout, devices)
    how = Tracing(layout, functools.partial(mesh.gather, rules=rules))

    def nats_of(model: Any, tokens: jax.Array) -> jax.Array:
        with tracing(how):
            return goal.nats(gathered(cast(model)), tokens)

    def fresh_state(values: Any) -> State:
        model = family.Model(
            config, spec, nnx.Rngs(jax.random.key(values["init_seed"]))
        )
        optimiser = optim.transform(program, values).init(model)
        return State(model, optimiser, jnp.int32(0), jnp.bool_(False))

    def refill_one(state: State, values: Any, fresh: jax.Array) -> State:
        return _where(fresh, fresh_state(values), state)

    def loss_of(model: Any, batch: jax.Array) -> jax.Array:
        with tracing(how):
            return goal.loss(gathered(cast(model)), batch)

    def step_one(state: State, values: Any, until: jax.Array, batch: jax.Array):
        descent = _accumulated(jax.value_and_grad(loss_of), layout.accumulate)
        loss, gradients = descent(state.model, batch)
        updates, optimiser = optim.transform(program, values).update(
            gradients, state.optimiser, state.model
        )
        finite = jnp.isfinite(loss) & jnp.isfinite(optax.tree.norm(gradients))
        active = (state.step < until) & ~state.diverged
        moved = State(
            optax.apply_updates(state.model, updates),
            optimiser,
            state.step + 1,
            state.diverged,
        )
        state = _where(active & finite, moved, state)
        state.diverged = state.diverged | (active & ~finite)
        return state, jnp.where(state.diverged, jnp.nan, loss)

    def advance_one(state: State, values: Any, until: jax.Array, batches: jax.Array):
        return jax.lax.scan(
            lambda carry, batch: step_one(carry, values, until, batch), state, batches
        )

    one_run = functools.partial(jax.vmap, spmd_axis_name=mesh.RUN)
    values = {
        name: jax.ShapeDtypeStruct((layout.width,), dtype)
        for name, dtype in VALUES.items()
    }
    abstract = jax.eval_shape(one_run(fresh_state), values)
    single = jax.eval_shape(lambda s: jax.tree.map(lambda x: x[0], s), abstract)
    packed, slots = mesh.state(abstract, rules), mesh.slots(rules.mesh)
    unpacked = mesh.state(single, rules, packed=False)
    advance = jax.jit(
        one_run(advance_one),
        in_shardings=(packed, slots, slots, mesh.batches(rules.mesh)),
        out_shardings=(packed, slots),
        donate_argnums=0,
    )
    per_slot = jax.ShapeDtypeStruct((layout.width,), jnp.int32)
    batches = jax.ShapeDtypeStruct(
        (layout.width, STEPS_PER_CALL, program.batch, program.length), jnp.int32
    )
    # Runs once a run: on a CPU, compiling it well would take longer than running it.
    once = {"xla_backend_optimization_level": 0} if layout.platform == "cpu" else None
    return Compiled(
        mesh=rules.mesh,
        one=single,
        one_shardings=unpacked,
        empty=lambda: jax.tree.map(_zeros, abstract, packed),
        refill=jax.jit(
            one_run(refill_one),
            in_shardings=(packed, slots, slots),
            out_shardings=packed,
            donate_argnums=0,
            compiler_options=once,
        ),
        advance=advance,
        select=jax.jit(
            lambda state, slot: jax.tree.map(lambda x: x[slot], state),
            in_shardings=(packed, None),
            out_shardings=unpacked,
            compiler_options=once,
        ),
        insert=jax.jit(
            lambda state, one, slot: jax.tree.map(
                lambda x, y: x.at[slot].set(y), state, one
            ),
            in_shardings=(packed, unpacked, None),
            out_shardings=packed,
            donate_argnums=0,
            compiler_options=once,
        ),
        nats=jax.jit(nats_of, in_shardings=(unpacked.model, mesh.windows(rules.mesh))),
        arguments=(abstract, values, per_slot, batches),
    )


def _accumulated(descent: Callable[..., Any], parts: int) -> Callable[..., Any]:
    """`descent(model, batch) -> (loss, gradients)` as the mean over `parts` of a batch.

    The parts are interleaved, so that each lies over the devices as the batch does.
    """
    if parts == 1:
        return descent

    def mean(model: Any, batch: jax.Array) -> Any:
        micro = batch.reshape(-1, parts, *batch.shape[1:]).swapaxes(0, 1)
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


@dataclasses.dataclass
class Slot:
    """What the host knows of the run in one slot.

    curve: training loss of every step so far. best: the best reading so far of each
    evaluation set. seconds: this run's share of the pack's time, its trunk's too.
    followers: runs that branch off this one, soonest first.
    """

    run: Run
    run_id: str
    stream: TokenStream
    step: int = 0
    curve: list[float] = dataclasses.field(default_factory=list)
    best: list[Reading] = dataclasses.field(default_factory=list)
    seconds: float = 0.0
    followers: list[tuple[Run, str]] = dataclasses.field(default_factory=list)

    @property
    def marks(self) -> tuple[int, ...]:
        """The steps after which the run is scored; the last one is its end."""
        n = self.run.evaluations
        return tuple(-(-self.run.steps * i // n) for i in range(1, n + 1))

    @property
    def until(self) -> int:
        """The step of the next scoring or branch."""
        branches = [trunks.fork(run) for run, _ in self.followers]
        return min(mark for mark in (*self.marks, *branches) if mark > self.step)

    def branch(self, stream: TokenStream) -> Slot:
        """The next follower, as far as this run has come."""
        run, run_id = self.followers.pop(0)
        return Slot(run, run_id, stream, self.step, list(self.curve), [], self.seconds)

    @property
    def diverged(self) -> bool:
        return bool(self.curve) and not np.isfinite(self.curve[-1])

    def progress(self) -> dict[str, Any]:
        """What a checkpoint keeps beside the state."""
        best = [dataclasses.asdict(reading) for reading in self.best]
        return {"curve": self.curve, "best": best, "seconds": self.seconds}

    def resume(self, step: int, progress: Mapping[str, Any]) -> None:
        """The inverse of `progress`."""
        self.step, self.curve = step, list(progress["curve"])
        self.best = [Reading(**reading) for reading in progress["best"]]
        self.seconds = progress["seconds"]


class Trainer:
    """One pack on its way: the device state of all slots, and the runs in them."""

    def __init__(
        self,
        pack: Pack,
        prepared: Mapping[str, Prepared],
        store: Store,
        emit: Callable[[Event], None],
        checkpoint_seconds: float = CHECKPOINT_SECONDS,
    ):
        self.prepared, self.store, self.emit = prepared, store, emit
        self.checkpoint_seconds = checkpoint_seconds
        self.layout = pack.layout
        self.waiting = collections.deque(
            (run, run_id)
            for run, run_id in zip(pack.runs, pack.run_ids, strict=True)
            if not store.exists(run_id)
        )
        self.program = pack.runs[0].program()
        self.vocab = prepared[pack.runs[0].corpora()[0].key].vocab
        self.compiled = ready(self.program, self.layout, self.vocab)
        self.slots: list[Slot | None] = [None] * self.layout.width
        # Runs that left their trunk and wait for a slot, with their state.
        self.branches: collections.deque[tuple[Slot, Any]] = collections.deque()
        self.values = {
            name: np.zeros(self.layout.width, dtype) for name, dtype in VALUES.items()
        }
        self.state = self.compiled.empty()
        self.windows: dict[tuple[str, int], EvaluationWindows] = {}
        self.saved = self.reported = time.monotonic()

    def train(self, stopping: Callable[[], bool]) -> None:
        """Until no run waits and every slot is empty, or until asked to stop."""
        with jax.set_mesh(self.compiled.mesh):
            self._fill()
            while any(self.slots):
                self._advance()
                self._branch()
                self._score()
                if stopping():
                    self._checkpoint()
                    return
                if time.monotonic() - self.saved > self.checkpoint_seconds:
                    self._checkpoint()
                self._fill()

    def _fill(self) -> None:
        """Puts runs into empty slots: branches first, whose states take memory."""
        fresh = np.zeros(self.layout.width, bool)
        for i, slot in enumerate(self.slots):
            if slot is None and self.branches:
                self._continue(i, *self.branches.popleft())
            elif slot is None and self.waiting:
                run, run_id = self.waiting.popleft()
                lead = Slot(run, run_id, TokenStream(run, self.prepared))
                self._place(i, lead)
                self._take_along(lead)
                fresh[i] = True
        if fresh.any():
            self.state = self.compiled.refill(
                self.state, self._on_device(self.values), self._on_device(fresh)
            )
        for i in map(int, np.flatnonzero(fresh)):
            slot = self.slots[i]
            assert slot is not None
            self._restore(i, slot)
            self._started(slot)

    def _place(self, i: int, slot: Slot) -> None:
        self.slots[i] = slot
        for name, value in slot.run.values().items():
            self.values[name][i] = value

    def _continue(self, i: int, slot: Slot, state: Any) -> None:
        self._place(i, slot)
        self.state = self.compiled.insert(self.state, state, i)
        self._started(slot)

    def _started(self, slot: Slot) -> None:
        self.emit(Event("started", slot.run_id, step=slot.step, steps=slot.run.steps))

    def _take_along(self, slot: Slot) -> None:
        """Makes the waiting runs that are this one until they decay its followers."""
        step = self.store.checkpoint_step(slot.run_id)
        slot.followers = [
            (run, run_id)
            for run, run_id in trunks.followers(slot.run, step, self.waiting)
            if not self.store.checkpoint_step(run_id)
        ]
        taken = {run_id for _, run_id in slot.followers}
        self.waiting = collections.deque(
            pair for pair in self.waiting if pair[1] not in taken
        )

    def _restore(self, i: int, slot: Slot) -> None:
        saved = checkpoint.restore(
            self.store,
            slot.run_id,
            slot.run.steps,
            self.compiled.one,
            self.compiled.one_shardings,
            lambda line: self.emit(Event("note", slot.run_id, message=line)),
        )
        if saved is not None:
            self.state = self.compiled.insert(self.state, saved.state, i)
            slot.resume(saved.step, saved.progress)

    def _branch(self) -> None:
        """Keeps the state of each follower that decays from here."""
        for i, slot in enumerate(self.slots):
            if slot is None or slot.diverged:
                continue
            while slot.followers and trunks.fork(slot.followers[0][0]) == slot.step:
                stream = TokenStream(slot.followers[0][0], self.prepared)
                state = self.compiled.select(self.state, i)
                self.branches.append((slot.branch(stream), state))

    def _on_device(self, tree: Any) -> Any:
        return mesh.put(tree, mesh.slots(self.compiled.mesh))

    def _advance(self) -> None:
        """One call: up to STEPS_PER_CALL steps of every slot."""
        started = time.monotonic()
        width, calls = self.layout.width, STEPS_PER_CALL
        until = np.zeros(width, np.int32)
        batches = np.zeros(
            (width, calls, self.program.batch, self.program.length), np.int32
        )
        for i, slot in enumerate(self.slots):
            if slot:
                until[i] = min(slot.until, slot.step + calls)
                batches[i, : until[i] - slot.step] = slot.stream.batches(
                    slot.step, int(until[i])
                )
        self.state, losses = self.compiled.advance(
            self.state,
            self._on_device(self.values),
            self._on_device(until),
            mesh.put(batches, mesh.batches(self.compiled.mesh)),
        )
        active = [slot for slot in self.slots if slot]
        for i, slot in enumerate(self.slots):
            if slot:
                after = int(until[i])
                slot.stream.read_ahead(after, min(after + calls, slot.run.steps))
        losses = mesh.get(losses)  # blocks: a CPU queue must not run ahead
        for i, slot in enumerate(self.slots):
            if slot:
                made = losses[i, : until[i] - slot.step]
                slot.curve += [float(loss) for loss in _to_first_nan(made)]
                slot.step = int(until[i])
                slot.seconds += (time.monotonic() - started) / len(active)
        self._report(active)

    def _report(self, active: list[Slot]) -> None:
        now = time.monotonic()
        if now - self.reported < REPORT_SECONDS:
            return
        self.reported = now
        for slot in active:
            speed = slot.step * slot.run.tokens_per_step / max(slot.seconds, 1e-9)
            self.emit(
                Event(
                    "step",
                    slot.run_id,
                    step=slot.step,
                    steps=slot.run.steps,
                    loss=slot.curve[-1],
                    tokens_per_second=speed,
                )
            )

    def _score(self) -> None:
        """Scores the slots that are due; writes the record of those at their end."""
        for i, slot in enumerate(self.slots):
            if slot is None:
                continue
            if slot.diverged:
                while slot.followers:  # they would have diverged at the same step
                    self._end_diverged(i, slot.branch(slot.stream))
                self._end_diverged(i, slot)
            elif slot.step in slot.marks:
                scores = self._scores(i, slot)
                final = evaluation.readings(
                    slot.run.evaluation, scores, "final", slot.step
                )
                slot.best = evaluation.better(slot.best, final)
                if slot.step == slot.run.steps:
                    self._finish(i, slot, final + slot.best, scores)

    def _end_diverged(self, i: int, slot: Slot) -> None:
        unread = evaluation.unread(slot.run.evaluation, len(slot.curve))
        self._finish(i, slot, unread, {})

    def _scores(self, i: int, slot: Slot) -> dict[tuple[str, int], evaluation.Score]:
        started = time.monotonic()
        model = self.compiled.select(self.state, i).model
        nats = functools.partial(self.compiled.nats, model)
        sharding = mesh.windows(self.compiled.mesh)
        scores = _scores(slot.run, self.prepared, self.windows, nats, sharding)
        slot.seconds += time.monotonic() - started
        return scores

    def _finish(
        self,
        i: int,
        slot: Slot,
        readings: list[Reading],
        scores: Mapping[tuple[str, int], evaluation.Score],
    ) -> None:
        curve = {
            "step": np.arange(1, len(slot.curve) + 1, dtype=np.int32),
            "loss": np.asarray(slot.curve, np.float32),
        }
        files = {"loss_curve.npz": evaluation.npz(curve)}
        if scores:
            files["nats.npz"] = evaluation.to_npz(scores)
        record = _record(
            slot,
            self.prepared,
            self.store,
            self.layout,
            readings,
            files,
            self.compiled.flops_xla,
        )
        self.store.write(record)
        checkpoint.delete(self.store, slot.run_id)
        self.slots[i] = None
        self.emit(
            Event(
                "done",
                slot.run_id,
                step=slot.step,
                steps=slot.run.steps,
                loss=readings[0].value,
                status=record.status,
            )
        )

    def _checkpoint(self) -> None:
        """Branches first: a trunk's own checkpoint lies beyond theirs."""
        for slot, state in self.branches:
            self._save(slot, state)
        for i, at in enumerate(self.slots):
            if at and at.step:
                self._save(at, self.compiled.select(self.state, i))
        self.saved = time.monotonic()

    def _save(self, slot: Slot, state: Any) -> None:
        checkpoint.save(self.store, slot.run_id, slot.step, state, slot.progress())


def _scores(
    run: Run,
    prepared: Mapping[str, Prepared],
    windows: dict[tuple[str, int], EvaluationWindows],
    nats: Callable[[jax.Array], jax.Array],
    sharding: jax.sharding.NamedSharding,
) -> dict[tuple[str, int], evaluation.Score]:
    """Scores a model on every part of the run's evaluation sets.

    Args:
      windows: those that were cut before, by part and tokens; new ones are added.
      nats, sharding: as `evaluate.score`.
    """
    scores = {}
    for held_out in run.evaluation:
        for part in held_out.parts:
            key = (part.key, held_out.tokens)
            if key not in windows:
                windows[key] = evaluation_windows(
                    part, held_out.tokens, run.length, prepared
                )
            if key not in scores:
                scores[key] = evaluation.score(nats, windows[key], sharding)
    return scores


def _record(
    slot: Slot,
    prepared: Mapping[str, Prepared],
    store: Store,
    layout: Layout,
    readings: Sequence[Reading],
    files: Mapping[str, bytes],
    flops_xla: tuple[float | None, str],
) -> Record:
    """The record of the run in a slot; writes its files first.

    Args:
      flops_xla: of a step, or None and the reason why.
    """
    run, run_id = slot.run, slot.run_id
    artifacts = tuple(
        store.write_artifact(run_id, name, data) for name, data in files.items()
    )
    digests = {part.key: prepared[part.key].digest for part in run.corpora()}
    costs = cost.describe(run, slot.stream.vocab)
    per_step, reason = flops_xla
    return Record(
        run_id=run_id,
        status="diverged" if slot.diverged else "done",
        run=run.flat(),
        digests=digests,
        trajectory=trunks.trajectory(run, run_id, digests),
        params_total=costs.params_total,
        params_active=costs.params_active,
        params_embedding=costs.params_embedding,
        steps=run.steps,
        tokens=run.tokens,
        unique_tokens=run.unique_tokens,
        epochs=run.steps / run.unique_steps,
        damage=slot.stream.damage(),
        flops=costs.flops,
        flops_xla=None if per_step is None else per_step * run.steps,
        flops_xla_reason=reason,
        readings=tuple(readings),
        artifacts=artifacts,
        attempt=1 + sum(1 for _ in store.attempts(run_id)),
        layout=layout.to_json(),
        wall_seconds=slot.seconds,
        finished=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        host=platform.node(),
        device=jax.devices(layout.platform)[0].device_kind,
        versions=_versions(),
        commit=source_commit(),
    )


def _fit(
    pack: Pack,
    prepared: Mapping[str, Prepared],
    store: Store,
    emit: Callable[[Event], None],
    stopping: Callable[[], bool],
) -> None:
    """As `train`, for a family that is fitted: on the host, run after run, each whole.

    There is nothing to resume: a run that was cut short is fitted again.
    """
    layout = Layout()
    sharding = mesh.windows(mesh.make(layout).mesh)
    windows: dict[tuple[str, int], EvaluationWindows] = {}
    for run, run_id in zip(pack.runs, pack.run_ids, strict=True):
        if store.exists(run_id):
            continue
        if stopping():
            return
        slot = Slot(run, run_id, TokenStream(run, prepared))
        emit(Event("started", run_id, steps=run.steps))
        started = time.monotonic()
        spec = families.Tokens(slot.stream.vocab, run.length)
        family, config = families.member(run.model, spec)
        fitted = family.fit(slot.stream, config, run.values())
        nats = lambda tokens, fitted=fitted: jnp.asarray(
            fitted.nats(np.asarray(tokens))
        )
        scores = _scores(run, prepared, windows, nats, sharding)
        slot.step, slot.seconds = run.steps, time.monotonic() - started
        final = evaluation.readings(run.evaluation, scores, "final", slot.step)
        readings = final + evaluation.better([], final)
        files = {
            "fit.npz": evaluation.npz(fitted.facts),
            "nats.npz": evaluation.to_npz(scores),
        }
        none = (None, "fitted on the host: there is no program")
        record = _record(slot, prepared, store, layout, readings, files, none)
        store.write(record)
        emit(
            Event(
                "done",
                run_id,
                step=slot.step,
                steps=run.steps,
                loss=readings[0].value,
                status=record.status,
            )
        )


def train(
    pack: Pack,
    prepared: Mapping[str, Prepared],
    store: Store,
    emit: Callable[[Event], None],
    stopping: Callable[[], bool] = lambda: False,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> None:
    """Trains every run of the pack that has no record, and writes its record.

    Args:
      prepared: by corpus key, for every corpus that the runs touch.
      emit: told of every start, of progress about once a second, and of every end.
      stopping: asked after every call; once true, unfinished runs are checkpointed
        and the function returns.
      checkpoint_seconds: between the checkpoints of unfinished runs.
    """
    if families.fitted(pack.runs[0].model.family):
        _fit(pack, prepared, store, emit, stopping)
        return
    trainer = Trainer(pack, prepared, store, emit, checkpoint_seconds)
    if pack.ahead is not None:
        run, layout = pack.ahead
        _compile_ahead(run.program(), layout, trainer)
    trainer.train(stopping)


def _compile_ahead(program: Program, layout: Layout, trainer: Trainer) -> None:
    """Compiles the program of a later pack in a thread, while this one trains.

    Tracing and compiling leave cores idle. What goes wrong is said in the log here, and
    again when that pack's turn comes.
    """
    alike = program.tokenizer == trainer.program.tokenizer
    if alike and not families.fitted(program.model.family):
        given = (program, layout, trainer.vocab)
        threading.Thread(target=ready, args=given, daemon=True).start()


def tokens_per_second(
    run: Run, layout: Layout, vocab: int, seconds: float = 1.0
) -> float | None:
    """Training tokens/s of a full pack of such runs, compiling left out.

    None for a family that is fitted: no layout is better than another.

    Args:
      seconds: to measure for, at least; the fastest call counts, which what else the
        machine does disturbs least.
    """
    if families.fitted(run.model.family):
        return None
    calls = compiled(run.program(), layout, vocab)
    width = layout.width
    taken: list[float] = []
    draw = np.random.default_rng(0)
    shape = (width, STEPS_PER_CALL, run.batch, run.length)
    with jax.set_mesh(calls.mesh):
        on_slots = mesh.slots(calls.mesh)
        values = {n: np.full(width, value) for n, value in run.values().items()}
        values = jax.device_put(values, on_slots)
        fresh = jax.device_put(np.ones(width, bool), on_slots)
        state = calls.refill(calls.empty(), values, fresh)
        while sum(taken[1:]) < seconds:  # the first call warms up
            started = time.monotonic()
            until = np.full(width, (len(taken) + 1) * STEPS_PER_CALL, np.int32)
            batches = draw.integers(0, vocab, shape, np.int32)
            state, losses = calls.advance(
                state,
                values,
                jax.device_put(until, on_slots),
                jax.device_put(batches, mesh.batches(calls.mesh)),
            )
            jax.block_until_ready(losses)
            taken.append(time.monotonic() - started)
    return float(np.prod(shape) / min(taken[1:]))


def _to_first_nan(losses: np.ndarray) -> np.ndarray:
    """Losses up to and with the first that is not finite."""
    bad = np.flatnonzero(~np.isfinite(losses))
    return losses[: bad[0] + 1] if len(bad) else losses


@functools.cache
def _versions() -> dict[str, str]:
    """Of the packages that compute, and digests of a user's own included files."""
    names = ("jax", "jaxlib", "flax", "optax", "datalaw")
    found = {name: importlib.metadata.version(name) for name in names}
    own = {f"include {name}": sha for name, sha in plugins.included().items()}
    return found | {"python": platform.python_version()} | own
