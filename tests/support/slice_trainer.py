"""One of the processes of a slice that trains a run of the tests' made text.

    python -m tests.support.slice_trainer WORKDIR DATA TEXT COORDINATOR PROCESSES RANK \
        [--stop_at STEP] [--attempt NAME] [--family NAME] [--search]

Trains as a child of the engine does, on two CPU devices in all, or one for each process
where there are more. With --stop_at it kills itself by SIGKILL once it has gone that
far. With --search it prints the layout that is chosen for two such runs instead.
"""

from __future__ import annotations

import argparse
import json
import os
import signal

from scaling.corpora import prepare, spec_of
from scaling.layout import Layout
from scaling.packs import Event, Pack
from scaling.run import Data, EvaluationSet, Model, Optimiser, Part, Run, Schedule
from scaling.scheduling import layouts
from scaling.store import Store
from scaling.training import worker

STEPS = 96


def run(text: str, family: str) -> Run:
    part = Part("files", options=(("path", text), ("unit", "line")))
    return Run(
        model=Model(family, 8_000),
        data=Data(corpus=(part,), tokens=STEPS * 4 * 16),
        optimiser=Optimiser(learning_rate=3e-3),
        schedule=Schedule(warmup_tokens=256),
        batch=4,
        length=16,
        evaluation=(EvaluationSet("made", (part,), tokens=512),),
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("workdir", "data", "text", "coordinator"):
        parser.add_argument(name)
    parser.add_argument("processes", type=int)
    parser.add_argument("rank", type=int)
    parser.add_argument("--stop_at", type=int, default=0)
    parser.add_argument("--attempt", default="")
    parser.add_argument("--family", default="lstm")
    parser.add_argument("--search", action="store_true")
    parser.add_argument("--checkpoint_seconds", type=float, default=300.0)
    given = parser.parse_args()
    os.environ["JAX_PLATFORMS"] = "cpu"
    devices = max(2, given.processes)
    together = given.coordinator, given.processes, given.rank
    worker.configure(devices // given.processes, "", *together)
    made = run(given.text, given.family)
    prepared = prepare(made.corpora(), given.data, progress=False)
    run_id = made.run_id({key: text.digest for key, text in prepared.items()})
    pack = Pack((made,), (run_id,), Layout(data=devices))
    calls = 0

    def stopping() -> bool:
        nonlocal calls
        calls += 1  # after every eight steps
        if given.stop_at and 8 * calls > given.stop_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return False

    def emit(event: Event) -> None:
        print(event.kind, event.step, flush=True)

    seconds = given.checkpoint_seconds
    trains = worker.JaxWorker(given.data, seconds, given.processes)
    if given.search:
        base, spec = Layout("tpu", data=devices), spec_of(made, prepared)
        measure = lambda layout: trains.measure(made, spec, layout)
        tried = layouts.choose(base, made.batch, 2, measure)
        print(json.dumps([[layout.to_json(), rate] for layout, rate in tried]))
        return
    trains.train(pack, Store(given.workdir, given.attempt), emit, stopping)


if __name__ == "__main__":
    main()
