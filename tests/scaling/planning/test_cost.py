"""Costs against what JAX builds and XLA compiles; hardware names."""

from __future__ import annotations

import dataclasses
from dataclasses import asdict

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from scaling import families, objective
from scaling.errors import UserError
from scaling.families import Images, Tokens, _convolution, _layers
from scaling.layout import Layout
from scaling.planning import cost, hardware
from scaling.run import Data, EvaluationSet, Model, Optimiser, Part, Run, options
from tests.support.family_cases import abstract, inputs, scalar

PART = (Part("code"),)
SPEC = Tokens(257, 64)
TEXT = families.names("next_token")
TRAINED = [name for name in TEXT if not families.fitted(name)]


def make_run(family="lstm", size=8_000, **model):
    return Run(
        Model(family, size, **model),
        Data(PART, 10_240),
        Optimiser(1e-3),
        batch=4,
        length=64,
        evaluation=(EvaluationSet("code", PART, 6_400),),
    )


def lower(name, size, spec, batch):
    family = families.load(name)
    config = family.ladder(size, spec)
    model = jax.eval_shape(lambda: family.Model(config, spec, nnx.Rngs(0)))
    goal = objective.make("next_token", spec)
    ids = jax.ShapeDtypeStruct((batch, spec.length), jnp.int32)
    step = jax.jit(jax.value_and_grad(lambda m, x: goal.loss(m, x)))
    return step.lower(model, ids), family.flops(config, spec)


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("size", [8_000, 72_000])
def test_analytic_flops_agree_with_xla(name, size):
    lowered, forward = lower(name, size, Tokens(257, 16), batch=2)
    counted, reason = cost.flops_xla(lowered)
    if counted is None:  # only the compiler knows how often a loop runs
        assert "loop" in reason
        counted, reason = cost.flops_xla(lowered.compile())
    assert reason == ""
    assert counted == pytest.approx(3 * 2 * forward, rel=0.05)


PICTURES = [(name, {}) for name in families.names("denoise")]


@pytest.mark.parametrize("name, given", [*PICTURES, ("unet", {"attention": True})])
@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_analytic_flops_of_pictures_agree_with_xla(name, given, platform, monkeypatch):
    """However convolutions are computed, but by squares, which have fewer products."""
    monkeypatch.setattr(_convolution, "_by_squares", _convolution._by_product)
    family, spec = families.load(name), Images(8, 8, labels=3, caption=8)
    config = family.ladder(40_000, spec, **given)

    def loss(model, *asked):
        with _layers.tracing(_layers.Tracing(Layout(platform), lambda tree: tree)):
            return scalar(model, *asked)

    arguments = abstract(name, config, spec), *inputs(spec)
    lowered = jax.jit(jax.value_and_grad(loss)).lower(*arguments)
    counted, reason = cost.flops_xla(lowered)
    assert reason == ""
    wanted = 3 * 2 * family.flops(config, spec)
    assert counted == pytest.approx(wanted, rel=0.05)


def test_products_are_counted_in_loops_slots_and_convolutions():
    weights = jnp.ones((3, 8, 8))

    def program(x):
        run = lambda carry, _: (jnp.tanh(carry @ weights), None)
        return jax.lax.scan(run, x, length=5)[0]

    compiled = jax.jit(program).lower(jnp.ones((3, 4, 8))).compile()
    assert cost.flops_xla(compiled, steps=15) == (2.0 * 4 * 8 * 8, "")
    convolve = jax.jit(lambda x, k: jax.lax.conv(x, k, (1,), "VALID"))
    lowered = convolve.lower(jnp.ones((2, 3, 16)), jnp.ones((5, 3, 4)))
    assert cost.flops_xla(lowered) == (2.0 * 2 * 5 * 13 * 3 * 4, "")


def test_a_loop_without_a_count_has_no_flops_but_a_reason():
    loop = lambda x: jax.lax.while_loop(lambda x: x.sum() < 9, lambda x: x @ x, x)
    compiled = jax.jit(loop).lower(jnp.ones((4, 4))).compile()
    counted, reason = cost.flops_xla(compiled)
    assert counted is None and "how often" in reason


@pytest.mark.parametrize("name", TRAINED)
def test_describe_counts_a_whole_run(name):
    run = make_run(name)
    described = cost.describe(run, SPEC)
    family, spec = families.load(name), Tokens(257, 64)
    config = family.ladder(8_000, spec)
    assert described.params_embedding == 2 * 257 * config.width
    total = family.params(config) + described.params_embedding
    active = getattr(family, "active", lambda config, spec: total)
    assert described.params_total == total
    assert described.params_active == active(config, spec)
    assert described.flops == 3 * family.flops(config, spec) * 160
    assert described.flops_per_token * 10_240 == described.flops
    assert described.evaluation_flops == family.flops(config, spec) * 100
    assert cost.describe(run, SPEC, width=3).memory == 3 * described.memory


@pytest.mark.parametrize("name", sorted({*TEXT} - {*TRAINED}))
def test_what_is_fitted_costs_as_much_to_read_as_to_score(name):
    described = cost.describe(make_run(name), SPEC)
    family, spec = families.load(name), Tokens(257, 64)
    config = family.ladder(8_000, spec)
    assert described.params_total == described.params_active == family.params(config)
    assert described.params_embedding == 0
    assert described.flops == family.flops(config, spec) * 160
    assert described.evaluation_flops == family.flops(config, spec) * 100
    assert described.memory == family.memory(config)


def test_a_mixture_works_with_a_part_of_its_parameters_on_a_token():
    described = cost.describe(make_run("moe", 1_000_000), SPEC)
    share = described.params_active / described.params_total
    assert 0.25 < share < 0.5


def test_memory_covers_what_xla_plans_without_excess():
    lowered, _ = lower("transformer", 72_000, Tokens(257, 64), batch=4)
    plan = lowered.compile().memory_analysis()
    used = plan.temp_size_in_bytes + plan.argument_size_in_bytes
    used += plan.output_size_in_bytes
    described = cost.describe(make_run("transformer", 72_000), SPEC)
    moments = 8 * described.params_total
    assert used < described.memory - moments < 4 * used
    narrow = cost.describe(make_run("transformer", 1e8), SPEC, precision="bfloat16")
    wide = cost.describe(make_run("transformer", 1e8), SPEC)
    assert 0.9 * wide.memory < narrow.memory < 1.2 * wide.memory


def test_what_lasts_is_what_the_optimiser_keeps():
    """In numbers of float32 a parameter, with the parameter itself."""
    run = make_run("transformer", 1_000_000)
    kept = {"sgd": 2, "lion": 2, "adamw": 3}
    found = {}
    for name in (*kept, "muon", "adafactor"):
        rule = dataclasses.replace(run.optimiser, name=name)
        described = cost.describe(dataclasses.replace(run, optimiser=rule), SPEC)
        found[name] = described.state / (4 * described.params_total)
        assert described.memory > described.state + 4 * described.params_total
    for name, numbers in kept.items():
        assert found[name] == pytest.approx(numbers, rel=1e-4)
    assert 1.0 < found["adafactor"] < 1.5 and 2.0 < found["muon"] < 2.3


def test_wrong_runs_are_refused():
    with pytest.raises(UserError, match=r"model\.family"):
        cost.describe(make_run("transfomer"), SPEC)
    with pytest.raises(UserError, match=r"model\.options"):
        cost.describe(make_run(options=options(depth=3)), SPEC)
    with pytest.raises(UserError, match=r"model\.size"):
        cost.describe(make_run(size=3), SPEC)
    run = make_run()
    rule = dataclasses.replace(run.optimiser, name="adamv")
    with pytest.raises(UserError, match=r"optimiser\.name"):
        cost.describe(dataclasses.replace(run, optimiser=rule), SPEC)


@pytest.mark.parametrize(
    "name, kind, chips, hosts",
    [
        ("v4-8", "tpu", 4, 1),
        ("v4-32", "tpu", 16, 4),
        ("v5litepod-1", "tpu", 1, 1),
        ("v5litepod-8", "tpu", 8, 1),
        ("v5e-16", "tpu", 16, 4),
        ("v5p-16", "tpu", 8, 2),
        ("v6e-256", "tpu", 256, 64),
        ("tpu7x-8", "tpu", 4, 1),
        ("tpu7x-32", "tpu", 16, 4),
        ("h100", "gpu", 1, 1),
        ("a100-16", "gpu", 16, 2),
        ("h200-8", "gpu", 8, 1),
    ],
)
def test_hardware_by_name(name, kind, chips, hosts):
    found = hardware.lookup(name)
    assert (found.kind, found.chips, found.hosts) == (kind, chips, hosts)
    assert found.f32 < found.bf16


def test_an_ironwood_chip_is_two_devices():
    found = hardware.lookup("tpu7x-8")
    assert (found.chips, found.devices) == (4, 8)
    assert found.memory * found.devices == 4 * 192 * 2**30
    assert found.bf16 * found.devices == 4 * 2307e12
    assert hardware.lookup("v7x-8") == found
    v5p = hardware.lookup("v5p-8")
    assert (v5p.chips, v5p.devices) == (4, 4)


@pytest.mark.parametrize(
    "name", ["v7", "v5litepod", "v5litepod-7", "v4-4", "v4-x", "h100-0", "h100-", ""]
)
def test_unknown_hardware_is_refused(name):
    with pytest.raises(UserError, match="hardware"):
        hardware.lookup(name)


def test_time_follows_the_rule_of_each_kind():
    """The rule's figures for two cores and the measured ranges it was fitted to."""
    two = dataclasses.replace(hardware.lookup("cpu"), devices=2)
    for size, slowest, fastest in ((8e3, 300e3, 700e3), (128e3, 70e3, 150e3)):
        described = cost.describe(make_run("lstm", size), SPEC)
        body = asdict(described) | {"evaluation_flops": 0.0}
        speed = described.tokens / hardware.seconds(body, two)
        assert slowest < speed < fastest
    large = cost.describe(make_run("transformer", 1e9), SPEC)
    times = [
        hardware.seconds(asdict(large), hardware.lookup(name))
        for name in ("v5e-8", "v5e-4", "v5e-1")
    ]
    assert times == sorted(times) and times[2] == pytest.approx(8 * times[0])
    scored = asdict(large) | {"evaluation_flops": large.flops}
    assert hardware.seconds(scored, hardware.lookup("v5e-8")) == pytest.approx(
        2
        * hardware.seconds(scored | {"evaluation_flops": 0.0}, hardware.lookup("v5e-8"))
    )
