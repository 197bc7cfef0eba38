"""The host's view of a pack: the run in each slot, and the runs that wait."""

from __future__ import annotations

import base64
import collections
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from scaling import probe_file, trunks
from scaling.corpora import Prepared, TokenStream
from scaling.packs import Pack
from scaling.record import Reading
from scaling.run import Run
from scaling.store import Store


@dataclasses.dataclass
class Slot:
    """The host's view of the run in one slot.

    curve: training loss of every step so far. best: the best reading so far of each
    evaluation set. kept: what was predicted so far, as `outcome.Scorer` gives it. made:
    samples so far, as `samples.Sampler` gives them.
    seconds: this run's share of the pack's time, its trunk's too. followers: runs that
    branch off this one, soonest first.
    """

    run: Run
    run_id: str
    stream: TokenStream
    step: int = 0
    curve: list[float] = dataclasses.field(default_factory=list)
    best: list[Reading] = dataclasses.field(default_factory=list)
    kept: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    made: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0
    followers: list[tuple[Run, str]] = dataclasses.field(default_factory=list)

    @property
    def marks(self) -> tuple[int, ...]:
        """The steps after which the run is scored; the last one is its end."""
        n = self.run.evaluations
        return tuple(-(-self.run.steps * i // n) for i in range(1, n + 1))

    @property
    def best_due(self) -> bool:
        """Whether what it predicts now is to be kept as that of its best scoring."""
        own = self.run.own_evaluation
        if own is None or not any(probes.best for probes in self.run.probes):
            return False
        now = (own.name, "loss", self.step)
        return any((r.evaluation, r.quantity, r.step) == now for r in self.best)

    @property
    def until(self) -> int:
        """The step of the next scoring, keeping of predictions, samples or branch."""
        branches = [trunks.fork(run) for run, _ in self.followers]
        kept = (*self.run.probe_marks(), *self.run.sample_marks())
        stops = (*self.marks, *kept, *branches)
        return min(mark for mark in stops if mark > self.step)

    def branch(self, stream: TokenStream) -> Slot:
        """The next follower, as far as this run has come."""
        run, run_id = self.followers.pop(0)
        curve = list(self.curve)
        return Slot(run, run_id, stream, self.step, curve, seconds=self.seconds)

    @property
    def diverged(self) -> bool:
        return bool(self.curve) and not np.isfinite(self.curve[-1])

    def advanced(self, step: int, losses: np.ndarray, seconds: float) -> None:
        """Takes note of the steps up to `step`, with the loss of each.

        Args:
          seconds: this run's share of the time that they took.
        """
        self.curve += [float(loss) for loss in _to_first_nan(losses)]
        self.step = step
        self.seconds += seconds

    def progress(self) -> dict[str, Any]:
        """What a checkpoint keeps beside the state."""
        best = [dataclasses.asdict(reading) for reading in self.best]
        body = {"curve": self.curve, "best": best, "seconds": self.seconds}
        for name, arrays in (("kept", self.kept), ("made", self.made)):
            if arrays:
                packed = probe_file.predictions(arrays, {})
                body[name] = base64.b64encode(packed).decode()
        return body

    def resume(self, step: int, progress: Mapping[str, Any]) -> None:
        """The inverse of `progress`."""
        self.step, self.curve = step, list(progress["curve"])
        self.best = [Reading(**reading) for reading in progress["best"]]
        self.seconds = progress["seconds"]
        if "kept" in progress:
            self.kept = probe_file.kept(base64.b64decode(progress["kept"]))
        if "made" in progress:
            self.made = probe_file.kept(base64.b64decode(progress["made"]))


class Line:
    """The runs of a pack that wait for a slot.

    Attributes:
      waiting: those that nobody trains yet.
      branches: those that left their trunk, each with the state it goes on from.
    """

    def __init__(self, pack: Pack, prepared: Mapping[str, Prepared], store: Store):
        self.prepared, self.store = prepared, store
        pairs = zip(pack.runs, pack.run_ids, strict=True)
        self.waiting = collections.deque(
            (run, run_id) for run, run_id in pairs if not store.exists(run_id)
        )
        self.branches: collections.deque[tuple[Slot, Any]] = collections.deque()

    def next(self) -> Slot:
        """The next run that is begun by itself, with all that may branch off it."""
        run, run_id = self.waiting.popleft()
        slot = Slot(run, run_id, TokenStream(run, self.prepared))
        self._take_along(slot)
        return slot

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

    def due(self, slot: Slot) -> Iterator[Slot]:
        """The followers that decay from the step where the run in `slot` is."""
        while slot.followers and trunks.fork(slot.followers[0][0]) == slot.step:
            stream = TokenStream(slot.followers[0][0], self.prepared)
            yield slot.branch(stream)


def _to_first_nan(losses: np.ndarray) -> np.ndarray:
    """Losses up to and with the first that is not finite."""
    bad = np.flatnonzero(~np.isfinite(losses))
    return losses[: bad[0] + 1] if len(bad) else losses
