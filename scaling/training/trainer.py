"""Trains one pack: fill the slots, step, branch, score, record, refill.

Runs that are equal up to their decay are trained once up to that point (trunks.py).
Interrupted runs resume from checkpoints.
"""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from scaling import chaos, families, objective, quantities
from scaling.corpora import Prepared, spec_of
from scaling.layout import Layout
from scaling.packs import CHECKPOINT_SECONDS, Event, Pack
from scaling.record import Reading
from scaling.run import VALUES, Program, Run
from scaling.store import Store
from scaling.training import (
    checkpoint,
    evaluation,
    host_fit,
    mesh,
    outcome,
    programs,
    samples,
)
from scaling.training.slots import Line, Slot

REPORT_SECONDS = 1.0


class PackState:
    """The state of all slots, on the devices, and the values that each trains with."""

    def __init__(self, program: Program, layout: Layout, spec: families.Spec):
        self.compiled = programs.ready(program, layout, spec)
        self.values = {
            name: np.zeros(layout.width, dtype) for name, dtype in VALUES.items()
        }
        self._state = self.compiled.empty()

    def set_values(self, i: int, run: Run) -> None:
        for name, value in run.values().items():
            self.values[name][i] = value

    def refill(self, fresh: np.ndarray) -> None:
        """Initial states in the slots where `fresh` is true."""
        self._state = self.compiled.refill(
            self._state, self._on_slots(self.values), self._on_slots(fresh)
        )

    def select(self, i: int) -> Any:
        """The state of one slot's run."""
        return self.compiled.select(self._state, i)

    def insert(self, i: int, one: Any) -> None:
        self._state = self.compiled.insert(self._state, one, i)

    def advance(self, until: np.ndarray, batches: np.ndarray) -> jax.Array:
        """Steps of every slot, none at or beyond its `until`.

        Returns:
          Losses [slot, step], not waited for.
        """
        self._state, losses = self.compiled.advance(
            self._state,
            self._on_slots(self.values),
            self._on_slots(until),
            mesh.put(batches, mesh.batches(self.compiled.mesh)),
        )
        return losses

    def _on_slots(self, tree: Any) -> Any:
        return mesh.put(tree, mesh.slots(self.compiled.mesh))


class Trainer:
    """Trains one pack: the runs in its slots, from the first step to the record."""

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
        self.line = Line(pack, prepared, store)
        self.program = pack.runs[0].program()
        self.spec = spec_of(pack.runs[0], prepared)
        self.pack = PackState(self.program, self.layout, self.spec)
        self.compiled = self.pack.compiled
        self.slots: list[Slot | None] = [None] * self.layout.width
        pictures = pack.runs[0].of_pictures
        images = prepared[pack.runs[0].data.corpus[0].key].images
        captions = images is not None and images.caption > 0
        self.quantities = quantities.of(self.spec, pictures, captions)
        columns = objective.make(self.program.objective, self.spec).columns
        sharding = mesh.windows(self.compiled.mesh)
        self.scorer = outcome.Scorer(prepared, sharding, columns)
        self.sampler = samples.Sampler(prepared, sharding)
        self.saved = self.reported = time.monotonic()

    def train(self, stopping: Callable[[], bool]) -> None:
        """Until no run waits and every slot is empty, or a stop is requested."""
        with jax.set_mesh(self.compiled.mesh):
            self._fill()
            while any(self.slots):
                self._advance()
                self._branch()
                self._score()
                late = time.monotonic() - self.saved > self.checkpoint_seconds
                stop, late = mesh.any_process(stopping(), late)
                if stop or late:
                    self._checkpoint()
                if stop:
                    return
                self._fill()

    def _fill(self) -> None:
        """Puts runs into empty slots: branches first, whose states take memory."""
        fresh = np.zeros(self.layout.width, bool)
        for i, slot in enumerate(self.slots):
            if slot is None and self.line.branches:
                branch, state = self.line.branches.popleft()
                self._place(i, branch)
                self.pack.insert(i, state)
                self._started(branch)
            elif slot is None and self.line.waiting:
                self._place(i, self.line.next())
                fresh[i] = True
        if fresh.any():
            self.pack.refill(fresh)
        for i, slot in enumerate(self.slots):
            if slot is not None and fresh[i]:
                self._restore(i, slot)
                self._started(slot)

    def _place(self, i: int, slot: Slot) -> None:
        self.slots[i] = slot
        self.pack.set_values(i, slot.run)

    def _started(self, slot: Slot) -> None:
        self.emit(Event("started", slot.run_id, step=slot.step, steps=slot.run.steps))

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
            self.pack.insert(i, saved.state)
            slot.resume(saved.step, saved.progress)

    def _branch(self) -> None:
        """Keeps the state of each follower that decays from here."""
        for i, slot in enumerate(self.slots):
            if slot is not None and not slot.diverged:
                for branch in self.line.due(slot):
                    self.line.branches.append((branch, self.pack.select(i)))

    def _advance(self) -> None:
        """One call: up to STEPS_PER_CALL steps of every slot."""
        started = time.monotonic()
        active = {i: slot for i, slot in enumerate(self.slots) if slot is not None}
        until, batches = self._next_batches(active)
        losses = self.pack.advance(until, batches)
        for i, slot in active.items():
            after = int(until[i])
            later = min(after + programs.STEPS_PER_CALL, slot.run.steps)
            slot.stream.read_ahead(after, later)
        made = mesh.get(losses)  # blocks: a CPU queue must not run ahead
        for i, slot in active.items():
            share = (time.monotonic() - started) / len(active)
            slot.advanced(int(until[i]), made[i, : until[i] - slot.step], share)
        self._report(active)

    def _next_batches(
        self, active: Mapping[int, Slot]
    ) -> tuple[np.ndarray, np.ndarray]:
        """The step to which each slot goes [slot], and the tokens it reads on its way.

        Returns:
          `until` [slot], and batches [slot, step, batch, row].
        """
        width, steps = self.layout.width, programs.STEPS_PER_CALL
        until = np.zeros(width, np.int32)
        shape = (width, steps, self.program.batch, self.spec.row)
        batches = np.zeros(shape, np.int32)
        for i, slot in active.items():
            until[i] = min(slot.until, slot.step + steps)
            made = slot.stream.batches(slot.step, int(until[i]))
            batches[i, : until[i] - slot.step] = made
        return until, batches

    def _report(self, active: Mapping[int, Slot]) -> None:
        now = time.monotonic()
        if now - self.reported < REPORT_SECONDS:
            return
        self.reported = now
        for slot in active.values():
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
                continue
            if slot.step in slot.marks:
                scores = self._scores(i, slot)
                final = evaluation.readings(
                    slot.run.evaluation, scores, "final", slot.step, self.quantities
                )
                slot.best = evaluation.better(slot.best, final)
            self._keep(i, slot)
            if slot.step == slot.run.steps:
                self._finish(i, slot, final + slot.best, scores)

    def _end_diverged(self, i: int, slot: Slot) -> None:
        unit = self.quantities[0].unit
        unread = evaluation.unread(slot.run.evaluation, len(slot.curve), unit)
        self._finish(i, slot, unread, {})

    def _scores(self, i: int, slot: Slot) -> outcome.Scores:
        started = time.monotonic()
        scores = self.scorer(slot.run, self._read(i))
        slot.seconds += time.monotonic() - started
        return scores

    def _keep(self, i: int, slot: Slot) -> None:
        """Keeps what the run predicts now at the probes that are due, and its samples.

        Its time is what that took; what makes samples is compiled before.
        """
        sampled = slot.step in slot.run.sample_marks()
        given = (self.program, self.layout, self.spec)
        denoiser = programs.denoiser(*given) if sampled else ()
        if sampled and any(made.hidden for made in slot.run.samples):
            denoiser += programs.expecting(*given)
        started = time.monotonic()
        best = slot.best_due
        if best or slot.step in slot.run.probe_marks():
            read = self._read(i)
            slot.kept |= self.scorer.predictions(slot.run, slot.step, read, best=best)
        if sampled:
            model = self.pack.select(i).scored
            calls = [functools.partial(call, model) for call in denoiser]
            read = functools.partial(self.compiled.read, model)
            slot.made |= self.sampler.due(slot.run, slot.step, read, calls)
        slot.seconds += time.monotonic() - started

    def _read(self, i: int) -> evaluation.Read:
        """How the model of the run in a slot reads windows."""
        return functools.partial(self.compiled.read, self.pack.select(i).scored)

    def _finish(
        self,
        i: int,
        slot: Slot,
        readings: list[Reading],
        scores: Mapping[tuple[str, int], evaluation.Score],
    ) -> None:
        files = {"loss_curve.npz": outcome.curve_file(slot)}
        if scores:
            files["nats.npz"] = evaluation.to_npz(scores)
            files |= self.scorer.predictions_file(slot)
            files |= self.sampler.file(slot.run, slot.made)
        record = outcome.record(
            slot,
            self.prepared,
            self.store,
            self.layout,
            readings,
            files,
            self.compiled.flops_xla,
        )
        chaos.point("child: artifacts without record")
        if not self.store.write(record):  # as a machine may that was given up as lost
            logging.warning("run %s: the record of another attempt stands", slot.run_id)
        chaos.point("child: record with checkpoints")
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
        for slot, state in self.line.branches:
            self._save(slot, state)
        for i, at in enumerate(self.slots):
            if at and at.step:
                self._save(at, self.pack.select(i))
        self.saved = time.monotonic()

    def _save(self, slot: Slot, state: Any) -> None:
        if self.store.attempt and self.store.exists(slot.run_id):
            return  # another attempt has ended, and removed what it kept
        checkpoint.save(self.store, slot.run_id, slot.step, state, slot.progress())


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
      emit: called with every start, of progress about once a second, and of every end.
      stopping: asked after every call; once true, unfinished runs are checkpointed
        and the function returns.
      checkpoint_seconds: between the checkpoints of unfinished runs.
    """
    if families.fitted(pack.runs[0].model.family):
        host_fit.fit(pack, prepared, store, emit, stopping)
        return
    trainer = Trainer(pack, prepared, store, emit, checkpoint_seconds)
    if pack.ahead is not None:
        run, layout = pack.ahead
        alike = run.data.tokenizer == pack.runs[0].data.tokenizer
        if alike and run.data.corpus[0].key in prepared:
            _compile_ahead(run.program(), layout, spec_of(run, prepared))
    trainer.train(stopping)


def _compile_ahead(program: Program, layout: Layout, spec: families.Spec) -> None:
    """Compiles the program of a later pack in a thread, while this one trains.

    Tracing and compiling leave cores idle. What goes wrong is said in the log here, and
    again when that pack's turn comes.
    """
    if not families.fitted(program.model.family):
        given = (program, layout, spec)
        threading.Thread(target=programs.ready, args=given, daemon=True).start()
