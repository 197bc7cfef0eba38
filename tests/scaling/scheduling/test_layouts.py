"""The search for a layout: what it tries, when it stops, what it keeps."""

import dataclasses
import functools
import json

import jax
import pytest
from flax import nnx

from scaling import families
from scaling.errors import UserError
from scaling.families import _layers
from scaling.layout import Layout
from scaling.planning.estimates import modelled
from scaling.run import Model
from scaling.scheduling import layouts
from scaling.store import Store
from scaling.training import programs, speed
from tests.scaling.engines.test_engine import make_run
from tests.scaling.test_record import make_record

CPU = Layout(run=2, width=2)


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch):
    monkeypatch.setattr(layouts, "cores", lambda: 8)


def rates(by_shape):
    """A measure that knows tokens/s by (run, data, width)."""
    return lambda layout: by_shape[layout.run, layout.data, layout.width]


def chosen(base, by_shape, batch=8, runs=64):
    return layouts.choose(base, batch, runs, rates(by_shape))[-1][0]


def test_each_doubling_must_pay():
    speed = {(1, 1, 1): 100.0, (2, 1, 2): 180.0, (4, 1, 4): 175.0}
    found = chosen(CPU, speed)
    assert (found.run, found.width) == (2, 2)
    base = Layout("tpu", data=2)
    speed = {(1, 2, 1): 100.0, (2, 1, 2): 180.0, (2, 1, 4): 190.0}
    assert chosen(base, speed).width == 2
    speed |= {(2, 1, 4): 300.0, (2, 1, 8): 310.0}
    assert chosen(base, speed).width == 4


def test_never_more_devices_than_cores_nor_slots_than_runs():
    grows = {(1 << k, 1, 1 << k): 100.0 * 2**k for k in range(4)}
    tried = layouts.choose(CPU, 8, 8, rates(grows))
    assert [layout.run for layout, _ in tried] == [1, 2, 4, 8]
    assert tried[-1][0].width == 8
    assert layouts.choose(CPU, 8, 2, rates(grows))[-1][0].width == 2


def test_accelerators_trade_shards_of_a_run_for_runs():
    base = Layout("tpu", data=4, precision="bfloat16")
    speed = {(1, 4, 1): 1.0, (2, 2, 2): 1.9, (4, 1, 4): 3.6, (4, 1, 8): 7.0}
    speed |= {(4, 1, 16): None}
    found = chosen(base, speed)
    assert (found.run, found.data, found.width) == (4, 1, 8)
    assert found.precision == "bfloat16"
    # A batch of 6 lies over two devices, not four.
    assert layouts._narrowest(base, 6).data == 2


def test_a_run_that_does_not_fit_keeps_less_and_then_takes_its_step_in_parts():
    def fits(least):
        return lambda l: 1.0 if (l.remat, l.accumulate) in least else None

    base = Layout("tpu", data=4)
    again, parts = ("full", 1), ("full", 4)
    assert layouts.choose(base, 64, 1, fits({again}))[-1][0].remat == "full"
    found = layouts.choose(base, 64, 1, fits({parts}))[-1][0]
    assert (found.remat, found.accumulate, found.data) == ("full", 4, 4)
    words = layouts.words(found)
    assert words.endswith("activations computed again, a step in 4 parts")
    # A step of 8 examples on 4 devices is not cut into four: it is trained as it is.
    tried = layouts.choose(base, 8, 1, fits({parts}))
    assert tried == [(layouts._narrowest(base, 8), None)]
    assert layouts.choose(CPU, 64, 1, fits({again}))[-1][1] is None


def test_less_memory_is_expected_of_lighter_layouts():
    cost = {"memory": 100.0, "state": 20.0, "flops": 8.0, "steps": 1, "depth": 16}
    cost["params_total"] = 5
    plain, again, parts = (
        modelled(cost, Layout("tpu", remat=remat, accumulate=parts))
        for remat, parts in (("none", 1), ("full", 1), ("full", 4))
    )
    assert 100.0 == plain.memory > again.memory > parts.memory > 20.0
    assert again.flops == pytest.approx(plain.flops * 4 / 3)


def test_deep_models_loop_over_layers_unless_that_is_slower(tmp_path):
    asked, gain = [], 1.0

    def measure(run, layout):
        asked.append(layout)
        return 100.0 if layout.scan_layers else 100.0 * gain

    def of(size, depth):
        run = dataclasses.replace(make_run(), model=Model("transformer", size))
        found = layouts.Layouts(Store(tmp_path), CPU, measure, print, lambda run: depth)
        assert found.known(run).scan_layers == (depth >= layouts.DEEP)
        return found.of(run, 1, 1).scan_layers

    assert not of(1, layouts.DEEP - 1)
    assert not any(layout.scan_layers for layout in asked)
    assert of(3, layouts.DEEP)  # of its own, though the study's CPU has a layout
    gain = 1.01
    assert not of(2, layouts.DEEP)
    assert len(json.loads((tmp_path / "layout.json").read_text())) == 3


def test_depth_counts_like_layers():
    spec = families.Tokens(257, 16)

    def depth(layers):
        family = families.load("transformer")
        config = family.ladder(8_000, spec)
        config = dataclasses.replace(config, depth=layers)
        build = lambda: family.Model(config, spec, nnx.Rngs(jax.random.key(0)))
        return _layers.depth(jax.eval_shape(build))

    assert [depth(n) for n in (1, 2, 9)] == [1, 2, 9]


def test_what_cannot_be_measured_is_neither_chosen_nor_kept(tmp_path):
    said = []
    found = layouts.Layouts(Store(tmp_path), CPU, lambda run, layout: None, said.append)
    assert found.of(make_run(), 4, 4) == Layout(run=1, width=1)
    assert not said and not (tmp_path / "layout.json").exists()


def test_a_choice_is_said_kept_and_used_again(tmp_path, monkeypatch):
    said, asked = [], []

    def measure(run, layout):
        asked.append(layout)
        return {1: 100.0, 2: 190.0}[layout.width]

    monkeypatch.setattr(layouts, "cores", lambda: 2)
    first = layouts.Layouts(Store(tmp_path), CPU, measure, said.append)
    assert first.of(make_run(), 3, 64).width == 2
    assert "2 runs at once on 2 devices" in said[0] and "100" in said[0]
    count = len(asked)
    again = layouts.Layouts(Store(tmp_path), CPU, measure, said.append)
    assert again.of(make_run(rate=0.5), 1, 1) == Layout(run=2, width=2)
    assert len(asked) == count and len(said) == 1
    kept = json.loads((tmp_path / "layout.json").read_text())["all programs"]
    assert [entry["tokens_per_second"] for entry in kept["tried"]][-1] == 190.0


DAMAGED = (
    "",
    "{",
    "[]",
    "null",
    "{}x",
    '{"all programs": 3}',
    '{"all programs": {"layout": {"nonsense": 1}}}',
    '{"all programs": {"layout": {"width": "2"}}}',
    '{"all programs": {"layout": {"width": 0}}}',
)


@pytest.mark.parametrize("wrong", DAMAGED)
def test_a_damaged_choice_is_made_again_while_no_run_depends_on_it(tmp_path, wrong):
    path, store = tmp_path / "layout.json", Store(tmp_path)
    path.write_text(wrong)
    said = []
    found = layouts.Layouts(store, CPU, lambda run, layout: 1.0, said.append)
    assert len(said) == 1 and str(path) in said[0] and "measured again" in said[0]
    chosen = found.of(make_run(), 1, 1)
    never = lambda run, layout: pytest.fail("measured")
    again = layouts.Layouts(store, CPU, never, print)
    assert again.of(make_run(), 1, 1) == chosen

    path.write_text(wrong)
    layout = Layout(run=2, width=4, replicate=True)
    store.write(make_record(layout=layout.to_json() | {"more": 1}))
    with pytest.raises(UserError, match=r"layout\.json.* delete it") as refused:
        layouts.Layouts(store, CPU, never, print)
    given = refused.value.expected.rpartition("--layout ")[2]
    assert layouts.parse(given, CPU) == layout


def test_the_users_own_layout_is_not_measured(tmp_path):
    base = layouts.parse("run=1, width=4,replicate=true", CPU)
    assert base == Layout(run=1, width=4, replicate=True)
    never = lambda run, layout: pytest.fail("measured")
    found = layouts.Layouts(Store(tmp_path), base, never, print, fixed=True)
    assert found.of(make_run(), 64, 64) == base
    Layouts = functools.partial(layouts.Layouts, Store(tmp_path), depth=lambda run: 0)
    assert Layouts(CPU, lambda run, layout: 1.0, print).of(make_run(), 64, 64) == base
    other = layouts.parse("run=2,width=2", CPU)
    assert Layouts(other, never, print, fixed=True).of(make_run(), 64, 64) == other
    for wrong in ("runs=2", "width=0", "width=two", "replicate=1", "width"):
        with pytest.raises(UserError):
            layouts.parse(wrong, CPU)


def test_a_measurement_counts_the_tokens_of_every_slot(made, monkeypatch):
    clock = iter(range(1000))  # every call of the clock is a second later
    monkeypatch.setattr(speed.time, "monotonic", lambda: float(next(clock)))
    run = made.run()
    for width in (1, 2):
        rate = speed.tokens_per_second(
            run, Layout(run=width, width=width), families.Tokens(257, run.length)
        )
        assert rate == programs.STEPS_PER_CALL * run.tokens_per_step * width
