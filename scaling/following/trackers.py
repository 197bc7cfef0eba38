"""Writers for experiment trackers: `scaling run --tracker wandb|trackio|tensorboard`.

Each run of a study is a run of the tracker, named by its id, with every field of the
run as its configuration, its training loss and tokens/s at each step that is reported,
and at its end `final_loss`. They read the engine's events and nothing else.
"""

from __future__ import annotations

import contextvars
import importlib
import importlib.util
import os
import time
from pathlib import Path
from typing import Any, Literal

from scaling.errors import UserError
from scaling.following.listeners import Listener
from scaling.packs import Event
from scaling.run import Run

NAMES = ("wandb", "trackio", "tensorboard")


def check(name: str, workdir: str) -> None:
    """Raises UserError where a tracker cannot be used."""
    if importlib.util.find_spec(name) is None:
        how = "trackio" if name == "trackio" else "'datalaw[trackers]'"
        raise UserError("tracker", name, f"is not installed: pip install {how}")
    if name == "tensorboard" and "://" in workdir:
        text = "writes to a local --workdir only; use wandb or trackio for a bucket"
        raise UserError("tracker", name, text)


def make(name: str, study: str, workdir: str) -> Listener:
    """The writer of a name in NAMES."""
    if name == "tensorboard":
        return TensorBoard(Path(workdir) / "tensorboard")
    return Wandb(name, study)


class Wandb:
    """Weights & Biases, or trackio, which takes the same calls and needs no server.

    A run that is taken up again goes on under its name.
    """

    def __init__(self, package: Literal["wandb", "trackio"] | str, project: str):
        self.package, self.project = package, project
        self._module: Any = importlib.import_module(package)
        self._runs: dict[str, Any] = {}

    def event(self, event: Event, run: Run | None) -> None:
        if event.kind == "started":
            self._finish(event.run_id)  # a try that nobody saw the end of
            self._runs[event.run_id] = self._begin(event.run_id, run)
        elif event.kind == "step" and event.run_id in self._runs:
            self._runs[event.run_id].log(_readings(event), step=event.step)
        elif event.kind == "done" and event.run_id in self._runs:
            if event.loss is not None:
                final = {"final_loss": event.loss}
                self._runs[event.run_id].log(final, step=event.step)
            self._finish(event.run_id)
        elif event.kind == "failed":
            self._finish(event.run_id, failed=True)

    def close(self) -> None:
        for run_id in list(self._runs):
            self._finish(run_id, failed=True)

    def _begin(self, run_id: str, run: Run | None) -> Any:
        words = {"project": self.project, "name": run_id, "resume": "allow"}
        config = dict(run.flat()) if run else {}
        if self.package == "wandb":  # many at once, which trackio would end
            words |= {"id": run_id, "reinit": "create_new"}
            # It would take over what this process prints.
            quiet = self._module.Settings(console="off", silent=True)
            return self._module.init(**words, config=config, settings=quiet)
        # It keeps one current run in a context variable, and ends it at the next init.
        begin = contextvars.copy_context().run
        return begin(self._module.init, **words, config=config, embed=False)

    def _finish(self, run_id: str, failed: bool = False) -> None:
        run = self._runs.pop(run_id, None)
        if run is not None and self.package == "wandb":
            run.finish(exit_code=int(failed))
        elif run is not None:
            run.finish()


class TensorBoard:
    """TensorBoard's event files, in WORKDIR/tensorboard/RUN_ID."""

    def __init__(self, folder: Path):
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.plugins.hparams import summary_v2
        from tensorboard.summary.writer import event_file_writer

        self.folder = folder
        self._event, self._summary, self._hparams = event_pb2, summary_pb2, summary_v2
        self._open = event_file_writer.EventFileWriter
        self._writers: dict[str, Any] = {}

    def event(self, event: Event, run: Run | None) -> None:
        run_id = event.run_id
        if event.kind == "started" and run_id not in self._writers:
            writer = self._open(os.fspath(self.folder / run_id))
            self._writers[run_id] = writer
            if run is not None:
                flat = {name: _plain(value) for name, value in run.flat().items()}
                self._add(writer, self._hparams.hparams_pb(flat), 0)
        elif run_id in self._writers and event.kind in ("step", "done"):
            final = {} if event.loss is None else {"final_loss": event.loss}
            readings = _readings(event) if event.kind == "step" else final
            value = self._summary.Summary.Value
            values = [value(tag=t, simple_value=v) for t, v in readings.items()]
            summary = self._summary.Summary(value=values)
            self._add(self._writers[run_id], summary, event.step)
        if event.kind in ("done", "failed") and run_id in self._writers:
            self._writers.pop(run_id).close()

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()

    def _add(self, writer: Any, summary: Any, step: int) -> None:
        now = time.time()
        writer.add_event(self._event.Event(summary=summary, step=step, wall_time=now))


def _readings(event: Event) -> dict[str, float]:
    loss = {} if event.loss is None else {"loss": event.loss}
    return loss | {"tokens_per_second": event.tokens_per_second}


def _plain(value: Any) -> Any:
    return value if isinstance(value, bool | int | float | str) else str(value)
