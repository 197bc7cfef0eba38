"""The journal of a study, what is read of it, and the live page."""

import contextlib
import dataclasses
import json
import socket
import threading
import urllib.error
import urllib.request

import pytest

from scaling import main
from scaling.errors import UserError
from scaling.following import journal
from scaling.following.journal import Journal
from scaling.packs import Event
from scaling.record import Attempt
from scaling.run import Model
from scaling.store import Store
from scaling.watching import server
from scaling.watching.state import State
from tests.scaling.engines.test_engine import make_pack, make_run
from tests.support import browser, fake_worker


def study(folder, runs):
    """A workdir whose study has these runs by id."""
    store = Store(folder)
    planned = {name: run.to_json() for name, run in runs.items()}
    body = {"runs": list(planned), "planned": planned, "provisional": 0}
    store.write_study("little", body)
    return store


class Clock:
    """Time as the test says."""

    def __init__(self, monkeypatch):
        self.now = 1000.0
        monkeypatch.setattr(journal.time, "time", lambda: self.now)
        monkeypatch.setattr(journal.time, "monotonic", lambda: self.now)


def started(name, host="a", step=0):
    return Event("started", name, step=step, steps=100, host=host)


def at(name, step, loss=2.0, rate=500.0):
    step = {"step": step, "steps": 100, "loss": loss, "tokens_per_second": rate}
    return Event("step", name, **step)


def test_what_the_journal_says_is_what_the_page_is_told(tmp_path, monkeypatch):
    clock = Clock(monkeypatch)
    store = study(tmp_path, {name: make_run(rate=0.1) for name in "wxyz"})
    state = State(str(tmp_path))
    written = Journal(store, lambda: 7200.0)
    for event, now in (
        (started("w"), 1000),
        (started("x"), 1000),
        (started("y", "b"), 1000),
        (at("w", 50), 1900),
        (at("x", 20, rate=700.0), 1900),
        (Event("done", "w", step=100, status="done", loss=1.5), 2800),
        (Event("failed", "x", cause="crash", message="signal 9"), 2800),
    ):
        clock.now = now
        written.event(event, None)
    clock.now = 2810
    written.event(at("y", 60, rate=300.0), None)
    state.update()
    body = state.since(0)
    runs = body["runs"]
    assert [runs[n]["state"] for n in "wxyz"] == [
        "done",
        "failed",
        "running",
        "waiting",
    ]
    assert runs["w"]["curve"] == [(50, 2.0)] and runs["w"]["loss"] == 1.5
    assert runs["x"]["why"] == "crash: signal 9"
    a, b = sorted(body["machines"], key=lambda host: host["name"])
    # Both runs of a are one machine's work for half an hour.
    assert (a["name"], a["running"], a["hours"]) == ("a", 0, 0.5)
    assert b["hours"] == pytest.approx(1810 / 3600) and b["rate"] == 300.0
    assert body["hours_left"] == 2.0 and body["seconds_left"] == 7200.0
    assert body["rate"] == 300.0 and body["counts"]["running"] == 1
    # Afterwards only what is new is told, and a line is read once.
    clock.now = 2820
    written.event(Event("done", "y", step=100, status="diverged"), None)
    state.update()
    news = state.since(body["number"])
    assert list(news["runs"]) == ["y"] and news["runs"]["y"]["state"] == "diverged"
    assert sum(state._offsets.values()) == sum(
        path.stat().st_size for path in (tmp_path / "progress").iterdir()
    )


def test_a_curve_has_few_points_however_often_a_run_reports(tmp_path):
    store = study(tmp_path, {"w": make_run()})
    written = Journal(store, lambda: None)
    written.event(started("w"), None)
    for step in range(1, 10_000):
        written.event(dataclasses.replace(at("w", step), steps=10_000), None)
    written.close()
    state = State(str(tmp_path))
    state.update()
    assert journal.POINTS - 2 <= len(state.runs["w"].curve) <= journal.POINTS
    assert state.runs["w"].state == "waiting"  # nobody trains it any more


def test_a_command_that_was_killed_leaves_no_run_that_trains(tmp_path, monkeypatch):
    clock = Clock(monkeypatch)
    store = study(tmp_path, {"w": make_run()})
    first = Journal(store, lambda: None)
    clock.now = 1002
    first.event(started("w"), None)
    clock.now = 5000
    again = Journal(store, lambda: None)
    again.note("measuring")
    again.event(started("w", "b", step=40), None)
    clock.now = 5010
    again.event(at("w", 60), None)
    state = State(str(tmp_path))
    state.update()
    assert state.runs["w"].host == "b" and state.hosts["a"].running == set()
    assert state.hosts["a"].busy == 0.0  # nobody saw for how long it trained
    assert [line for _, line in state.notes] == ["measuring"]


def test_records_and_attempts_count_without_a_journal(tmp_path):
    store = study(tmp_path, {"w": make_run(), "x": make_run(rate=0.2), "y": make_run()})
    pack = make_pack("")
    store.write(fake_worker.record(pack.runs[0], "w", pack, 1))
    store.add_attempt(Attempt("x", 1, "crash", "signal 9", "", "", "", step=3))
    (tmp_path / "progress").mkdir()
    (tmp_path / "progress" / "1.jsonl").write_text('{"t": 1, "kind": "don\nnull\n')
    state = State(str(tmp_path))
    state.update()
    states = {name: run.state for name, run in state.runs.items()}
    assert states == {"w": "done", "x": "failed", "y": "waiting"}
    assert state.runs["x"].why == "crash: signal 9" and state.since(0)["heard"] is None


def test_a_disk_that_is_full_ends_the_journal_and_nothing_else(tmp_path):
    store = study(tmp_path, {"w": make_run()})
    (tmp_path / "progress").write_text("a file in the way")
    said = []
    written = Journal(store, lambda: None, said.append)
    written.event(started("w"), None)
    written.close()
    assert len(said) == 1 and "the study goes on" in said[0]


@contextlib.contextmanager
def served(workdir):
    with server.server(str(workdir), 0) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{serving.server_port}"
        serving.shutdown()


def asked(address, **headers):
    request = urllib.request.Request(address, headers=headers)
    with urllib.request.urlopen(request, timeout=30) as reply:
        return reply.read()


def test_the_page_is_served_to_this_machine_alone(tmp_path):
    study(tmp_path, {"w": make_run()})
    with served(tmp_path) as address:
        assert b"Training loss" in asked(address)
        body = json.loads(asked(f"{address}/state?after=0"))
        assert body["counts"]["waiting"] == 1 and list(body["runs"]) == ["w"]
        assert (
            json.loads(asked(f"{address}/state?after={body['number']}"))["runs"] == {}
        )
        for path, headers in (("/etc", {}), ("/state", {"Host": "elsewhere.com:80"})):
            with pytest.raises(urllib.error.HTTPError):
                asked(address + path, **headers)


def test_what_cannot_be_watched_is_said_in_one_line(tmp_path, capsys):
    def said(*words):
        code = main.main(main.parse(["scaling", "watch", *map(str, words)]))
        return code, capsys.readouterr().err

    code, text = said(tmp_path)
    assert code == 2 and "no study was run there" in text and text.count("\n") == 1
    study(tmp_path, {"w": make_run()})
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, text = said(tmp_path, "--port", port)
    assert code == 2 and f"{port}: is in use" in text and text.count("\n") == 1
    with pytest.raises(UserError, match="65535"):
        server.server(str(tmp_path), 70_000)


def large(folder, runs=2000):
    """A study that is half done, with 2,000 runs of four families on ten machines."""
    families = ("transformer", "lstm", "convolution", "mamba2")
    each = {
        f"{i:016x}": dataclasses.replace(
            make_run(rate=0.001 + i / runs), model=Model(families[i % 4], 8_000 + i)
        )
        for i in range(runs)
    }
    store = study(folder, each)
    written = Journal(store, lambda: 36_000.0)
    for i, name in enumerate(each):
        if i > 0.75 * runs:
            break
        written.event(started(name, f"worker-{i % 10}"), None)
        for step in range(4, 101, 4):
            loss = 5.5 * step ** -(0.2 + 0.05 * (i % 4)) + 0.2 * (i % 7) / 7
            written.event(at(name, step, loss, 4e6 + i), None)
            if i % 50 == 0 and step == 48:
                written.event(Event("failed", name, cause="lost", message="gone"), None)
                break
        else:
            if i < 0.7 * runs:
                end = {"step": 100, "status": "done" if i % 31 else "diverged"}
                written.event(Event("done", name, **end, loss=1.0), None)
    written.note("worker-3 is lost: it does not answer any more")
    written._write()


@pytest.mark.slow
@pytest.mark.skipif(browser.BROWSER is None, reason="no Chromium is installed")
def test_two_thousand_runs_in_the_browser(tmp_path):
    large(tmp_path)
    with served(tmp_path) as address:
        shown, console = browser.visited(address)
    assert not console
    assert shown.count("<path") == 1501 and "of 2000" in shown
    assert "worker-3 is lost" in shown and "lost: gone" in shown
    assert "and 58 more" in shown  # of the runs that train
