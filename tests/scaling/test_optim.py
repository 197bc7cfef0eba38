"""Optimisers do what optax's do, and one rate is right at every width."""

from __future__ import annotations

import dataclasses
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from optax import contrib

from scaling import families, objective, optim
from scaling.errors import UserError
from scaling.families import Images, Tokens, _layers
from scaling.layout import Layout
from scaling.run import Model, Program
from scaling.training import mesh
from tests.conftest import every_family
from tests.support import family_cases

VALUES = {
    "learning_rate": 0.01,
    "weight_decay": 0.1,
    "clip_norm": 1.0,
    "warmup": 1.0,
    "decay": 100.0,
    "steps": 100.0,
}


def program(optimiser, **options):
    given = tuple(options.items())
    model = Model("transformer", 8_000)
    rest = ("constant", 4, 16, "bytes", "float32")
    return Program(model, "next_token", optimiser, given, *rest)


class Layers(nnx.Module):
    """One parameter of every kind: a matrix, a head, a table, a gain."""

    def __init__(self, inputs, outputs, rngs):
        normal, side = nnx.initializers.normal(1.0), ("embed", "mlp")
        param = lambda *args: _layers.param(rngs, *args)
        self.matrix = param((inputs, outputs), side, "matrix", normal)
        self.head = param((inputs, 31), ("embed", "vocab"), "embedding", normal, (0,))
        self.table = param((31, inputs), ("vocab", "embed"), "embedding", normal)
        self.gain = param((inputs,), ("embed",), "norm", normal)


NAMES = ("matrix", "head", "table", "gain")


def layers(inputs=64, outputs=64, seed=0):
    return Layers(inputs, outputs, nnx.Rngs(seed))


def arrays(model):
    return {name: np.asarray(getattr(model, name)[...]) for name in NAMES}


def gradients(model, step):
    leaves, structure = jax.tree.flatten(model)
    keys = jax.random.split(jax.random.key(step), len(leaves))
    draws = [jax.random.normal(k, x.shape) for k, x in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(structure, draws)


def stepped(tx, params, draws):
    state = tx.init(params)
    for gradient in draws:
        updates, state = tx.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    return params


def plain(name):
    """Optax's own optimisers, by parameter; embeddings and matrices decay."""
    rate, decay = VALUES["learning_rate"], VALUES["weight_decay"]
    decayed = lambda tree: {n: n != "gain" for n in tree}
    decoupled = optax.add_decayed_weights(decay, mask=decayed)
    adam = optax.adamw(rate, b1=0.9, b2=0.95, weight_decay=decay, mask=decayed)
    adafactor = optax.adafactor(
        rate,
        multiply_by_parameter_scale=False,
        weight_decay_rate=rate * decay,
        weight_decay_mask=decayed,
    )
    muon = contrib.muon(rate, weight_decay=decay, consistent_rms=0.2)
    return {
        "adafactor": adafactor,
        "adamw": adam,
        "lion": optax.lion(rate, b1=0.9, b2=0.99, weight_decay=decay, mask=decayed),
        "muon": optax.partition(
            {"muon": muon, "adam": adam},
            lambda tree: {n: "muon" if n == "matrix" else "adam" for n in tree},
        ),
        "sgd": optax.chain(
            optax.trace(0.9, nesterov=True), decoupled, optax.scale(-rate)
        ),
    }[name]


every_optimiser = pytest.mark.parametrize(
    "name", ["adafactor", "adamw", "lion", "muon", "sgd"]
)


@every_optimiser
def test_at_the_base_width_steps_are_those_of_optax(name):
    model = layers()
    draws = [gradients(model, step) for step in range(3)]
    ours = stepped(optim.transform(program(name), VALUES), model, draws)
    clipped = optax.chain(optax.clip_by_global_norm(1.0), plain(name))
    theirs = stepped(clipped, arrays(model), [arrays(g) for g in draws])
    for key, expected in theirs.items():
        np.testing.assert_allclose(
            arrays(ours)[key], expected, rtol=1e-5, atol=1e-6, err_msg=key
        )


# Of a matrix of 256 inputs and 512 outputs, against the base of 64.
SHARES = {
    "adamw": {"matrix": 1 / 4, "head": 1 / 4, "table": 1.0, "gain": 1.0},
    "lion": {"matrix": 1 / 4, "head": 1 / 4, "table": 1.0, "gain": 1.0},
    "sgd": {"matrix": 2.0, "head": 1 / 4, "table": 4.0, "gain": 4.0},
}


@pytest.mark.parametrize("name", SHARES)
def test_a_layer_takes_the_share_of_the_rate_that_its_width_asks_for(name):
    model, values = layers(256, 512), VALUES | {"weight_decay": 0.0, "clip_norm": 1e9}
    gradient = jax.tree.map(jnp.ones_like, model)
    moved = stepped(optim.transform(program(name), values), model, [gradient])
    one = 1.9 if name == "sgd" else 1.0  # Nesterov's first step
    for key, share in SHARES[name].items():
        step = arrays(model)[key] - arrays(moved)[key]
        np.testing.assert_allclose(step, 0.01 * one * share, rtol=1e-3, err_msg=key)


def test_muon_moves_matrices_by_the_spectral_norm_their_width_asks_for():
    values = VALUES | {"weight_decay": 0.0, "clip_norm": 1e9}
    tx = optim.transform(program("muon"), values)
    for inputs, outputs in ((64, 64), (256, 64), (64, 256)):
        model = layers(inputs, outputs)
        moved = stepped(tx, model, [gradients(model, 0)])
        step = arrays(model)["matrix"] - arrays(moved)["matrix"]
        expected = 0.01 * 0.2 * np.sqrt(64 * outputs / inputs)
        found = np.linalg.svd(step, compute_uv=False) / expected
        assert found.max() < 1.3 and 0.8 < np.sqrt(np.mean(found**2)) < 1.1
        # The head's other side is the vocabulary: Adam's rule serves it.
        step = arrays(model)["head"] - arrays(moved)["head"]
        np.testing.assert_allclose(abs(step), 0.01 * 64 / inputs, rtol=1e-3)


@pytest.mark.parametrize("name", ["adamw", "muon", "sgd"])
def test_rate_times_decay_is_the_same_at_every_width(name):
    tx = optim.transform(program(name), VALUES)
    for width in (16, 128):
        model = layers(width, width)
        moved = arrays(stepped(tx, model, [jax.tree.map(jnp.zeros_like, model)]))
        for key, before in arrays(model).items():
            kept = 1.0 if key == "gain" else 1.0 - 0.01 * 0.1
            np.testing.assert_allclose(moved[key], kept * before, rtol=1e-5)


def test_clipping_measures_gradients_alike_at_every_width():
    """Of weights that gradient descent moves at one rate: see optim._clip."""
    for width in (16, 256):
        model = layers(width, width)
        growth = {"matrix": 1.0, "head": 64 / width, "table": width / 64}
        growth["gain"] = growth["table"]
        gradient = gradients(model, 0)
        norm = np.sqrt(
            sum(growth[k] * np.sum(g**2) for k, g in arrays(gradient).items())
        )
        for largest, factor in ((0.5 * norm, 0.5), (2.0 * norm, 1.0)):
            clipped = arrays(optim._clip(largest, gradient, model))
            for key, expected in arrays(gradient).items():
                np.testing.assert_allclose(clipped[key], factor * expected, rtol=1e-5)


@every_optimiser
def test_packed_runs_of_other_rates_step_as_each_alone(name):
    rates, model = np.array([0.003, 0.03]), layers(160, 130)
    draws = [gradients(model, step) for step in range(2)]

    def run(rate):
        tx = optim.transform(program(name), VALUES | {"learning_rate": rate})
        return stepped(tx, model, draws)

    packed = jax.jit(jax.vmap(run))(rates)
    for n, rate in enumerate(rates):
        alone = arrays(jax.jit(run)(rate))
        for key, found in arrays(packed).items():
            np.testing.assert_allclose(found[n], alone[key], rtol=1e-4, atol=1e-6)


@every_optimiser
def test_state_is_sharded_with_its_parameters(name):
    rules = mesh.make(Layout(run=2, width=2, data=4))
    init = lambda _: optim.transform(program(name), VALUES).init(layers(256, 512))
    abstract = jax.eval_shape(jax.vmap(init), jnp.arange(2))
    shardings = mesh.state(abstract, rules)
    made = jax.jit(jax.vmap(init), out_shardings=shardings)(jnp.arange(2))
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(made))
    shards = (leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(made))
    moments = {"adafactor": 0.1, "adamw": 2, "lion": 1, "muon": 1, "sgd": 1}[name]
    assert size >= moments * 2 * 4 * 256 * 512
    # Vectors and factored moments are whole on every device of a run.
    assert sum(shards) < (0.6 if name == "adafactor" else 0.15) * size


def test_unknown_optimisers_and_options_are_refused():
    with pytest.raises(UserError, match="did you mean 'muon'"):
        optim.check(program("moun"))
    with pytest.raises(UserError, match=r"optimiser\.options"):
        optim.check(program("muon", nesterov=False))


# --- The coordinate check ----------------------------------------------------

SPEC = Tokens(vocab=31, length=16)
PICTURES = Images(4, 6, 2, labels=3, caption=5)
GROWING = ("width", "hidden", "units", "heads", "kv_heads")


def widened(config, times):
    """A member so many times as wide, as deep and of the same head dimension."""
    sizes = {
        field.name: getattr(config, field.name) for field in dataclasses.fields(config)
    }
    grown = {name: times * sizes[name] for name in GROWING if name in sizes}
    return dataclasses.replace(config, **grown)


def change(name, times, optimiser, rate, steps=4):
    """(width, rms change of the output, of the residual stream) after a few steps.

    On one batch, again and again: updates so align with what they meet, as they do in
    a long training.
    """
    family, spec, size = families.load(name), SPEC, 8_000
    loss = objective.make("next_token", SPEC).loss
    if family_cases.serves(name, "denoise"):
        spec, size = PICTURES, 20_000
        loss = lambda model, batch: family_cases.scalar(model, *batch)
    given = family_cases.inputs(spec, batch=4)
    batch = given if spec is PICTURES else given[0]
    config = widened(family.ladder(size, spec), times)
    values = VALUES | {"learning_rate": rate}
    tx = optim.transform(program(optimiser), values)
    rms = lambda x: jnp.sqrt(jnp.mean(x**2))

    def both(model):
        """The output, and the stream that the head reads."""
        head, read = type(model.head), []
        whole = head.__call__
        keep = lambda self, x, *rest: read.append(x) or whole(self, x, *rest)
        with mock.patch.object(head, "__call__", keep):
            return model(*given).y, read[0]

    @jax.jit
    def run():
        first = family.Model(config, spec, nnx.Rngs(jax.random.key(0)))

        def step(carry, _):
            model, state = carry
            gradient = jax.grad(loss)(model, batch)
            updates, state = tx.update(gradient, state, model)
            return (optax.apply_updates(model, updates), state), None

        carry = first, tx.init(first)
        (last, _), _ = jax.lax.scan(step, carry, None, length=steps)
        return [rms(x - y) for x, y in zip(both(last), both(first), strict=True)]

    return config.width, *run()


def slopes(name, optimiser="adamw", rate=4e-3, times=(1, 16)):
    """Of the logarithms of both changes over that of the width."""
    width, *changes = np.log(
        np.array([change(name, t, optimiser, rate) for t in times])
    ).T
    return [np.polyfit(width, y, 1)[0] for y in changes]


# Half of what a wrong exponent is off by, at least. The narrowest still see their
# random head, whose part of the change falls with the root of the width: -0.12 to -0.2.
FLAT = 0.25


@every_family("transformer", "lstm")
def test_a_rate_changes_logits_and_hidden_units_alike_at_every_width(family):
    assert max(map(abs, slopes(family))) < FLAT


@pytest.mark.parametrize(
    "family",
    [
        pytest.param(name, marks=() if name == "unet" else pytest.mark.slow)
        for name in families.names("denoise")
    ],
)
def test_a_rate_changes_pictures_and_hidden_units_alike_at_every_width(family):
    assert max(map(abs, slopes(family, times=(1, 8)))) < FLAT


@pytest.mark.slow
@pytest.mark.parametrize(
    "optimiser, rate",
    [("adafactor", 4e-3), ("lion", 2e-3), ("muon", 4e-3), ("sgd", 0.1)],
)
def test_other_optimisers_change_logits_alike_at_every_width(optimiser, rate):
    assert max(map(abs, slopes("transformer", optimiser, rate))) < FLAT


def test_without_the_rule_changes_grow_with_the_width(monkeypatch):
    monkeypatch.setattr(optim, "_fans", lambda parameter: optim._Fans(0, 0))
    assert min(slopes("lstm", times=(1, 8))) > 2 * FLAT
