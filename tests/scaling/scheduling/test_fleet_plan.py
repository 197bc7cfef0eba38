"""Plans for several machines, against schedules that were worked out by hand."""

import dataclasses
import types

import pytest

from scaling.layout import Layout
from scaling.packs import Machine
from scaling.planning import estimates, hardware
from scaling.planning.estimates import Step
from scaling.run import Data, Model
from scaling.scheduling import fleet_plan, packing, paper, plan_tables
from scaling.scheduling.preflight import Forecast
from scaling.scheduling.queue import Queue
from scaling.scheduling.study_plan import Entry
from scaling.store import Store
from tests.scaling.engines.test_engine import make_run

V5E = hardware.lookup("v5e-8")


def forecast(
    name, size, steps, width=1, scoring=0.0, state="left", compiling=5.0, **changes
):
    """A run whose pack takes a second a step and compiles for five."""
    run = make_run(rate=0.001 * (1 + ord(name)))
    data = Data(run.data.corpus, steps * run.tokens_per_step)
    run = dataclasses.replace(run, model=Model("transformer", size), data=data)
    cost = {"flops": 1.0 * steps, "evaluation_flops": scoring * steps, "steps": steps}
    entry = Entry(run, name, state, cost, 1.0, **changes)
    step = Step(memory=1.0, starts=250_000.0, seconds=compiling)
    layout = Layout("tpu", run=width, width=width)
    seconds = steps * (1 + scoring) / width
    known = (True, 1.0, seconds, "v5litepod-1", None)
    return Forecast(entry, V5E, layout, step, 16e9, *known)


def schedule(forecasts, machines, *how, **also):
    return paper.schedule([f.work() for f in forecasts], machines, *how, **also)


def test_runs_of_one_program_are_cut_into_packs():
    """Eight runs of ten steps, two at once: two packs for each of two machines."""
    runs = [forecast(name, 1, 10, width=2) for name in "abcdefgh"]
    assert schedule(runs, 2) == fleet_plan.Schedule(5 + 10 + 10, 50, 4)
    assert schedule(runs, 1) == fleet_plan.Schedule(5 + 40, 45, 1)
    assert schedule(runs, 2, cut=False) == fleet_plan.Schedule(45, 45, 1)
    assert schedule(runs, 2, compiling=False) == fleet_plan.Schedule(20, 40, 4)


def test_two_programs_on_two_machines():
    """Each machine trains a long run, then a short one, and compiles for both."""
    runs = [forecast(name, 1, 30) for name in "ab"]
    runs += [forecast(name, 2, 10) for name in "cd"]
    assert schedule(runs, 2) == fleet_plan.Schedule(5 + 30 + 5 + 10, 100, 4)
    assert schedule(runs, 2, cut=False) == fleet_plan.Schedule(5 + 60, 65 + 25, 2)
    assert schedule(runs, 1).seconds == 65 + 25


def test_a_third_machine_has_nothing_to_do():
    runs = [forecast("a", 1, 30), forecast("b", 2, 10)]
    plan = fleet_plan.fleet(runs, 3, price=2.0)
    assert plan.scheduled == fleet_plan.Schedule(35, 35 + 15, 2)
    assert plan.hours == pytest.approx(3 * 35 / 3600)
    assert plan.cost == pytest.approx(3 * 35 / 3600 * 8 * 2.0)
    assert plan.compiling == 10 and plan.starting == pytest.approx(0.25)
    lines = plan_tables.target_table(runs, plan).splitlines()
    assert "3 machines: the study ends after 35 s, in 2 packs; one machine" in lines[6]
    assert "; compiling 20% of the working time, machines without work 52%" in lines[7]
    assert lines[8].endswith("one pack a program would end it at the same time")
    assert lines[9].startswith(
        "starting operations takes 25% of the training time, at 1"
    )


class Left:
    """A study in a workdir, as far as the queue asks."""

    settled = True

    def __init__(self, folder, forecasts, machine):
        self.store, self.here, self.notes = Store(folder), machine, []
        self.forecasts, self.done = forecasts, set()
        self.progress = paper.Nobody()
        self.progress.note = self.notes.append
        of = lambda run, *_: forecasts[0].layout
        assumed = lambda run: Layout("tpu", data=8)
        self.layouts = types.SimpleNamespace(
            known=assumed, of=of, kept=lambda run: None
        )

    def layouts_of(self, machine):
        return self.layouts

    def digests(self, run):
        return {}

    def remember(self):
        return [f.entry for f in self.forecasts if f.entry.run_id not in self.done]


@pytest.mark.parametrize(("compiling", "packs"), [(100.0, 2), (1.0, 8)])
def test_a_run_gives_out_the_packs_that_the_plan_recommends(tmp_path, compiling, packs):
    """Two programs on two machines: the one that ends first may help the other."""
    wide = {"width": 2, "compiling": compiling}
    runs = [forecast(name, 1, 20, **wide) for name in "abcdefghijkl"]
    runs += [forecast(name, 2, 20, **wide) for name in "mnopqr"]
    plan = fleet_plan.fleet(runs, 2, None)
    assert plan.ways.cuts == (packs > 2) and plan.scheduled.packs == packs
    assert plan.scheduled.seconds == min(plan.ways.cut.seconds, plan.ways.whole.seconds)
    there = Machine("tpu", V5E.devices, V5E.device)
    study = Left(tmp_path, runs, there)
    estimates.keep(study.store, [f.estimate() for f in runs])
    queue = Queue(study, True, paper.Rule(study))
    on_paper = paper.Paper([f.work() for f in runs])
    study.done = on_paper.done
    assert paper.played(queue, on_paper, 2) == plan.scheduled
    assert study.notes == [plan.ways.words()]


def test_runs_that_the_plan_did_not_know_take_their_time_by_others(tmp_path):
    """As those do whose rate was chosen since: they are not cut either."""
    wide = {"width": 2, "compiling": 100.0}
    runs = [forecast(name, 1, 20, **wide) for name in "abcdefghijkl"]
    runs += [forecast(name, 2, 20, **wide) for name in "mnopqr"]
    there = Machine("tpu", V5E.devices, V5E.device)
    study = Left(tmp_path, runs, there)
    estimates.keep(study.store, [f.estimate() for f in runs])
    rule = paper.Rule(study)
    assert not rule([f.entry for f in runs], there, 2)
    new = [dataclasses.replace(f.entry, run_id=f.entry.run_id.upper()) for f in runs]
    assert not rule(new, there, 2) and rule(new, Machine("tpu", 4, V5E.device), 2)
    assert study.notes[0] == study.notes[1] and len(study.notes) == 2


def test_scoring_takes_time_and_a_shared_trunk_is_trained_once():
    runs = [forecast("a", 1, 30, scoring=0.5)]
    runs += [forecast("b", 1, 20, scoring=0.5, shared=10)]
    assert schedule(runs, 1, compiling=False).seconds == pytest.approx((30 + 10) * 1.5)


def test_what_waits_for_results_comes_last_and_what_is_done_not_at_all():
    runs = [forecast("a", 1, 10), forecast("b", 1, 10, state="provisional")]
    assert schedule(runs, 2).seconds == pytest.approx(5 + 10 + 10)
    done = [forecast("c", 1, 10, state="done")]
    plan = fleet_plan.fleet(runs + done, 2, None)
    assert plan.runs == 2 and plan.left_out == 0 and plan.cost is None
    large = [dataclasses.replace(runs[0], fits=False)]
    assert fleet_plan.fleet(large, 2, None).left_out == 1
    assert fleet_plan.fleet(done, 2, None).scheduled.packs == 0


# --- The layout ---------------------------------------------------------------

NARROW = Layout("tpu", data=8, precision="bfloat16")


def chosen(runs, memory=1e6, microseconds=100, starts=100.0, batch=8):
    """The layout for a run that takes so long on one device, and what was compiled."""
    run = dataclasses.replace(make_run(), batch=batch)
    flops = hardware.EFFICIENCY * V5E.bf16 * microseconds * 1e-6
    cost = {"params_total": 1.0, "memory": memory, "flops": 7 * flops, "steps": 7}
    compiled = []

    def step(layout):
        compiled.append(layout)
        slots = layout.width / layout.devices
        return Step(memory=memory * slots, flops=flops * slots, starts=starts)

    _, layout = packing.chosen(run, cost, V5E, NARROW, runs, step)
    assert compiled[-1] == layout
    return layout, compiled


def packed(run, width):
    return dataclasses.replace(NARROW, run=run, data=8 // run, width=width)


def test_small_models_share_each_device_for_as_long_as_starting_takes_its_share():
    """Eight runs a device take 0.9 ms and 16 1.7 ms: no tenth more tokens a second."""
    assert chosen(100) == (packed(8, 64), [packed(8, 8), packed(8, 64)])
    assert chosen(20)[0] == packed(8, 16)
    assert chosen(5)[0] == packed(4, 4)
    assert chosen(1) == (NARROW, [NARROW])
    assert chosen(100, starts=0.0)[0] == packed(8, 8)


def test_memory_ends_the_packing():
    assert chosen(100, memory=10e9)[0] == packed(8, 8)
    assert chosen(100, memory=40e9)[0] == packed(2, 2)
    assert chosen(100, memory=200e9)[0] == NARROW  # which the plan says does not fit


def test_a_model_that_was_too_hopeful_is_corrected_by_what_was_compiled():
    run, cost = make_run(), {"params_total": 1.0, "memory": 4e9, "flops": 7, "steps": 7}

    def twice(layout):
        return Step(memory=10e9 * layout.width / layout.devices * 2, flops=1.0)

    step, layout = packing.chosen(run, cost, V5E, packed(4, 1), 16, twice)
    assert layout.width / layout.devices <= 0.8 and step.memory <= V5E.memory


def test_what_the_host_does_is_not_packed():
    run, cost = make_run(), {"params_total": 1.0, "memory": 4e3, "flops": 7, "steps": 7}
    host = Step(memory=4e3, flops=1.0, host=True, how="modelled")
    step, layout = packing.chosen(run, cost, V5E, NARROW, 16, lambda layout: host)
    assert layout == dataclasses.replace(NARROW, data=layout.data) and layout.width == 1
    cpu = hardware.lookup("cpu")
    seconds = packing.step_seconds(V5E, layout, step, cost)
    assert seconds == hardware.step_seconds(cpu, "bfloat16", 1.0, 4e3, 0.0)
