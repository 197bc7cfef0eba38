"""Plans for machines that are not here: steps, traffic, what fits, what is kept."""

import dataclasses
import importlib.util
import io
import json
import os
import signal
import threading
import time
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from scaling.engines.child import Settings
from scaling.engines.stop import Stop
from scaling.errors import UserError
from scaling.families import Tokens
from scaling.layout import Layout
from scaling.planning import cost, estimates, hardware
from scaling.planning import hlo_traffic as traffic_module
from scaling.planning.estimates import Estimate, Step
from scaling.run import Model
from scaling.scheduling import fleet_plan, layouts, plan_tables, preflight
from scaling.scheduling.progress import Progress
from scaling.scheduling.study_plan import Entry
from scaling.store import Store
from scaling.training import aot
from tests.scaling.engines.test_engine import make_run

SUPPORT = Path(__file__).parents[2] / "support"


def sized(size, batch=8, act=()):
    model = Model("transformer", int(size), options=tuple(act))
    return dataclasses.replace(make_run(), model=model, batch=batch)


def bytes_of(run):
    return Tokens(257, run.length)


# --- The step itself ---------------------------------------------------------


@pytest.mark.parametrize("data", [1, 2])
def test_the_compiled_step_states_memory_products_and_what_is_sent(data):
    run = sized(8_000)
    run = dataclasses.replace(run, model=Model("transformer", 8_000), length=32)
    layout = Layout(data=data, width=2)
    step = aot.step(run, bytes_of(run), layout, "cpu")
    assert step.reason == "" and step.how == "compiled" and step.seconds > 0
    described = cost.describe(run, bytes_of(run), width=2)
    products = 2 * described.flops / described.steps
    assert step.flops * data == pytest.approx(products, rel=0.05)
    # Parameters and the two moments of the optimiser, in float32, for two slots.
    everything = 2 * 12 * described.params_total
    assert everything / data <= step.state < 1.3 * everything / data + 4096
    assert step.state < step.memory < 4 * described.memory
    assert (step.sent > 0) == (data > 1)


def test_what_cannot_run_there_is_an_answer():
    run = sized(8_000, batch=3)
    step = aot.step(run, bytes_of(run), Layout(data=2), "cpu")
    assert "batch" in step.reason and not step.memory
    message = "temporaries (18.25G) exceeds available HBM (15.75G)"
    assert aot._needed(message) == 18.25 * 2**30
    assert aot._needed("Used 512M of 15.75G hbm") == 512 * 2**20


def test_a_gpu_is_modelled_and_more_of_them_hold_less_each():
    run = dataclasses.replace(sized(1e6), model=Model("lstm", 1_000_000))
    steps = [
        aot.step(
            run, bytes_of(run), Layout("gpu", data=n, precision="bfloat16"), f"h100x{n}"
        )
        for n in (1, 8)
    ]
    assert {step.how for step in steps} == {"modelled"}
    assert steps[0].memory == pytest.approx(8 * steps[1].memory)
    assert steps[0].sent == 0 < steps[1].sent


@pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None,
    reason="libtpu, which compiles for TPUs, is not installed",
)
@pytest.mark.parametrize("name", ["v5litepod-8", "v4-16", "v5p-8", "v6e-8", "tpu7x-8"])
def test_a_step_compiles_for_every_tpu(name):
    machine = hardware.lookup(name)
    layout = Layout("tpu", data=machine.devices, precision="bfloat16")
    run = dataclasses.replace(sized(8_000), model=Model("convolution", 8_000))
    step = aot.step(run, bytes_of(run), layout, name)
    assert step.reason == "" and 0 < step.memory < 1e9
    devices = aot._devices(machine)
    assert len(devices) == machine.devices
    assert len({device.process_index for device in devices}) == machine.hosts
    assert devices[0].device_kind == machine.device


# --- Traffic -----------------------------------------------------------------


def traffic(function, *arguments):
    return traffic_module.count(jax.jit(function).lower(*arguments).compile().as_text())


def test_traffic_counts_operands_results_and_turns():
    x, y = jnp.ones((64, 32)), jnp.ones((32, 16))
    once = 4 * (64 * 32 + 32 * 16 + 64 * 16)
    assert traffic(jnp.dot, x, y) == traffic_module.Traffic(once, 0.0, 1.0)
    square = jnp.ones((256, 256))
    loop = lambda x: jax.lax.scan(lambda c, _: (c @ c, None), x, length=7)[0]
    counted = traffic(loop, square)
    assert 7 * 2 * square.nbytes < counted.moved < 1.8 * 7 * 3 * square.nbytes
    assert 7 <= counted.starts <= 7 * 4 + 4


def test_a_region_of_an_array_is_not_all_of_it():
    """Each turn reads its row and writes its row, not the 100 rows there are."""
    rows = jnp.ones((100, 1024))
    walk = lambda rows: jax.lax.map(lambda row: row + 1.0, rows)
    assert traffic(walk, rows).moved < 8 * rows.nbytes


def test_what_is_sent_in_each_collective():
    devices = jax.devices()[:4]
    mesh = jax.make_mesh((4,), ("data",), (AxisType.Auto,), devices=devices)
    x = jnp.ones((4, 1024))

    def sent(function, out):
        mapped = jax.shard_map(
            function, mesh=mesh, in_specs=P("data"), out_specs=out, check_vma=False
        )
        return traffic(mapped, x).sent

    kilobytes = 4 * 1024
    total = lambda x: jax.lax.psum(x, "data")
    gather = lambda x: jax.lax.all_gather(x, "data")
    assert sent(total, P()) == 2 * kilobytes * 3 / 4
    assert sent(gather, P()) == kilobytes * 3
    groups = {
        "replica_groups=[2,4]<=[8]": 4,
        "replica_groups={{0,1},{2,3}}, x={{0}}": 2,
        "replica_groups=mesh['run'=2,'data'=4] {'data'}": 4,
        "replica_groups=mesh['a'=8] {'a':(2)4}": 4,
    }
    assert {text: traffic_module._group(text) for text in groups} == groups


def test_the_vector_memory_of_a_tpu_is_not_counted():
    text = "(f32[4,8]{1,0:T(8,128)S(1)}, bf16[4,8]{1,0:T(8,128)(2,1)}, pred[])"
    assert traffic_module._bytes(text) == 2 * 4 * 8 + 1


def test_a_loop_whose_condition_alone_says_how_often():
    loop = lambda x: jax.lax.scan(lambda c, _: (c @ c, None), x, length=7)[0]
    lowered = jax.jit(loop).lower(jnp.ones((8, 8)))
    assert cost.flops_xla(lowered) == (7 * 2.0 * 8**3, "")


# --- Machines ----------------------------------------------------------------


def test_the_shape_of_a_slice():
    shape = lambda name: dataclasses.astuple(hardware.topology(hardware.lookup(name)))
    assert shape("v5litepod-8") == ("v5e:2x4", (2, 4, 1), "default")
    assert shape("v5e-16") == ("v5e:4x4", (2, 2, 1), "default")
    assert shape("v6e-1") == ("v6e:1x1", (1, 1, 1), "default")
    assert shape("v4-16") == ("v4:2x2x2", (2, 2, 1), "megacore")
    assert shape("v5p-8") == ("v5p:2x2x1", (2, 2, 1), "default")
    assert shape("tpu7x-16") == ("tpu7x:2x2x2", (2, 2, 1), "default")
    with pytest.raises(UserError, match="v4-24"):
        shape("v4-24")
    names = [machine.name for machine in hardware.slices(hardware.lookup("v4-16"))]
    assert names[:3] == ["v4-8", "v4-16", "v4-32"]
    assert hardware.lookup("h100x8") == hardware.lookup("h100-8")


def test_the_slowest_part_of_a_step_is_its_time():
    chip = hardware.lookup("v5e-1")
    at = lambda *parts: hardware.step_seconds(chip, "bfloat16", *parts)
    assert at(197e12, 1.0, 1.0) == pytest.approx(1 / hardware.EFFICIENCY)
    assert at(1.0, 819e9 * 3, 1.0) == pytest.approx(3.0)
    assert at(1.0, 1.0, 200e9 * 2) == pytest.approx(2.0)
    assert at(1.0, 1.0, 200e9 * 2, 5e5) == pytest.approx(2.5)  # a microsecond each


# --- The study's programs, with children that compile nothing ----------------


@pytest.fixture
def steps(monkeypatch, tmp_path):
    """Makes `Steps` for a target, with fake children that note what they are asked."""
    monkeypatch.setenv("PYTHONPATH", str(SUPPORT))
    monkeypatch.chdir(tmp_path)
    store = Store(tmp_path / "workdir")
    settings = Settings(str(tmp_path), str(tmp_path), worker="fake_worker")

    def make(target):
        study = types.SimpleNamespace(
            options=types.SimpleNamespace(settings=settings),
            store=store,
            spec=bytes_of,
            layouts=layouts.Layouts(store, Layout(run=2, width=2), None, print),
        )
        progress = Progress(io.StringIO())
        return preflight.Steps(study, hardware.lookup(target), Stop(), progress)

    return make


def planned(runs):
    """The runs as entries of a plan, with the cost that the fake children find."""
    return [
        Entry(
            run,
            str(i),
            "left",
            {
                "params_total": 0.0,
                "memory": run.model.size,
                "flops": 197e12 * run.steps,
                "evaluation_flops": 197e12 * run.steps / 4,
                "steps": run.steps,
            },
            1.0,
        )
        for i, run in enumerate(runs)
    ]


def asked():
    lines = [line.split() for line in Path("asked").read_text().splitlines()]
    Path("asked").unlink()
    return lines


def test_each_program_is_compiled_once_and_kept(steps):
    runs = [sized(1000 * n) for n in (1, 2, 3, 4)]
    again = [dataclasses.replace(run, init_seed=1) for run in runs]
    first = steps("v5e-8")
    first.find(planned(runs + again))
    asks = asked()
    assert sorted(size for _, size, _ in asks) == ["1000", "2000", "3000", "4000"]
    assert len({pid for pid, _, _ in asks}) == preflight.CHILDREN
    found = first.of(runs[1])
    assert found.step.memory == 2000 / 4  # both runs at once
    assert found.layout == Layout("tpu", run=2, data=4, width=2, precision="bfloat16")
    second = steps("v5e-8")
    second.find(planned(runs + again))
    assert not Path("asked").exists() and second.of(runs[1]) == first.of(runs[1])
    steps("v5e-4").find(planned(runs[:1]))
    assert len(asked()) == 1


def test_a_child_that_dies_is_a_reason_and_the_next_program_goes_on(steps):
    bad = [sized(n, act=[("act", "kill")]) for n in (3, 2)]
    made = steps("v5e-8")
    made.find(planned([*bad, sized(1)]))
    assert all("signal 9" in made.of(run)[0].reason for run in bad)
    assert made.of(sized(1))[0].reason == ""


def test_what_takes_too_long_is_not_compiled_and_tried_again(steps, monkeypatch):
    monkeypatch.setattr(preflight, "TIMEOUT", 0.5)
    slow = sized(3, act=[("act", "slow")])
    for _ in range(2):
        made = steps("v5e-8")
        made.find(planned([slow]))
        assert made.of(slow)[:2] == (Step(reason="took longer than 0.5 s"), "")


def test_a_stopped_plan_waits_for_no_compiler(steps):
    made = steps("v5e-8")
    runs = [sized(n, act=[("act", "slow")]) for n in (1, 2, 3)]

    def stop():
        begun = Path("asked")
        while not begun.exists() or len(begun.read_text().splitlines()) < 2:
            time.sleep(0.05)
        made.stop.signal = signal.SIGTERM

    threading.Thread(target=stop, daemon=True).start()
    made.find(planned(runs))  # a child that trains has a minute for its checkpoint
    reasons = sorted(made.of(run)[0].reason for run in runs)
    assert reasons == ["stopped"] + 2 * ["stopped before a checkpoint"]
    assert len(asked()) == 2


def test_the_smallest_slice_that_fits(steps):
    smallest = {
        sized(15e9, 64): "v5litepod-1",
        sized(40e9, 64): "v5litepod-4",
        sized(100e9, 64): "v5litepod-8",
        sized(300e9, 64): "v5litepod-32",
        sized(300e9, 8): "none",  # a batch of 8 does not lie over more devices
    }
    made = steps("v5e-8")
    made.find(planned(smallest))
    assert {run: made.of(run)[1] for run in smallest} == smallest
    # What is far from fitting a single chip is not compiled for it.
    tried = {int(size) for _, size, target in asked() if target == "v5litepod-1"}
    assert 100_000_000_000 not in tried


def test_forecasts_are_printed_priced_and_say_what_is_unknown(steps):
    made = steps("v5e-8")
    runs = [sized(1e9), sized(300e9), sized(5, act=[("act", "raise")])]
    entries = planned(runs)
    made.find(entries)
    forecasts = [preflight._forecast(e, made.machine, made, 2.0) for e in entries]
    fits, large, failed = forecasts
    # A second of one chip's peak, on eight, at 40% of it; a quarter more for scoring.
    assert fits.step_seconds == pytest.approx(1 / 8 / 0.4)
    assert fits.seconds == pytest.approx(1 / 8 / 0.4 * runs[0].steps * 1.25)
    assert fits.cost == pytest.approx(fits.seconds / 3600 * 8 * 2.0)
    assert (fits.fits, large.fits, failed.fits) == (True, False, None)
    plan = fleet_plan.fleet(forecasts, 1, 2.0)
    table = plan_tables.target_table(forecasts, plan)
    assert "2 of 3 programs compiled" in table and "a bug in a family" in table
    cells = [line.split() for line in table.splitlines()[1:4]]
    assert [row[9] for row in cells] == ["yes", "no", "?"], cells
    assert "2 of the runs left are in no pack" in table
    body = json.loads(plan_tables.target_json(forecasts, plan))
    rows = body["runs"]
    assert rows[0]["fits"] is True and rows[2]["seconds"] is None
    # The hours of the one run that fits; nothing compiles in the fake children.
    assert body["fleet"]["cost"] == pytest.approx(fits.cost)


def test_the_layout_is_that_of_the_target(steps, tmp_path):
    run, here = sized(5), steps("cpu").study.layouts
    there = lambda name, run: preflight.alone_there(run, hardware.lookup(name), here)
    assert there("cpu", run) == Layout(run=2, width=2)
    assert there("v4-16", run) == Layout("tpu", data=8, precision="bfloat16")
    exact = dataclasses.replace(run, precision="float32")
    assert there("h100x8", exact) == Layout("gpu", data=8, precision="float32")


def test_without_libtpu_one_line_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'jax\[tpu\]'"):
        preflight._check(hardware.lookup("v5e-8"))
    preflight._check(hardware.lookup("h100x8"))


# --- Estimates ---------------------------------------------------------------


def test_an_estimate_made_after_the_fact_is_none(tmp_path):
    store = Store(tmp_path)
    guess = Estimate("a", "cpu", "cpu", 2, "guess", 1.0, None)
    estimates.keep(store, [guess])
    estimates.keep(store, [dataclasses.replace(guess, seconds=2.0)])
    read = lambda: json.loads((tmp_path / "estimates.json").read_text())
    assert read()["a"]["cpu"]["seconds"] == 1.0  # the first stands
    compiled = dataclasses.replace(guess, how="compiled", seconds=3.0)
    estimates.keep(store, [compiled], replace=True)
    assert read()["a"]["cpu"]["seconds"] == 3.0
    (tmp_path / "records").mkdir(exist_ok=True)
    os.link(tmp_path / "estimates.json", store.path("records", "a.json"))
    estimates.keep(store, [guess], replace=True)
    assert read()["a"]["cpu"]["seconds"] == 3.0
