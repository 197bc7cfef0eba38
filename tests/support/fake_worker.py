"""A child process that trains nothing but does everything else a child does.

What becomes of a run is said by the option `act` of its model:
    ""           a record after a few steps
    diverge      a record that says so
    kill_once    killed by the kernel's SIGKILL after its first checkpoint
    kill         killed before any checkpoint, every time
    raise        an exception
    exhausted    the accelerator's way of saying that memory is short
    crowded      the same, unless the run is alone
    hog          takes memory until somebody ends it
    full         the disk is full
    user         a mistake of the user's that only the trainer sees
    slow         takes seconds, and checkpoints when asked to stop

$FAKE_AT says what goes wrong before training, such as "measure kill_once": slow, kill
or kill_once at probe, describe or measure; the file $FAKE_BEGUN shows it is there.
"""

import errno
import os
import signal
import sys
import time
from pathlib import Path

from scaling.errors import UserError
from scaling.packs import Event
from scaling.record import Reading, Record
from scaling.training import worker

STEPS = 10


def act(run):
    return dict(run.model.options).get("act", "")


def reach(phase):
    """Misbehaves where $FAKE_AT says so."""
    where, _, what = os.environ.get("FAKE_AT", "").partition(" ")
    if where != phase:
        return
    begun = Path(os.environ["FAKE_BEGUN"])
    again = begun.exists()
    begun.write_text(phase)
    while what == "slow":
        time.sleep(0.1)
    if what == "kill" or not again:
        os.kill(os.getpid(), signal.SIGKILL)


class Fake:
    def probe(self):
        reach("probe")
        return {"platform": "cpu", "devices": 2, "kind": "fake"}

    def describe(self, runs, specs):
        reach("describe")
        for run in runs:
            if run.optimiser.name != "adamw":
                raise UserError("optimiser.name", run.optimiser.name, "known: adamw")
        costs = []
        for run in runs:
            size = run.model.size
            cost = {"params_total": size, "flops": 6.0 * size * run.tokens}
            read = {"steps": run.steps, "tokens": run.tokens}
            cost["evaluation_flops"] = cost["flops"] / 4
            costs.append(cost | read | {"memory": 12 * size, "depth": 1})
        return costs

    def preflight(self, run, spec, layout, target):
        """A step that takes `size` bytes of all devices, a second of a v5e's peak."""
        with open("asked", "a") as file:
            file.write(f"{os.getpid()} {run.model.size} {target}\n")
        misbehave(act(run), None, 0)
        while act(run) == "slow":
            time.sleep(0.1)
        slots = layout.width / layout.devices
        memory, flops = run.model.size * slots, 197e12 * slots
        return {"memory": memory, "state": memory / 8, "flops": flops}

    def measure(self, run, spec, layout):
        if layout.width > 1:
            reach("measure")
        return 1e5 * min(2, layout.width)

    def train(self, pack, store, emit, stopping):
        runs = [
            (run, run_id)
            for run, run_id in zip(pack.runs, pack.run_ids, strict=True)
            if not store.exists(run_id)
        ]
        while runs and not stopping():
            now, runs = runs[: pack.layout.width], runs[pack.layout.width :]
            for _, run_id in now:
                emit(Event("started", run_id, steps=STEPS))
            for run, run_id in now:
                if not train_one(run, run_id, pack, store, emit, stopping):
                    return


def train_one(run, run_id, pack, store, emit, stopping):
    """True with a record, False where it stopped early."""
    folder = store.path("checkpoints", run_id)
    begun = max((int(p.name) for p in folder.glob("*")), default=0)
    for step in range(begun, STEPS):
        if stopping():
            (folder / str(step)).mkdir(parents=True, exist_ok=True)
            return False
        misbehave(act(run), pack, begun)
        if act(run) == "kill_once" and begun < step == 4:
            (folder / "4").mkdir(parents=True)
            os.kill(os.getpid(), signal.SIGKILL)
        if act(run) == "slow":
            store.path("begun").write_text(run_id)
            time.sleep(0.2)
        emit(
            Event(
                "step", run_id, step=step, steps=STEPS, loss=3.0, tokens_per_second=1e5
            )
        )
    finished = record(run, run_id, pack, 1 + sum(1 for _ in store.attempts(run_id)))
    store.write(finished)
    loss = finished.readings[0].value
    emit(Event("done", run_id, step=STEPS, loss=loss, status=finished.status))
    return True


def misbehave(what, pack, begun):
    slots = 1 if pack is None else max(len(pack.runs), pack.layout.width)
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "raise":
        raise RuntimeError("a bug in a family")
    if what == "exhausted" or (what == "crowded" and slots > 1):
        raise RuntimeError("RESOURCE_EXHAUSTED: out of memory allocating 1 byte")
    if what == "full":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "somewhere")
    if what == "user":
        raise UserError("model.options", "act=user", "give another act")
    while what == "hog":
        Fake.held = [*getattr(Fake, "held", []), bytearray(os.urandom(1 << 24))]
        time.sleep(0.02)


def record(run, run_id, pack, attempt):
    """A made-up record; the loss is least at a rate of 0.01."""
    diverged = act(run) == "diverge"
    loss = None if diverged else 2.0 + abs(run.optimiser.learning_rate - 0.01)
    name = run.evaluation[0].name
    return Record(
        run_id=run_id,
        status="diverged" if diverged else "done",
        run=run.flat(),
        digests={},
        trajectory=run_id,
        params_total=run.model.size,
        params_active=run.model.size,
        params_embedding=0,
        steps=run.steps,
        tokens=run.tokens,
        unique_tokens=run.unique_tokens,
        epochs=1.0,
        flops=1.0,
        flops_xla=None,
        flops_xla_reason="nothing was compiled",
        readings=(
            Reading(name, "loss", "final", loss, 0.0, "nats/token", 1, run.steps),
        ),
        artifacts=(),
        attempt=attempt,
        layout=pack.layout.to_json(),
        wall_seconds=1.0,
        finished=f"{time.time()}",
        host=f"{os.getpid()}",
        device="fake",
        versions={},
        commit="",
    )


if __name__ == "__main__":
    print("the child's own chatter", flush=True)
    worker.serve(Fake(), worker.parse(sys.argv[1:]))
