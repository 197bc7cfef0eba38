"""The child process of the engine, with a clock in it: says what its time went to.

It is `scaling.training.worker` with a stop watch around some functions; a line of
JSON for each child, with seconds by phase, is appended to the file that the environment
names as DATALAW_TIMES. Time belongs to the innermost phase alone, so that the phases
add up to the life of the child; what other threads do meanwhile is not in them.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import jax
import psutil

from scaling import corpora, store
from scaling.training import checkpoint, outcome, programs, speed, trainer, worker

TIMES = "DATALAW_TIMES"
IDLE = "waiting for the parent"

PHASES: dict[str, tuple[tuple[Any, str], ...]] = {
    "process start": (),
    "training steps": ((trainer.Trainer, "_advance"),),
    "input": (
        (corpora.TokenStream, "__init__"),
        (corpora.TokenStream, "batches"),
    ),
    "evaluation": ((trainer.Trainer, "_scores"),),
    "predictions at probes": (
        (trainer.Trainer, "_keep"),
        (outcome.Scorer, "predictions_file"),
    ),
    "compilation": ((programs, "ready"), (programs, "compiled")),
    "measuring layouts": ((speed, "tokens_per_second"),),
    "checkpoints and records": (
        (trainer.Trainer, "_finish"),
        (checkpoint, "restore"),
        (checkpoint, "save"),
        (store.Store, "checkpoint_step"),
        (store.Store, "exists"),
    ),
    "filling slots": ((trainer.Trainer, "_fill"), (trainer.Trainer, "_branch")),
    "the rest of a pack": ((worker.JaxWorker, "train"),),
    "names and costs": ((worker.JaxWorker, "describe"), (worker.JaxWorker, "probe")),
}


class Clock:
    """Seconds by phase, and how often each was entered."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys([*PHASES, IDLE], 0.0)
        self.calls = dict.fromkeys([*PHASES, IDLE], 0)
        self._phases = [IDLE]
        self._since = psutil.Process().create_time() - time.time() + time.monotonic()
        self._book("process start")

    def _book(self, phase: str) -> None:
        now = time.monotonic()
        self.seconds[phase] += now - self._since
        self._since = now

    def around(self, owner: Any, name: str, phase: str) -> None:
        """Counts the time in `owner.name` as `phase`."""
        inner: Callable[..., Any] = getattr(owner, name)

        @functools.wraps(inner)
        def outer(*args: Any, **kwargs: Any) -> Any:
            if threading.current_thread() is not threading.main_thread():
                return inner(*args, **kwargs)  # meanwhile: costs no time of its own
            self._book(self._phases[-1])
            self.calls[phase] += self._phases[-1] != phase
            self._phases.append(phase)
            try:
                return inner(*args, **kwargs)
            finally:
                self._book(self._phases.pop())

        setattr(owner, name, outer)

    def compiled(self, event: str, seconds: float, **_: object) -> None:
        """JAX's own word of a compilation: counts wherever it happened."""
        mine = threading.current_thread() is threading.main_thread()
        known = self._phases[-1] == "compilation"
        if event.startswith("/jax/core/compile/") and mine and not known:
            self._book(self._phases[-1])
            self.seconds[self._phases[-1]] -= seconds
            self.seconds["compilation"] += seconds

    def write(self) -> None:
        self._book(self._phases[-1])
        said = {"seconds": self.seconds, "calls": self.calls}
        with open(os.environ[TIMES], "a") as file:
            file.write(json.dumps(said) + "\n")


def main() -> None:
    clock = Clock()
    for phase, functions in PHASES.items():
        for owner, name in functions:
            clock.around(owner, name, phase)
    jax.monitoring.register_event_duration_secs_listener(clock.compiled)
    atexit.register(clock.write)
    worker.main()


if __name__ == "__main__":
    main()
