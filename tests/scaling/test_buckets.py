"""Workdirs in a bucket, by the real commands, against an emulator on loopback."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading

import pytest
from etils import epath

from launch import bucket as launched
from launch.machines import Lost
from scaling import record, writing
from scaling import store as stores
from scaling.errors import UserError
from scaling.following import journal
from scaling.scheduling import lock
from tests.scaling.engines.test_engine import make_pack
from tests.scaling.test_damaged_workdir import CURVE
from tests.scaling.test_resume import wait_for
from tests.support import fake_worker, faulty_http, gcs, real_studies

FLAGS = ("--layout", "run=1,width=1")
STEPS = 1_500

pytestmark = pytest.mark.skipif(bool(gcs.missing()), reason=gcs.missing())


@pytest.fixture(scope="module")
def bucket():
    with gcs.emulator() as address:
        yield address


def checkpoints(workdir):
    """The signed checkpoints of a workdir, by their names in it."""
    names = [n for n in gcs.names(workdir) if n.startswith("checkpoints/")]
    return [n for n in names if n.endswith("/manifest.json")]


def analysed(*arguments, cwd):
    script = "from analysis.main import entry; entry()"
    return subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=cwd,
        env=real_studies.environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )


def killed_then_started_twice(bucket, tmp_path):
    """A study killed at its first checkpoint goes on in one of two starts.

    Returns its workdir, and the study and data as arguments of the command.
    """
    text = real_studies.write_text(tmp_path / "text")
    study = real_studies.write_study(tmp_path / "little.py", text, steps=STEPS)
    workdir = f"{bucket}/{tmp_path.name}/one of these"
    arguments = ("run", study, "--data_dir", tmp_path / "data", *FLAGS, "--workdir")

    often = ("--checkpoint_seconds", "0.2")
    killed = real_studies.start(*arguments, workdir, *often, cwd=tmp_path)
    wait_for(lambda: checkpoints(workdir) or killed.poll() is not None, 300)
    killed.send_signal(signal.SIGKILL)
    said, _ = killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL, said
    step = max(int(name.split("/")[-2]) for name in checkpoints(workdir))
    assert 0 < step < STEPS

    # The lock of the killed one is no hindrance; of two starts one gets it.
    both = [real_studies.start(*arguments, workdir, cwd=tmp_path) for _ in range(2)]
    ends = sorted((p.communicate(timeout=200)[0], p.returncode) for p in both)
    (won,) = [said for said, code in ends if code == 0]
    (lost,) = [said for said, code in ends if code == 2]
    assert "1 of 1 runs are done" in won and "is running a study there" in lost
    assert "Traceback" not in won + lost
    assert not checkpoints(workdir)
    return workdir, arguments


@pytest.mark.slow
def test_a_study_in_a_bucket_survives_a_kill_and_is_run_by_one_of_two(bucket, tmp_path):
    workdir, _ = killed_then_started_twice(bucket, tmp_path)
    code, said = real_studies.run("status", workdir, cwd=tmp_path)
    assert (code, said) == (0, "little: 1 done, 0 diverged, 0 missing\n")


@pytest.mark.slow  # three more trainings than the one above
def test_a_study_killed_in_a_bucket_ends_in_the_bits_of_one_on_disk(bucket, tmp_path):
    workdir, arguments = killed_then_started_twice(bucket, tmp_path)
    code, said = real_studies.run(*arguments, tmp_path / "straight", cwd=tmp_path)
    assert code == 0, said
    (straight,) = real_studies.substances(tmp_path / "straight")
    (name,) = [n for n in gcs.names(workdir) if n.startswith("records/")]
    body = json.loads(gcs.read(f"{workdir}/{name}"))
    assert record.substance(record.Record.from_json(body)) == straight


def test_a_workdir_in_a_bucket_is_reported_into_the_bucket(bucket, tmp_path):
    workdir = f"{bucket}/reported"
    store = stores.Store(workdir)
    pack = make_pack("")
    (run,), (run_id,) = pack.runs, pack.run_ids
    curve = store.write_artifact(run_id, "loss_curve.npz", CURVE)
    made = fake_worker.record(run, run_id, pack, 1)
    digests = {part.key: "d" for part in run.corpora()}
    store.write(dataclasses.replace(made, artifacts=(curve,), digests=digests))
    store.write_study("little", {"runs": [run_id], "planned": {}, "provisional": 0})
    report = analysed("report", workdir, cwd=tmp_path)
    assert report.returncode == 3, report.stderr
    assert (
        "Of 1 usable rows scored on" in report.stdout
        and "Traceback" not in report.stderr
    )
    assert "Cache" not in report.stderr  # what gcsfs logs is not for the user
    assert {"report.html", "report.json"} <= set(gcs.names(f"{workdir}/report"))
    assert gcs.read(f"{workdir}/report/report.html").startswith(b"<!")


def test_an_object_is_made_once_by_one_of_many(bucket):
    for name in ("a", "b", "c"):
        path = stores.Store(f"{bucket}/once").path("records", f"{name}.json")
        made: dict[int, bool] = {}

        def write(i, path=path, made=made):
            made[i] = writing.write_once(path, str(i).encode())

        threads = [threading.Thread(target=write, args=(i,)) for i in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (winner,) = [i for i, won in made.items() if won]
        assert len(made) == 12 and path.read_text() == str(winner)


THROUGH_FAULTS = """
import asyncio, json, sys
import gcsfs.retry
from scaling import writing
from scaling.record import Attempt
from scaling.scheduling.lock import locked
from scaling.store import Store

real = asyncio.sleep
gcsfs.retry.asyncio.sleep = lambda seconds: real(min(seconds, 0.01))
store = Store(sys.argv[1])
once = lambda name, data: writing.write_once(store.path("once", name), data)
made = [once(f"{i}.json", b"mine") for i in range(4)]
made.append(once("0.json", b"of another"))
for i in range(3):
    store.add_attempt(Attempt("a", 1, "crash", f"attempt {i}", "", "", ""))
for _ in range(2):
    with locked(sys.argv[1]):
        pass
messages = [attempt.message for attempt in store.attempts("a")]
print(json.dumps([made, messages, store.path("once", "0.json").read_text()]))
"""


def test_answers_that_are_refused_or_lost_change_nothing(bucket):
    """A third of the requests gets a 503, a fourth is carried out and gets one."""
    behind = os.environ["STORAGE_EMULATOR_HOST"]
    with faulty_http.proxy(behind, before=3, after=4) as (url, counts):
        done = subprocess.run(
            [sys.executable, "-c", THROUGH_FAULTS, f"{bucket}/faults"],
            env=real_studies.environment(STORAGE_EMULATOR_HOST=url),
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert done.returncode == 0, done.stderr
    made, messages, first = json.loads(done.stdout)
    assert made == [True] * 4 + [False] and first == "mine"
    assert messages == ["attempt 0", "attempt 1", "attempt 2"]
    assert counts["refused"] > 10 and counts["lost"] > 5
    locks = [n for n in gcs.names(f"{bucket}/faults") if n.startswith("lock/")]
    assert locks == ["lock/000001.json", "lock/000002.json"]


@pytest.mark.slow
def test_a_killed_save_costs_an_attempt_and_what_is_there_is_not_repeated(
    bucket, tmp_path
):
    """The child dies between the files of its first checkpoint and their manifest."""
    text = real_studies.write_text(tmp_path / "text")
    study = real_studies.write_study(tmp_path / "little.py", text, steps=STEPS)
    arguments = ("run", study, "--data_dir", tmp_path / "data", *FLAGS)
    arguments += ("--checkpoint_seconds", "0.5", "--workdir")
    workdir = f"{bucket}/{tmp_path.name}"
    fault = tmp_path / "faults" / "child: checkpoint without manifest"
    fault.parent.mkdir()
    fault.touch()
    faults = {"SCALING_CHAOS": str(fault.parent)}
    process = real_studies.start(*arguments, workdir, cwd=tmp_path, **faults)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0 and "1 of 1 runs are done" in said, said
    assert not fault.exists()
    (attempt,) = stores.Store(workdir).attempts()
    assert attempt.cause == "crash" and "signal 9" in attempt.message
    kept = lambda: {
        name: version
        for name, version in gcs.versions(workdir).items()
        if {"records", "artifacts", "attempts"} & set(name.split("/"))
    }
    before = kept()
    code, said = real_studies.run(*arguments, workdir, cwd=tmp_path)
    assert code == 0 and "1 of 1 runs are done" in said, said
    assert kept() == before
    code, said = real_studies.run(*arguments, tmp_path / "straight", cwd=tmp_path)
    assert code == 0, said
    (straight,) = real_studies.substances(tmp_path / "straight")
    (name,) = [n for n in gcs.names(workdir) if n.startswith("records/")]
    body = json.loads(gcs.read(f"{workdir}/{name}"))
    assert record.substance(record.Record.from_json(body)) == straight


def test_what_another_process_writes_is_seen(bucket):
    store = stores.Store(f"{bucket}/seen")
    writing.write_once(store.path("records", "a.json"), b"{}")
    assert len(store.records()[1]) == 1 and not store.exists("b")
    elsewhere = (
        "from scaling.store import Store; from scaling.writing import write_once;"
        f"write_once(Store('{bucket}/seen').path('records', 'b.json'), b'{{}}')"
    )
    subprocess.run([sys.executable, "-c", elsewhere], check=True, timeout=60)
    assert store.exists("b") and len(store.records()[1]) == 2


def test_a_lock_of_another_machine_holds_until_it_is_stale(bucket, monkeypatch):
    workdir = f"{bucket}/held"
    mine = stores.Store(workdir).path("lock", "000001.json")
    body = {"host": "elsewhere", "pid": 7, "start": "", "free": False}
    writing.write_atomic(mine, json.dumps(body).encode())
    with pytest.raises(UserError, match="process 7 of elsewhere"), lock.locked(workdir):
        pass
    monkeypatch.setattr(lock, "STALE_SECONDS", -1.0)
    with lock.locked(workdir):
        monkeypatch.setattr(lock, "STALE_SECONDS", 120.0)
        with pytest.raises(UserError, match="is running"), lock.locked(workdir):
            pass
    with lock.locked(workdir):
        names = gcs.names(f"{workdir}/lock")
    assert names == ["000001.json", "000002.json", "000003.json"]


@pytest.mark.parametrize("address", ["memory://x", "file:///x", "gs://", "gs://b/[x]"])
def test_an_address_that_no_workdir_can_be_at_is_refused_in_one_line(address, tmp_path):
    code, said = real_studies.run("status", address, cwd=tmp_path)
    assert code == 2 and len(said.splitlines()) == 1 and address in said, said
    assert "gs://" in said.partition("invalid workdir ")[2].partition(": ")[2]


def test_a_bucket_that_is_not_there_is_named_in_one_line(bucket, tmp_path):
    (tmp_path / "source").write_bytes(b"source")
    folder = launched.Folder("gs://nobodys-bucket/mine/launch/mine")
    with pytest.raises(UserError, match="there is no such bucket; make it first"):
        folder.publish(tmp_path / "source")


def busy():
    """What gcsfs raises after it has tried six times."""
    from gcsfs.retry import HttpError

    return HttpError({"code": 503, "message": "busy"})


class Busy:
    def __truediv__(self, name):
        return self

    def exists(self, *_, **__):
        raise busy()

    unlink = glob = exists


def test_a_launcher_takes_a_bucket_that_does_not_answer_for_a_lost_reply(tmp_path):
    folder = launched.Folder(str(tmp_path))
    folder._path = Busy()
    for look in (folder.ended, folder.failures, folder.begin, folder.remove):
        with pytest.raises(Lost, match="cannot be used: busy, 503"):
            look()


def test_a_lock_and_a_journal_outlive_a_bucket_that_does_not_answer(
    tmp_path, monkeypatch
):
    beats, ended = [], threading.Event()

    def write(path, data):
        beats.append(path)
        if len(beats) == 2:
            ended.set()
        raise busy()

    monkeypatch.setattr(lock, "write_atomic", write)
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.01)
    lock._beat(epath.Path(tmp_path / "000001.json"), ended)
    assert len(beats) == 2
    monkeypatch.setattr(journal, "write_atomic", write)
    notes = []
    journal.Journal(stores.Store("gs://bucket/w"), lambda: None, notes.append).close()
    assert notes == ["the journal is written no more, the study goes on: busy, 503"]
