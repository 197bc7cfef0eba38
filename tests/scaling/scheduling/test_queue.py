"""Packing, order and retries, without processes."""

import dataclasses
import io
import types

import pytest

from scaling.errors import UserError, disk_errors
from scaling.layout import Layout
from scaling.packs import Event, Machine, Place
from scaling.record import Attempt
from scaling.run import Model
from scaling.scheduling import progress
from scaling.scheduling.lock import locked
from scaling.scheduling.queue import Queue, at_once, halve
from scaling.scheduling.study_plan import Entry
from scaling.store import Store
from tests.scaling.engines.test_engine import make_pack, make_run


class Plan:
    """Runs by name; `done` grows as the test says."""

    def __init__(self, tmp_path, runs):
        self.store = Store(tmp_path)
        fixed = Layout(run=2, width=2)
        self.here = Machine("cpu", 2, "cpu")
        self.layouts = types.SimpleNamespace(
            of=lambda run, *runs: fixed,
            known=lambda run: fixed,
            kept=lambda run: fixed,
            key=lambda run: "all",
        )
        self.progress = progress.Progress(io.StringIO())
        self.planned, self.done = runs, set()
        self.settled = False

    def layouts_of(self, machine):
        return self.layouts

    def digests(self, run):
        return {part.key: "d" for part in run.corpora()}

    def remember(self):
        return [
            Entry(
                run,
                name,
                "done" if name in self.done else "left",
                {"flops": float(run.model.size * run.tokens)},
                1.0,
            )
            for name, run in self.planned.items()
        ]


def sized(size, rate=0.01):
    run = make_run(rate=rate)
    return dataclasses.replace(run, model=Model("transformer", size))


def carry_out(plan, queue, fails):
    """The packs handed out, where run `name` fails with the causes `fails[name]`."""
    packs = []
    for pack in queue:
        packs.append(pack)
        assert len(packs) < 50, "it never ends"
        for name in pack.run_ids:
            if fails.get(name):
                cause, step = fails[name].pop(0)
                queue.note(Event("failed", name, step=step, cause=cause))
            else:
                plan.done.add(name)
    return [pack.run_ids for pack in packs]


def test_runs_of_one_program_make_a_pack_and_the_largest_goes_first(tmp_path):
    runs = {"a": sized(1), "b": sized(9), "c": sized(1, 0.02), "d": sized(5)}
    plan = Plan(tmp_path, runs)
    packs = carry_out(plan, Queue(plan, False), {})
    assert packs == [("b",), ("d",), ("a", "c")]


def test_the_compiled_program_goes_on_first(tmp_path):
    plan = Plan(tmp_path, {"a": sized(9), "b": sized(5)})
    queue = iter(Queue(plan, False))
    assert next(queue).run_ids == ("a",)
    plan.done.add("a")
    plan.planned |= {"c": sized(9, 0.02), "d": sized(99)}
    assert next(queue).run_ids == ("c",)


def test_a_pack_names_the_program_that_comes_next(tmp_path):
    runs = {"a": sized(5), "b": sized(9), "c": sized(5, 0.02), "d": sized(1)}
    plan = Plan(tmp_path, runs)
    ahead = []
    for pack in Queue(plan, False):
        ahead.append(pack.ahead and pack.ahead[0].model.size)
        plan.done |= set(pack.run_ids)
    assert ahead == [9, 1, None]


def test_a_crash_is_tried_three_times_and_each_run_alone(tmp_path):
    plan = Plan(tmp_path, {"a": sized(1), "b": sized(1, 0.02)})
    queue = Queue(plan, False)
    fails = {"a": [("crash", 0)], "b": [("crash", 0)] * 9}
    packs = carry_out(plan, queue, fails)
    assert packs == [("a", "b"), ("a",), ("b",), ("b",)]
    assert queue.given_up == {"b": "crash"} and plan.done == {"a"}


def test_progress_earns_new_tries(tmp_path):
    plan = Plan(tmp_path, {"a": sized(1)})
    queue = Queue(plan, False)
    steps = (0, 0, 5, 5, 9, 9)
    packs = carry_out(plan, queue, {"a": [("preemption", step) for step in steps]})
    assert len(packs) == 7 and plan.done == {"a"} and not queue.given_up


def test_memory_halves_the_pack_until_the_run_is_alone(tmp_path):
    names = "abcd"
    runs = {name: sized(1, 0.01 * (i + 1)) for i, name in enumerate(names)}
    plan = Plan(tmp_path, runs)
    queue = Queue(plan, False)
    packs = carry_out(plan, queue, {"c": [("out of memory", 0)] * 9})
    assert packs[0] == tuple(names) and packs[-1] == ("c",)
    assert plan.done == {"a", "b", "d"} and queue.given_up == {"c": "out of memory"}


def test_halving_takes_slots_with_the_runs():
    pack = dataclasses.replace(make_pack("", "", ""), layout=Layout(run=2, width=4))
    first, second = halve(pack)
    assert first.run_ids + second.run_ids == pack.run_ids
    assert len(first.runs) == 2
    assert first.layout == second.layout == Layout(run=2, width=2)
    (alone,) = halve(second)
    assert alone.layout == Layout(run=1, width=1)


def test_a_pack_is_no_wider_than_a_places_share_of_what_waits():
    assert at_once(32, load=32.0, everything=32.0, places=1) == 32
    assert at_once(32, load=32.0, everything=32.0, places=4) == 8
    assert at_once(16, load=16.0, everything=9 * 16.0, places=4) == 16
    assert at_once(3, load=3.0, everything=3.0, places=8) == 1


def test_a_layout_is_sought_for_as_many_runs_as_a_place_is_given(tmp_path):
    plan = Plan(
        tmp_path, {name: sized(1, 0.01 + i) for i, name in enumerate("abcdefgh")}
    )
    sought = []
    fixed = plan.layouts.known(None)
    plan.layouts.of = lambda run, *runs: sought.append(runs) or fixed
    for places in (1, 2, 4):
        Queue(plan, False).take(Place("", plan.here), places, search=False)
    assert sought == [(8, 8), (4, 4), (2, 2)]


def attempt(run_id, number, cause, together=1):
    return Attempt(run_id, number, cause, "", "", "", "", together=together)


def test_out_of_memory_is_remembered_and_retried_on_request(tmp_path):
    plan = Plan(tmp_path, {"a": sized(1), "b": sized(1, 0.02), "c": sized(1, 0.03)})
    plan.store.add_attempt(attempt("a", 1, "out of memory", together=2))
    plan.store.add_attempt(attempt("b", 1, "out of memory"))
    plan.store.add_attempt(attempt("c", 1, "out of memory"))
    plan.store.add_attempt(attempt("c", 2, "crash"))
    assert Queue(plan, False).given_up == {"b": "out of memory"}
    assert Queue(plan, True).given_up == {}


def test_a_lock_keeps_others_out_and_is_freed(tmp_path):
    with (
        locked(str(tmp_path)),
        pytest.raises(UserError, match="process"),
        locked(str(tmp_path)),
    ):
        pass
    with locked(str(tmp_path)):
        pass


def test_other_errors_than_the_disks_are_not_dressed_up():
    with pytest.raises(UserError, match="No space left"), disk_errors():
        raise OSError(28, "No space left on device")
    with pytest.raises(UserError, match="in the way"), disk_errors():
        raise FileExistsError(17, "File exists", "in the way")
    with pytest.raises(OSError, match="reset"), disk_errors():
        raise OSError(104, "Connection reset")


class Terminal(io.StringIO):
    def isatty(self):
        return True


def follow(stream, monkeypatch, shared=0):
    clock = iter(range(0, 10_000, 31))
    now = types.SimpleNamespace(monotonic=lambda: next(clock))
    monkeypatch.setattr(progress, "time", now)
    show = progress.Progress(stream)
    runs = {"a": sized(8_000), "b": sized(8_000, 0.02)}
    show.expect(runs, {"a": 1e9, "b": 1e9}, {"a": 0, "b": shared}, [], 2)
    show(Event("started", "a", steps=32))
    show(Event("step", "a", step=16, steps=32, loss=3.25, tokens_per_second=256.0))
    return show


def test_progress_on_a_terminal_redraws_its_lines(monkeypatch):
    stream = Terminal()
    show = follow(stream, monkeypatch)
    text = stream.getvalue()
    assert "0/4 done, 1 running" in text and "16/32  training loss 3.250 nats" in text
    assert "\x1b[2F\x1b[J" in text
    show(Event("failed", "a", cause="crash", message="signal 9"))
    assert "failed: a transformer 8k" in stream.getvalue()


def test_progress_elsewhere_is_plain_lines(monkeypatch):
    stream = io.StringIO()
    show = follow(stream, monkeypatch)
    show(Event("done", "a", loss=2.5, status="done"))
    text = stream.getvalue()
    assert "\x1b" not in text
    assert (
        "[1/4] done: a transformer 8k, kjv, 1.02k tokens, rate 0.01, "
        "loss 2.500 nats/token on kjv\n" in text
    )


def test_three_digits_are_never_a_thousand_of_a_unit():
    said = [progress.short(x) for x in (999.4, 999_600, 9.996e8, 1.23e9, 5)]
    assert said == ["999", "1M", "1G", "1.23G", "5"]


def test_time_left_counts_what_runs_what_waits_and_what_is_provisional(monkeypatch):
    show = follow(io.StringIO(), monkeypatch)
    # a has 512 of its 1024 tokens left, b all of its, at 256 tokens/s: 6 s for two;
    # the two provisional ones are taken to be as long as these.
    assert show.seconds_left() == pytest.approx(12.0)
    # Half of b comes with another's trunk.
    show = follow(io.StringIO(), monkeypatch, shared=16)
    assert show.seconds_left() == pytest.approx(8.0)
