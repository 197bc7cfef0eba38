"""Shows progress: redrawn lines on a terminal, plain lines elsewhere."""

from __future__ import annotations

import dataclasses
import shutil
import sys
import time
from collections.abc import Callable, Iterable
from typing import TextIO

from scaling.packs import Event
from scaling.quantities import loss_unit
from scaling.run import Program, Run

REDRAW_SECONDS = 0.2
PLAIN_SECONDS = 30.0


def describe(run: Run) -> str:
    """A run in a few words: family, size, corpus, tokens, rate, epochs, seed."""
    words = [
        f"{run.model.family} {short(run.model.size)}",
        run.data.label,
        f"{short(run.tokens)} {run.unit}",
        f"rate {run.optimiser.learning_rate:g}",
    ]
    if run.unique_steps < run.steps:
        words.append(f"{run.steps / run.unique_steps:g} epochs")
    if run.init_seed or run.data.seed:
        words.append(f"seed {run.init_seed}/{run.data.seed}")
    return ", ".join(words)


def short(number: float) -> str:
    """Three digits and a unit: 82.9k, 1.2G."""
    for unit, factor in (("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        # Three digits of 999.6M would be 1e+03M.
        if abs(number) >= 0.9995 * factor:
            return f"{number / factor:.3g}{unit}"
    return f"{number:.3g}"


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def timed(seconds: float) -> str:
    """As `duration`, with two digits of less than ten seconds."""
    return duration(seconds) if seconds >= 10 else f"{seconds:.2g} s"


@dataclasses.dataclass
class _Running:
    step: int = 0
    steps: int = 1
    loss: float | None = None
    host: str = ""


class Progress:
    """Shows events. `expect` gives the planned runs, whenever these change."""

    def __init__(self, stream: TextIO | None = None):
        self.stream = stream or sys.stderr
        self.live = self.stream.isatty()
        self._runs: dict[str, Run] = {}
        self._flops: dict[str, float] = {}
        self._shared: dict[str, int] = {}
        self._ended: set[str] = set()
        self._failed: set[str] = set()
        self._waiting = 0
        self._running: dict[str, _Running] = {}
        self._rates: dict[Program, float] = {}  # tokens/s, of a pack together
        self._speed = 0.0  # FLOP/s where last measured
        self._drawn = 0
        self._last = 0.0
        self.hear: Callable[[str], None] = lambda line: None  # is given every note

    def expect(
        self,
        runs: dict[str, Run],
        flops: dict[str, float],
        shared: dict[str, int],
        ended: Iterable[str],
        waiting: int,
    ) -> None:
        """Everything planned, by run_id.

        Args:
          runs: all runs but the provisional ones.
          flops: of training each.
          shared: steps of each that another run trains too.
          ended: ids of those with a record.
          waiting: the number of provisional runs.
        """
        self._runs, self._flops, self._waiting = runs, flops, waiting
        self._shared = shared
        self._ended = set(ended)
        self._failed -= self._ended
        self._draw()

    def note(self, text: str) -> None:
        """One line that stays."""
        self.hear(text)
        self._erase()
        print(text, file=self.stream, flush=True)

    def __call__(self, event: Event) -> None:
        if event.kind == "started":
            now = _Running(event.step, event.steps or 1, host=event.host)
            self._running[event.run_id] = now
            self._failed.discard(event.run_id)
        elif event.kind == "step":
            self._step(event)
        elif event.kind == "note":
            self.note(event.message)
        else:
            self._end(event)
        self._draw()

    def close(self) -> None:
        self._erase()

    def _step(self, event: Event) -> None:
        now = _Running(event.step, event.steps, event.loss, event.host)
        self._running[event.run_id] = now
        run = self._runs.get(event.run_id)
        if run is not None and event.tokens_per_second > 0:
            self._rates[run.program()] = event.tokens_per_second
            per_token = self._flops[event.run_id] / run.tokens
            self._speed = event.tokens_per_second * per_token

    def _end(self, event: Event) -> None:
        self._running.pop(event.run_id, None)
        run = self._runs.get(event.run_id)
        name = f"{event.run_id} {describe(run)}" if run else event.run_id
        if event.kind == "failed":
            self._failed.add(event.run_id)
            self.note(f"failed: {name}: {event.cause}: {event.message}")
            return
        self._ended.add(event.run_id)
        unit = loss_unit(run) if run else ""
        loss = "" if event.loss is None else f", loss {event.loss:.3f} {unit}"
        if loss and run:  # the first reading, which is of the first set
            loss += f" on {run.evaluation[0].name}"
        if not self.live or event.status == "diverged":
            self.note(f"[{self._count()}] {event.status}: {name}{loss}")

    def _count(self) -> str:
        return f"{len(self._ended)}/{len(self._runs) + self._waiting}"

    def run(self, run_id: str) -> Run | None:
        """The planned run of an id."""
        return self._runs.get(run_id)

    def seconds_left(self) -> float | None:
        """Of the work for one machine, shared by those that train now."""
        left = self.machine_seconds_left()
        machines = len({now.host for now in self._running.values()})
        return None if left is None else left / max(1, machines)

    def machine_seconds_left(self) -> float | None:
        """From measured rates; another program's FLOP/s where it has none yet."""
        if not self._speed:
            return None
        seconds, tokens = 0.0, 0
        for run_id, run in self._runs.items():
            if run_id in self._ended or run_id in self._failed:
                continue
            now = self._running.get(run_id, _Running(self._shared[run_id], run.steps))
            left = run.tokens * (1 - now.step / now.steps)
            per_token = max(self._flops[run_id] / run.tokens, 1.0)
            rate = self._rates.get(run.program(), self._speed / per_token)
            seconds, tokens = seconds + left / rate, tokens + 1
        # Runs that wait for tuning are as long as the others are on average.
        return seconds * (1 + self._waiting / tokens) if tokens else seconds

    def lines(self) -> list[str]:
        """What the display says now."""
        left = self.seconds_left()
        parts = [f"{self._count()} done", f"{len(self._running)} running"]
        if self._failed:
            parts.append(f"{len(self._failed)} failed")
        if left is not None:
            parts.append(f"about {duration(left)} left")
        lines = [", ".join(parts)]
        for run_id, now in self._running.items():
            run = self._runs.get(run_id)
            if run is None:
                continue
            unit = loss_unit(run)
            loss = f"  training loss {now.loss:.3f} {unit}" if now.loss else ""
            rate = self._rates.get(run.program())
            speed = "" if rate is None else f"  {short(rate)} {run.unit}/s"
            lines.append(f"  {describe(run)}: {now.step}/{now.steps}{loss}{speed}")
        return lines

    def _draw(self) -> None:
        now = time.monotonic()
        wait = REDRAW_SECONDS if self.live else PLAIN_SECONDS
        if now - self._last < wait:
            return
        first, self._last = not self._last, now
        if not self.live:
            if not first:
                text = "; ".join(line.strip() for line in self.lines())
                print(text, file=self.stream, flush=True)
            return
        columns = shutil.get_terminal_size().columns
        self._erase()
        text = "\n".join(line[: columns - 1] for line in self.lines())
        print(text, file=self.stream, flush=True)
        self._drawn = text.count("\n") + 1

    def _erase(self) -> None:
        if self._drawn:
            print(f"\x1b[{self._drawn}F\x1b[J", end="", file=self.stream, flush=True)
            self._drawn = 0
