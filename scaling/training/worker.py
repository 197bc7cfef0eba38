"""The child process: imports JAX once and carries out pack after pack.

Requests come as JSON lines on standard input, replies and events go as JSON lines to
the pipe named by `--replies`; standard output and error are a log file.

    {"do": "probe"}                          -> {"reply": {"platform", "devices", ...}}
    {"do": "describe", "runs": [], "specs": []}
                                             -> {"reply": [cost, ...]}
    {"do": "preflight", "run", "spec", "layout", "target"}
                                             -> {"reply": fields of estimates.Step}
    {"do": "measure", "run", "spec", "layout"}   -> {"reply": tokens per second}
    {"do": "train", "pack": {...}}           -> {"event": ...}*, {"reply": {"stopped"}}
    anything that goes wrong                 -> {"failed": {"cause", "message", ...}}

The child ends itself when its parent does.
"""

from __future__ import annotations

import argparse
import dataclasses
import errno
import json
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from scaling import corpora, plugins
from scaling.errors import DISK, UserError
from scaling.families import Spec, spec_from_json
from scaling.layout import Layout
from scaling.orphans import end_with_parent
from scaling.packs import CHECKPOINT_SECONDS, Event, Pack, pack_from_json
from scaling.run import Part, Run
from scaling.store import Store

PATIENCE = "SCALING_INITIALIZATION_SECONDS"  # for the other processes to begin

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
_DISK_WORDS = tuple(os.strerror(number) for number in _FULL)
_MEMORY_WORDS = ("RESOURCE_EXHAUSTED", "bad_alloc", "Out of memory")


class Worker(Protocol):
    """The interface of a child's request handler; `JaxWorker` trains."""

    def train(
        self,
        pack: Pack,
        store: Store,
        emit: Callable[[Event], None],
        stopping: Callable[[], bool],
    ) -> None: ...

    def describe(self, runs: list[Run], specs: list[Spec]) -> list[dict[str, Any]]: ...

    def measure(self, run: Run, spec: Spec, layout: Layout) -> float | None: ...

    def preflight(
        self, run: Run, spec: Spec, layout: Layout, target: str
    ) -> dict[str, Any]: ...

    def probe(self) -> dict[str, Any]: ...


class JaxWorker:
    """Trains with JAX. Everything heavy is imported on first use."""

    def __init__(
        self,
        data_dir: str,
        checkpoint_seconds: float = CHECKPOINT_SECONDS,
        processes: int = 1,
    ):
        """Args: processes: that train the same runs, each on devices of its own."""
        self.data_dir, self.checkpoint_seconds = data_dir, checkpoint_seconds
        self.processes = processes
        self._opened: dict[tuple[str, str, str], Any] = {}

    def _prepared(self, part: Part, tokenizer: str, digest: str) -> Any:
        key = (part.key, tokenizer, digest)
        if key not in self._opened:
            self._opened[key] = corpora.open_prepared(
                part, self.data_dir, tokenizer, digest=digest
            )
        return self._opened[key]

    def train(
        self,
        pack: Pack,
        store: Store,
        emit: Callable[[Event], None],
        stopping: Callable[[], bool],
    ) -> None:
        from scaling.training import programs, trainer

        runs, tokenizer = pack.runs, pack.runs[0].data.tokenizer
        if pack.ahead is not None and pack.ahead[0].data.tokenizer == tokenizer:
            runs = (*runs, pack.ahead[0])
        prepared = {
            part.key: self._prepared(part, tokenizer, pack.digests.get(part.key, ""))
            for run in runs
            for part in run.corpora()
        }
        if self.processes > 1:
            from scaling.training.together import Together

            store = Together(store.root, store.attempt)
        trainer.train(pack, prepared, store, emit, stopping, self.checkpoint_seconds)
        programs.give_back()

    def measure(self, run: Run, spec: Spec, layout: Layout) -> float | None:
        from scaling.training import speed

        return speed.tokens_per_second(run, layout, spec)

    def describe(self, runs: list[Run], specs: list[Spec]) -> list[dict[str, Any]]:
        """Costs, once every name that only code behind JAX knows has been checked."""
        from scaling import families, objective, optim
        from scaling.planning import cost

        described = []
        for run, spec in zip(runs, specs, strict=True):
            program = run.program()
            optim.check(program)
            objective.make(run.objective, spec)
            served = families.load(run.model.family).OBJECTIVES
            if run.objective not in served:
                raise UserError(
                    "objective",
                    run.objective,
                    f"{run.model.family} serves {', '.join(served)}",
                )
            described.append(dataclasses.asdict(cost.describe(run, spec)))
        return described

    def preflight(
        self, run: Run, spec: Spec, layout: Layout, target: str
    ) -> dict[str, Any]:
        from scaling.training import aot

        return dataclasses.asdict(aot.step(run, spec, layout, target))

    def probe(self) -> dict[str, Any]:
        import jax

        devices = jax.devices()
        return {
            "platform": jax.default_backend(),
            "devices": len(devices),
            "kind": devices[0].device_kind,
        }


def serve(worker: Worker, arguments: argparse.Namespace) -> None:
    """Answers requests until told to stop; a failure is reported and ends the child."""
    end_with_parent(arguments.parent)
    replies = os.fdopen(arguments.replies, "w", buffering=1, encoding="utf-8")
    write_lock = threading.Lock()

    def send(body: Mapping[str, Any]) -> None:
        with write_lock:
            replies.write(json.dumps(body) + "\n")
            replies.flush()

    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent passes Ctrl-C on
    for path in arguments.include:
        plugins.include(path)
    store = Store(arguments.workdir, arguments.attempt)
    with corpora.seen_from(arguments.texts):
        for request in _requests():
            try:
                send({"reply": _answer(request, worker, store, send, stop.is_set)})
            except Exception as error:
                traceback.print_exc()  # into the log, before the parent reads its tail
                sys.stderr.flush()
                send({"failed": _describe_failure(error)})
                sys.exit(1)


def _answer(
    request: Mapping[str, Any],
    worker: Worker,
    store: Store,
    send: Callable[[Mapping[str, Any]], None],
    stopping: Callable[[], bool],
) -> Any:
    if request["do"] == "probe":
        return worker.probe()
    if request["do"] == "describe":
        runs = [Run.from_json(run) for run in request["runs"]]
        specs = [spec_from_json(spec) for spec in request["specs"]]
        return worker.describe(runs, specs)
    if request["do"] == "preflight":
        return worker.preflight(*_step(request), request["target"])
    if request["do"] == "measure":
        return worker.measure(*_step(request))
    pack = pack_from_json(request["pack"])
    emit = lambda event: send({"event": dataclasses.asdict(event)})
    worker.train(pack, store, emit, stopping)
    return {"stopped": stopping()}


def _step(request: Mapping[str, Any]) -> tuple[Run, Spec, Layout]:
    """Whose training step is meant, and how it is laid out."""
    run, spec = Run.from_json(request["run"]), spec_from_json(request["spec"])
    return run, spec, Layout(**request["layout"])


def _describe_failure(error: Exception) -> dict[str, Any]:
    """The cause in the terms of an attempt; `user` and `disk` end the whole study."""
    message = f"{type(error).__name__}: {error}"
    body: dict[str, Any] = {"cause": "crash", "message": message}
    if isinstance(error, UserError):
        body["user"] = [error.field, _plain(error.value), error.expected]
    # Before memory: tensorstore says RESOURCE_EXHAUSTED of a full disk, too.
    elif getattr(error, "errno", None) in DISK or any(
        word in message for word in _DISK_WORDS
    ):
        body["disk"] = message
    elif isinstance(error, MemoryError) or any(w in message for w in _MEMORY_WORDS):
        body["cause"] = "out of memory"
    return body


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | int | float | None) else str(value)


def _requests() -> Iterator[dict[str, Any]]:
    """Requests in order. A thread reads them, and sees at once when the parent dies."""
    waiting: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()

    def read() -> None:
        rest = b""
        while chunk := os.read(0, 1 << 16):  # no buffer for the exit to wait on
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                waiting.put(json.loads(line))
        os._exit(1)  # end of input: the parent is gone

    threading.Thread(target=read, daemon=True).start()
    while (request := waiting.get())["do"] != "stop":
        yield request


def configure(
    devices: int,
    cache: str,
    coordinator: str = "",
    processes: int = 1,
    process: int = 0,
) -> None:
    """Host devices, compilation cache and other processes, before JAX is first used.

    Args:
      coordinator: HOST:PORT of the first of several processes; "" for one alone.
    """
    import jax

    # A thread that traces the next program holds the interpreter, and the one that
    # trains waits for it at every call.
    sys.setswitchinterval(0.0005)
    jax.config.update("jax_num_cpu_devices", devices)
    if coordinator:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(
            coordinator,
            processes,
            process,
            coordinator_bind_address=coordinator,
            initialization_timeout=int(os.environ.get(PATIENCE, 300)),
        )
    jax.config.update("jax_compilation_cache_dir", cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scaling.training.worker")
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--replies", type=int, required=True)
    parser.add_argument("--workdir", required=True)
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--cache", required=True)
    parser.add_argument("--include", action="append", default=[])
    parser.add_argument("--texts", default="")
    parser.add_argument("--attempt", default="")
    parser.add_argument("--coordinator", default="")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--process", type=int, default=0)
    parser.add_argument("--checkpoint_seconds", type=float, default=CHECKPOINT_SECONDS)
    return parser.parse_args(argv)


def main() -> None:
    arguments = parse(sys.argv[1:])
    together = arguments.coordinator, arguments.processes, arguments.process
    configure(arguments.devices, arguments.cache, *together)
    given = arguments.data_dir, arguments.checkpoint_seconds, arguments.processes
    serve(JaxWorker(*given), arguments)


if __name__ == "__main__":
    main()
