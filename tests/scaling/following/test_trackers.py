"""Writers for trackers, by the packages where they are installed."""

import importlib.util
import json
import os
import subprocess
import sys
import threading

import pytest

from analysis.tables import events as event_files
from scaling.errors import UserError
from scaling.following import listeners, trackers
from scaling.following.listeners import Apart, heard
from scaling.packs import Event
from tests.scaling.engines.test_engine import make_run


def told(listener):
    """Two runs at once, of which the second fails."""
    run = make_run()
    for name in "ab":
        listener.event(Event("started", name, steps=100), run)
    for step, loss in ((10, 3.0), (20, 2.5)):
        for name in "ab":
            report = {"step": step, "loss": loss, "tokens_per_second": 64.0}
            listener.event(Event("step", name, steps=100, **report), run)
    listener.event(Event("done", "a", step=100, loss=2.25, status="done"), run)
    listener.event(Event("failed", "b", cause="crash", message="signal 9"), run)
    listener.close()


def needs(name):
    missing = importlib.util.find_spec(name) is None
    return pytest.mark.skipif(missing, reason=f"{name} is not installed")


@needs("tensorboard")
def test_tensorboard_reads_what_was_written(tmp_path):
    told(trackers.make("tensorboard", "little", str(tmp_path)))
    for name, losses in (("a", [3.0, 2.5]), ("b", [3.0, 2.5])):
        place = tmp_path / "tensorboard" / name
        frame, step, settings = event_files.read(place, [place])
        rows = frame.dropna(subset="loss")
        assert list(rows.loss) == losses and list(rows[step]) == [10, 20]
        assert settings["model.family"] == "transformer"
        assert settings["model.size"] == make_run().model.size
    assert "final_loss" not in frame
    place = tmp_path / "tensorboard" / "a"
    assert event_files.read(place, [place])[0].final_loss.dropna().tolist() == [2.25]


TOLD = (
    "import sys; from tests.scaling.following.test_trackers import told;"
    "from scaling.following import trackers;"
    "told(trackers.make(sys.argv[1], 'little', sys.argv[2]))"
)


def told_apart(name, folder, **environment):
    """In a process of its own, since the packages read their settings at import."""
    changed = {**os.environ, "PYTHONPATH": os.getcwd(), **environment}
    command = [sys.executable, "-c", TOLD, name, str(folder)]
    done = subprocess.run(
        command, env=changed, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr


@needs("trackio")
@pytest.mark.slow  # its import alone takes seconds
def test_trackio_has_what_was_logged(tmp_path):
    told_apart("trackio", tmp_path, TRACKIO_DIR=str(tmp_path))
    read = (
        "import json; from trackio.sqlite_storage import SQLiteStorage as s;"
        "print(json.dumps([s.get_logs('little', run) for run in 'ab']))"
    )
    changed = {**os.environ, "TRACKIO_DIR": str(tmp_path)}
    said = subprocess.check_output([sys.executable, "-c", read], env=changed, text=True)
    a, b = json.loads(said.splitlines()[-1])
    for logs in (a, b):
        losses = {log["step"]: log["loss"] for log in logs if "loss" in log}
        assert losses == {10: 3.0, 20: 2.5}
    assert [log["final_loss"] for log in a if "final_loss" in log] == [2.25]


@needs("wandb")
@pytest.mark.slow
def test_wandb_writes_a_run_each_without_a_server(tmp_path):
    told_apart("wandb", tmp_path, WANDB_MODE="offline", WANDB_DIR=str(tmp_path))
    written = sorted(path.name[-1] for path in tmp_path.glob("wandb/offline-run-*"))
    assert written == ["a", "b"]


class Raises:
    def __init__(self, error, at=1):
        self.error, self.at = error, at
        self.closed = False

    def event(self, event, run):
        self.at -= 1
        if self.at == 0:
            raise self.error

    def close(self):
        self.closed = True


@pytest.mark.parametrize(
    "error", [RuntimeError("no network\nmore"), SystemExit("not logged in"), KeyError()]
)
def test_a_writer_that_fails_is_told_no_more_and_stops_nothing(error):
    said, seen = [], []
    writer = Apart("wandb", lambda: Raises(error), said.append)
    with heard(seen.append, lambda run_id: None, [writer]) as tell:
        for name in "abc":
            tell(Event("started", name))
    assert [event.run_id for event in seen] == ["a", "b", "c"]
    assert all(event.host for event in seen)
    (line,) = said
    assert line.startswith("wandb is told no more, the study goes on: ")
    assert line.count("\n") == 0


def test_a_writer_that_cannot_begin_and_one_that_hangs(monkeypatch):
    monkeypatch.setattr(listeners, "WAITING", 2)
    monkeypatch.setattr(listeners, "CLOSE_SECONDS", 0.1)
    said = []

    def fails():
        raise ImportError("broken installation")

    held = threading.Event()

    class Hangs(Raises):
        def event(self, event, run):
            held.wait()

    for make in (fails, lambda: Hangs(None)):
        writer = Apart("wandb", make, said.append)
        for _ in range(20):
            writer.event(Event("started", "a"), None)
        writer.close()
    held.set()
    assert "broken installation" in said[0]
    assert "2 events wait for it" in said[1] and len(said) == 2


def test_what_cannot_be_written_is_refused_before_anything_is_trained(monkeypatch):
    with pytest.raises(UserError, match="local --workdir"):
        trackers.check("tensorboard", "gs://bucket/x")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"datalaw\[trackers\]"):
        trackers.check("wandb", "x")
