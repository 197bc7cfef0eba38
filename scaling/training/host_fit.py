"""Fits the families that are not trained by gradient descent, one run after another.

They run on the host and have no checkpoints. Where several hosts train together, each
fits the same, and the first one writes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from scaling import families, quantities
from scaling.corpora import Prepared, TokenStream
from scaling.layout import Layout
from scaling.packs import Event, Pack
from scaling.record import FIT, Record
from scaling.store import Store
from scaling.training import evaluation, mesh, outcome
from scaling.training.slots import Slot
from scaling.writing import npz


def fit(
    pack: Pack,
    prepared: Mapping[str, Prepared],
    store: Store,
    emit: Callable[[Event], None],
    stopping: Callable[[], bool],
) -> None:
    """As `trainer.train`, each run whole: one that was cut short is fitted again."""
    layout = Layout()
    here = mesh.make(layout, jax.local_devices())
    scorer = outcome.Scorer(prepared, mesh.windows(here.mesh))
    for run, run_id in zip(pack.runs, pack.run_ids, strict=True):
        if store.exists(run_id):
            continue
        if any(mesh.any_process(stopping())):
            return
        slot = Slot(run, run_id, TokenStream(run, prepared))
        emit(Event("started", run_id, steps=run.steps))
        record = _fitted(slot, scorer, store, layout)
        store.write(record)
        emit(
            Event(
                "done",
                run_id,
                step=slot.step,
                steps=run.steps,
                loss=record.readings[0].value,
                status=record.status,
            )
        )


def _fitted(slot: Slot, scorer: outcome.Scorer, store: Store, layout: Layout) -> Record:
    """Fits and scores the run in a slot; its record."""
    run = slot.run
    started = time.monotonic()
    family, config = families.member(run.model, slot.stream.spec)
    for slot.step in sorted({*run.probe_marks(), run.steps}):
        values = run.values() | {"steps": np.int32(slot.step)}
        fitted = family.fit(slot.stream, config, values)
        last = slot.step == run.steps  # it is scored there alone
        kept = scorer.predictions(run, slot.step, _predicts(fitted), best=last)
        slot.kept |= kept
    scores = scorer(run, _reads(fitted))
    slot.seconds = time.monotonic() - started
    images = scorer.prepared[run.data.corpus[0].key].images
    captions = images is not None and images.caption > 0
    asked = quantities.of(slot.stream.spec, run.of_pictures, captions)
    final = evaluation.readings(run.evaluation, scores, "final", slot.step, asked)
    readings = final + evaluation.better([], final)
    files = {
        FIT: npz(fitted.facts),
        "nats.npz": evaluation.to_npz(scores),
        **scorer.predictions_file(slot),
    }
    none = (None, "fitted on the host: there is no program")
    return outcome.record(slot, scorer.prepared, store, layout, readings, files, none)


def _reads(fitted: Any) -> evaluation.Read:
    """The nats that a fitted model gives windows, on the host."""
    return lambda tokens, at: (jnp.asarray(fitted.nats(np.asarray(tokens))), None)


def _predicts(fitted: Any) -> evaluation.Read:
    """What a fitted model predicts, on the host."""

    def read(tokens: jax.Array, at: jax.Array) -> tuple[None, jax.Array]:
        predicted = fitted.log_probabilities(np.asarray(tokens), np.asarray(at))
        return None, jnp.asarray(predicted)

    return read
