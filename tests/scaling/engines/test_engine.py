"""The local engine: real child processes, real kills and a real memory limit."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scaling.engines import local
from scaling.engines.child import Settings
from scaling.engines.local import Local
from scaling.engines.stop import Stop
from scaling.errors import UserError
from scaling.layout import Layout
from scaling.packs import Pack, pack_from_json, pack_to_json
from scaling.run import Data, EvaluationSet, Model, Optimiser, Part, Run, options
from scaling.store import Store
from scaling.training import worker

SUPPORT = Path(__file__).parents[2] / "support"


def make_run(act="", rate=0.01):
    return Run(
        model=Model("transformer", 8_000, options=options(act=act)),
        data=Data((Part("kjv"),), 1024),
        optimiser=Optimiser(rate),
        batch=4,
        length=8,
        evaluation=(EvaluationSet("kjv", (Part("kjv"),)),),
    )


def make_pack(*acts, width=1):
    runs = tuple(make_run(act, 0.01 * (i + 1)) for i, act in enumerate(acts))
    ids = tuple(run.run_id({"kjv": "d"}) for run in runs)
    return Pack(runs, ids, Layout(width=width))


@pytest.fixture
def settings(monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONPATH", str(SUPPORT))
    return Settings(str(tmp_path), str(tmp_path), worker="fake_worker")


def train(settings, workdir, *packs):
    store, events = Store(workdir), []
    with Local(settings, store, Stop()) as engine:
        engine.run(packs, store, events.append)
    return store, events


def hosts(store):
    """The children that wrote the records: the fake puts its process id there."""
    return {record.host for record in store.records()[0]}


def test_one_child_carries_out_pack_after_pack(settings, tmp_path):
    store, events = train(settings, tmp_path, make_pack(""), make_pack("", "diverge"))
    done = [event.run_id for event in events if event.kind == "done"]
    assert len(done) == 3 and len(set(done)) == 2  # one of them is in both packs
    assert {record.status for record in store.records()[0]} == {"done", "diverged"}
    assert len(hosts(store)) == 1


def test_a_runs_with_a_record_is_not_trained_again(settings, tmp_path):
    store, _ = train(settings, tmp_path, make_pack(""))
    before = store.records()[0]
    store, events = train(settings, tmp_path, make_pack(""))
    assert [event.kind for event in events] == ["done"]
    assert store.records()[0] == before


def test_a_killed_child_is_a_crash_and_the_next_pack_goes_on(settings, tmp_path):
    bad, good = make_pack("kill"), make_pack("", "")
    store, events = train(settings, tmp_path, bad, good)
    (attempt,) = store.attempts(bad.run_ids[0])
    assert attempt.cause == "crash" and "signal 9" in attempt.message
    assert "own chatter" in attempt.log_tail
    assert [event.run_id for event in events if event.kind == "failed"] == [
        bad.run_ids[0]
    ]
    assert all(store.exists(run_id) for run_id in good.run_ids)


def test_an_exception_is_a_crash_with_its_traceback(settings, tmp_path):
    store, _ = train(settings, tmp_path, make_pack("raise"))
    (attempt,) = store.attempts()
    assert attempt.message == "RuntimeError: a bug in a family"
    assert "Traceback" in attempt.log_tail and "fake_worker.py" in attempt.log_tail


def test_runs_that_were_not_begun_are_not_at_fault(settings, tmp_path):
    pack = make_pack("", "raise", "")
    store, _ = train(settings, tmp_path, pack)
    assert store.exists(pack.run_ids[0]) and not store.exists(pack.run_ids[2])
    assert [a.run_id for a in store.attempts()] == [pack.run_ids[1]]


def test_an_attempt_keeps_the_step_of_the_checkpoint(settings, tmp_path):
    store, _ = train(settings, tmp_path, make_pack("kill_once"))
    (attempt,) = store.attempts()
    assert attempt.step == 4
    store, _ = train(settings, tmp_path, make_pack("kill_once"))
    (record,) = store.records()[0]
    assert record.attempt == 2


def test_the_memory_limit_is_real(settings, tmp_path):
    limited = dataclasses.replace(settings, memory_limit_gb=0.3)
    store, _ = train(limited, tmp_path, make_pack("hog"))
    (attempt,) = store.attempts()
    assert attempt.cause == "out of memory"
    assert "above the limit of 0.3 GB" in attempt.message


def test_an_exhausted_accelerator_is_out_of_memory(settings, tmp_path):
    store, _ = train(settings, tmp_path, make_pack("exhausted"))
    (attempt,) = store.attempts()
    assert attempt.cause == "out of memory" and attempt.together == 1


@pytest.mark.parametrize(
    ("act", "says"), [("full", "No space left"), ("user", "give another act")]
)
def test_what_the_user_must_put_right_ends_the_study(settings, tmp_path, act, says):
    with pytest.raises(UserError, match=says):
        train(settings, tmp_path, make_pack(act))
    assert list(Store(tmp_path).attempts()) == []


@pytest.mark.parametrize(("cores", "children"), [(1, 2), (2, 1)])
def test_the_child_is_replaced_when_the_layout_wants_more_devices(
    settings, tmp_path, monkeypatch, cores, children
):
    monkeypatch.setattr(local, "cores", lambda: cores)
    one, two = make_pack(""), make_pack("", "")
    two = Pack(two.runs[1:], two.run_ids[1:], Layout(run=2, width=2))
    store, _ = train(settings, tmp_path, one, two)
    assert len(hosts(store)) == children


def test_a_stop_is_passed_on_and_the_child_checkpoints(settings, tmp_path):
    store, events = Store(tmp_path), []
    pack = make_pack("slow")
    with Stop() as stop, Local(settings, store, stop) as engine:

        def watch(event):
            events.append(event)
            if event.kind == "step" and not stop:  # a second asks to stop at once
                os.kill(os.getpid(), signal.SIGTERM)

        engine.run([pack, make_pack("", "")], store, watch)
        assert stop.signal == signal.SIGTERM
    (attempt,) = store.attempts()
    assert attempt.cause == "preemption" and attempt.step >= 1
    assert not any(store.records())


def test_a_second_stop_does_not_wait(settings, tmp_path):
    store = Store(tmp_path)
    with Stop() as stop, Local(settings, store, stop) as engine:

        def watch(event):
            if event.kind == "step":
                os.kill(os.getpid(), signal.SIGINT)
                os.kill(os.getpid(), signal.SIGINT)

        engine.run([make_pack("slow")], store, watch)
        assert stop.now
    (attempt,) = store.attempts()
    assert attempt.message == "stopped before a checkpoint"


def test_a_preempted_child_is_told_from_a_crashed_one(settings, tmp_path):
    store, pack = Store(tmp_path), make_pack("slow")
    with Stop() as stop, Local(settings, store, stop) as engine:

        def watch(event):
            if event.kind == "step" and event.step == 1:
                os.kill(engine._child.process.pid, signal.SIGTERM)

        engine.run([pack], store, watch)
    (attempt,) = store.attempts()
    assert attempt.cause == "preemption" and attempt.step >= 1


def test_a_child_ends_when_its_parent_is_killed(settings, tmp_path):
    pack = json.dumps(pack_to_json(make_pack("slow")))
    script = f"""
import json, sys
sys.path.insert(0, {str(SUPPORT)!r})
from scaling.engines.child import Settings
from scaling.engines.local import Local
from scaling.engines.stop import Stop
from scaling.packs import pack_from_json
from scaling.store import Store
store = Store({str(tmp_path)!r})
engine = Local(Settings(".", ".", worker="fake_worker"), store, Stop())
show = lambda event: print(engine._child.process.pid, flush=True)
engine.run([pack_from_json(json.loads({pack!r}))], store, show)
"""
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    child = int(parent.stdout.readline())
    assert is_alive(child)
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 5
    while is_alive(child):
        assert time.monotonic() < deadline, "the child outlived its parent"
        time.sleep(0.05)
    parent.stdout.close()


def test_the_end_of_input_ends_a_child_too(settings, tmp_path):
    """Where the kernel does not tell: the pipe from the parent does."""
    replies, write_end = os.pipe()
    flags = ["--workdir", str(tmp_path), "--data_dir", ".", "--cache", "."]
    flags += ["--parent", str(os.getpid()), "--replies", str(write_end)]
    child = subprocess.Popen(
        [sys.executable, "-m", "fake_worker", *flags],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        pass_fds=(write_end,),
    )
    pack = pack_to_json(make_pack("slow"))
    request = json.dumps({"do": "train", "pack": pack}).encode()
    child.stdin.write(request + b"\n")
    child.stdin.flush()
    assert os.read(replies, 1)  # it trains
    child.stdin.close()
    assert child.wait(timeout=5) == 1
    os.close(replies)
    os.close(write_end)


def is_alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def test_a_pack_survives_the_wire():
    pack = make_pack("", "slow")
    following = dataclasses.replace(pack, ahead=(make_run("next"), Layout(width=3)))
    for sent in (pack, following):
        assert pack_from_json(json.loads(json.dumps(pack_to_json(sent)))) == sent


def test_a_request_is_not_lost_when_the_child_is_dead(settings, tmp_path):
    store = Store(tmp_path)
    with Local(settings, store, Stop()) as engine:
        engine.run([make_pack("", "")], store, lambda event: None)
        engine._child.process.kill()
        engine._child.process.wait()
        engine.run([make_pack("raise")], store, lambda event: None)
        (attempt,) = store.attempts()
        assert attempt.cause == "crash" and "signal 9" in attempt.message


def test_a_full_disk_under_a_checkpoint_is_no_lack_of_memory():
    """tensorstore has one code for both."""
    said = "RESOURCE_EXHAUSTED: Error writing x: No space left on device"
    assert "disk" in worker._describe_failure(ValueError(said))
    body = worker._describe_failure(RuntimeError("RESOURCE_EXHAUSTED: allocating"))
    assert body["cause"] == "out of memory" and "disk" not in body
