"""Scores a run and writes its artifacts and record when it ends."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import importlib.metadata
import platform
from collections.abc import Mapping, Sequence

import jax
import numpy as np

from scaling import plugins, probe_file, quantities, trunks
from scaling.corpora import (
    EvaluationWindows,
    Prepared,
    _pictures,
    _probes,
    scored_windows,
)
from scaling.layout import Layout
from scaling.planning import cost
from scaling.record import Reading, Record
from scaling.run import Part, Probes, Run
from scaling.source import source_commit
from scaling.store import Store
from scaling.training import evaluation
from scaling.training.slots import Slot
from scaling.writing import npz

Scores = dict[tuple[str, int], evaluation.Score]


class Scorer:
    """Scores models on evaluation sets and keeps what they predict at probes.

    Each set is cut once.

    Args:
      prepared: by corpus key, for every corpus that the runs touch.
      sharding: of a call's windows, and
      columns: of what is read, as `evaluation.score` takes them.
    """

    def __init__(
        self,
        prepared: Mapping[str, Prepared],
        sharding: jax.sharding.NamedSharding,
        columns: Sequence[str] = (),
    ):
        self.prepared, self.sharding, self.columns = prepared, sharding, columns
        self._windows: dict[tuple[str, int], EvaluationWindows] = {}

    def predictions(
        self, run: Run, step: int, read: evaluation.Read, *, best: bool
    ) -> dict[str, np.ndarray]:
        """A model's predictions at the probes that are due after this step of the run.

        Args:
          best: no earlier scoring was better.

        Returns:
          float16 [positions, vocab] by `probe_file.key`, and the best step.
        """
        due: list[tuple[Probes, probe_file.Moment]] = []
        due += run.probe_marks().get(step, ())
        due += [
            (probes, probe_file.BEST) for probes in run.probes if best and probes.best
        ]
        predicted: dict[str, np.ndarray] = {}
        kept = {}
        for probes, moment in due:
            if probes.name not in predicted:
                cut = _probes.cut(probes, run.length, self.prepared)
                new = evaluation.predictions(read, cut, self.sharding)
                predicted[probes.name] = new
            kept[probe_file.key(probes.name, moment)] = predicted[probes.name]
            if moment == probe_file.BEST:
                kept[probe_file.best_step_key(probes.name)] = np.array(step, np.int64)
        return kept

    def predictions_file(self, slot: Slot) -> dict[str, bytes]:
        """The artifact of what the run in a slot predicted; none without probes."""
        if not slot.run.probes:
            return {}
        of = {
            probes.name: _probes.cut(probes, slot.run.length, self.prepared).digest
            for probes in slot.run.probes
        }
        return {probe_file.PREDICTIONS: probe_file.predictions(slot.kept, of)}

    def __call__(self, run: Run, read: evaluation.Read) -> Scores:
        """The scores of a model on every part of the run's evaluation sets."""
        scores: Scores = {}
        for held_out in run.evaluation:
            for part in held_out.parts:
                key = (part.key, held_out.tokens)
                if key not in self._windows:
                    cut = scored_windows(part, held_out.tokens, run, self.prepared)
                    self._windows[key] = cut
                if key not in scores:
                    scores[key] = self._score(read, key, part, run)
        return scores

    def _score(
        self, read: evaluation.Read, key: tuple[str, int], part: Part, run: Run
    ) -> evaluation.Score:
        """Where there are captions, also without them and with wrong ones."""
        windows, corpus = self._windows[key], self.prepared[part.key]
        ask = lambda rows: evaluation.score(
            read,
            dataclasses.replace(windows, tokens=rows),
            self.sharding,
            self.columns,
        )
        score = ask(windows.tokens)
        if corpus.images is None or not corpus.images.caption:
            return score
        spec = corpus.spec(run)
        retold = {
            how: ask(_pictures.retold(windows.tokens, corpus, spec, how)).nats
            for how in quantities.CAPTIONS
        }
        return dataclasses.replace(score, others={**score.others, **retold})


def curve_file(slot: Slot) -> bytes:
    """The training loss of every step."""
    curve = {
        "step": np.arange(1, len(slot.curve) + 1, dtype=np.int32),
        "loss": np.asarray(slot.curve, np.float32),
    }
    return npz(curve)


def record(
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
    costs = cost.describe(run, slot.stream.spec)
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
        data_unit=run.unit,
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


@functools.cache
def _versions() -> dict[str, str]:
    """Of the packages that compute, and digests of a user's own included files."""
    names = ("jax", "jaxlib", "flax", "optax", "datalaw")
    versions = {name: importlib.metadata.version(name) for name in names}
    own = {f"include {name}": sha for name, sha in plugins.included().items()}
    return versions | {"python": platform.python_version()} | own
