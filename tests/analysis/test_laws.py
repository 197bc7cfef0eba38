"""Every law keeps the interface and recovers the constants that its surface is made of.

Constants are those printed in the papers, where the papers print them.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.optimize import brentq

from analysis import laws
from analysis.fitting.fit import Fit, Refusal, fit
from analysis.fitting.fit import log_gradient as engine_gradient
from scaling.errors import UserError

FAMILIES, CORPORA = ("a", "b", "c"), ("d", "e")


def bind(name, columns, **options):
    centre = {key: float(np.log(columns[key]).mean()) for key in ("params", "tokens")}
    levels = {"family": FAMILIES, "corpus": CORPORA}
    return laws.load(name).bind(levels, centre, **options)


def grid(sizes: int = 6, budgets: int = 6) -> dict[str, np.ndarray]:
    """A factorial design over nearly three decades each."""
    params, tokens = np.meshgrid(
        np.geomspace(5e7, 2e10, sizes), np.geomspace(1e9, 1e12, budgets)
    )
    return {"params": params.ravel(), "tokens": tokens.ravel()}


def curve(points: int = 40, last: float = 1e8) -> dict[str, np.ndarray]:
    """One model size, examples seen from 1e3 on."""
    seen = np.geomspace(1e3, last, points)
    return {"params": np.ones(points), "tokens": seen}


def full_table() -> dict[str, np.ndarray]:
    """Every column that a law may read: 3 families x 2 corpora x 16 runs."""
    one = grid(4, 4)
    columns = {key: np.tile(values, 6) for key, values in one.items()}
    columns["family"] = np.repeat([0, 0, 1, 1, 2, 2], 16)
    columns["corpus"] = np.repeat([0, 1, 0, 1, 0, 1], 16)
    columns["unique_tokens"] = columns["tokens"] / np.tile([1.0, 2.0, 8.0, 30.0], 24)
    columns["quality"] = np.tile([1.0, 0.7, 0.4], 32)
    return columns


VARIANTS = [(name, {}) for name in laws.names()] + [
    ("joint", {"floor": ()}),
    ("joint", {"floor": ("family", "corpus")}),
    ("joint", {"alpha": ("family",), "beta": ("family", "corpus")}),
    ("joint", {"crossed": ("params", "tokens"), "beta": ("corpus",)}),
    ("data_constrained", {"excess": False}),
    ("bnsl", {"breaks": 2}),
    ("bnsl", {"breaks": 3}),
]


@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=str)
class TestInterface:
    def test_starts_and_predictions_have_their_shapes(self, name, options):
        columns = full_table()
        law = bind(name, columns, **options)
        loss = 1.7 + 400 / columns["params"] ** 0.34 + 410 / columns["tokens"] ** 0.28
        starts = law.starts(columns, loss)
        low, high = bounds(law)
        nonlinear = [c for c in range(low.size) if c not in law.linear]
        assert starts.shape[1] == low.size
        assert (starts >= low)[:, nonlinear].all()
        assert (starts <= high)[:, nonlinear].all()
        predicted = law.predict(starts, columns)
        assert predicted.shape == (len(starts), loss.size)
        assert np.isfinite(predicted).all() and (predicted > 0).all()
        np.testing.assert_allclose(law.predict(starts[1], columns), predicted[1])

    def test_reported_parameters_have_names_and_finite_values(self, name, options):
        columns = full_table()
        law = bind(name, columns, **options)
        theta = inside(law, 3)
        assert law.natural(theta).shape == (3, len(law.names))
        assert np.isfinite(law.natural(theta)).all()
        assert len(set(law.names)) == len(law.names)
        assert {p.name for p in law.parameters} <= set(law.names)

    def test_it_reads_the_columns_that_it_names_and_no_other(self, name, options):
        columns = full_table()
        law = bind(name, columns, **options)
        theta = inside(law, 2)
        read = {key: columns[key] for key in {"params", *law.columns}}
        np.testing.assert_array_equal(
            law.predict(theta, read), law.predict(theta, columns)
        )
        assert set(law.needs) <= set(law.columns)

    def test_gradient_and_curvature_are_those_of_its_prediction(self, name, options):
        columns = full_table()
        law = bind(name, columns, **options)
        theta = inside(law, 3)
        if law.log_gradient is None:
            pytest.skip("the law leaves its gradient to central differences")
        own = law.log_gradient(theta, columns)
        bare = dataclasses.replace(law, log_gradient=None)
        numeric = engine_gradient(bare, theta, columns)
        np.testing.assert_allclose(own, numeric, rtol=1e-5, atol=1e-6)
        if law.log_curvature is None:
            return
        weights = np.random.default_rng(0).normal(size=own.shape[:2])
        own = law.log_curvature(theta, columns, weights)
        for p, shift in enumerate(1e-6 * np.eye(theta.shape[1])):
            up = law.log_gradient(theta + shift, columns)
            down = law.log_gradient(theta - shift, columns)
            slope = np.einsum("bn,bnp->bp", weights, up - down) / 2e-6
            np.testing.assert_allclose(own[:, p], slope, atol=1e-5)

    def test_the_loss_is_linear_where_it_says_so(self, name, options):
        columns = full_table()
        law = bind(name, columns, **options)
        theta = inside(law, 1)
        for c in law.linear:
            losses = []
            for amplitude in (1.0, 2.0, 3.0):
                theta[:, c] = np.log(amplitude)
                losses.append(law.predict(theta, columns))
            first, second, third = losses
            np.testing.assert_allclose(third - second, second - first, atol=1e-9)
            assert (second > first).any()


def bounds(law):
    low, high = (
        np.array([getattr(p, e) for p in law.parameters]) for e in ("low", "high")
    )
    return low, high


def inside(law, count: int) -> np.ndarray:
    """Coordinates within the bounds, of a size that a fit would have."""
    low, high = bounds(law)
    rng = np.random.default_rng(0)
    return rng.uniform(np.maximum(low, -0.5), np.minimum(high, 0.5), (count, low.size))


def recovered(name, columns, loss, delta=1e-3, **options) -> dict[str, float]:
    found = fit(bind(name, columns, **options), columns, loss, delta=delta)
    assert isinstance(found, Fit), found
    assert found.objective < 1e-15
    assert found.at_bound == ()
    return dict(zip(found.law.names, found.values, strict=True))


def assert_recovers(name, columns, loss, wanted, rtol=1e-4, **options):
    found = recovered(name, columns, loss, **options)
    for key, value in wanted.items():
        assert found[key] == pytest.approx(value, rel=rtol), key


# Hoffmann et al. 2022 (equation 10), and Besiroglu et al. 2024.
ADDITIVE = [
    {"A": 406.4, "B": 410.7, "E": 1.69, "alpha": 0.34, "beta": 0.28},
    {"A": 482.01, "B": 2085.43, "E": 1.8172, "alpha": 0.3478, "beta": 0.3658},
]


def additive(columns, k):
    params, tokens = columns["params"], columns["tokens"]
    return k["E"] + k["A"] / params ** k["alpha"] + k["B"] / tokens ** k["beta"]


@pytest.mark.parametrize("constants", ADDITIVE)
@pytest.mark.parametrize("delta", [1e-3, np.inf])
def test_chinchilla_constants_are_recovered(constants, delta):
    columns = grid()
    loss = additive(columns, constants)
    assert_recovers("chinchilla", columns, loss, constants, delta=delta)


def test_tied_constants_are_recovered_from_five_runs():
    """Gadre et al. 2024: four sizes at 20 tokens a parameter, one at 320."""
    sizes = np.array([1.1e7, 7.9e7, 1.54e8, 4.11e8, 1.1e7])
    ratio = np.array([20.0, 20.0, 20.0, 20.0, 320.0])
    columns = {"params": sizes, "tokens": sizes * ratio}
    loss = 1.84 + 141 / sizes**0.242 + 190 / columns["tokens"] ** 0.242
    wanted = {"E": 1.84, "A": 141, "B": 190, "eta": 0.242}
    assert_recovers("chinchilla_tied", columns, loss, wanted)


@pytest.mark.parametrize("k", [0.4, 0.7, 1.5])
def test_an_outer_exponent_is_recovered(k):
    columns = grid()
    inner = (90 / columns["params"] ** 0.5) + (300 / columns["tokens"] ** 0.45)
    wanted = {"E": 1.2, "A": 90, "B": 300, "alpha": 0.5, "beta": 0.45, "k": k}
    assert_recovers("chinchilla_outer", columns, 1.2 + 8 * inner**k / 8, wanted)


def test_the_outer_exponent_nests_the_other_two():
    columns = grid()
    plain = additive(columns, ADDITIVE[0])
    assert recovered("chinchilla_outer", columns, plain)["k"] == pytest.approx(1, 1e-4)
    n, d = columns["params"], columns["tokens"]
    coupled = ((6.4e13 / n) ** (0.076 / 0.103) + 1.8e13 / d) ** 0.103
    law = bind("chinchilla_outer", columns)
    found = fit(law, columns, coupled, delta=np.inf)
    assert isinstance(found, Fit)
    assert found.rmse_log < 1e-5


# Muennighoff et al. 2023, appendix A.
REPEATED = {
    "E": np.exp(0.6254804),
    "A": np.exp(6.255414),
    "B": np.exp(7.3049974),
    "alpha": 0.3526596,
    "beta": 0.3526596,
    "R*_D": 15.387756,
    "R*_N": 5.309743,
}


def repeated_design() -> dict[str, np.ndarray]:
    unique = np.repeat([1e8, 4e8, 1.5e9], 40)
    params = np.tile(np.repeat(np.geomspace(1e7, 8e9, 8), 5), 3)
    epochs = np.tile([1.0, 2.0, 5.0, 20.0, 60.0], 24)
    return {"params": params, "tokens": unique * epochs, "unique_tokens": unique}


def worth(unique, ratio, decay):
    return unique + unique * decay * (1 - np.exp(-(ratio - 1) / decay))


def test_repeats_alone_are_recovered_and_are_needed():
    columns, k = repeated_design(), REPEATED | {"R*_D": 2.9157}
    unique = columns["unique_tokens"]
    data = worth(unique, columns["tokens"] / unique, k["R*_D"])
    loss = additive({"params": columns["params"], "tokens": data}, k)
    wanted = {key: value for key, value in k.items() if key != "R*_N"}
    assert_recovers("data_constrained", columns, loss, wanted, excess=False)
    fresh = grid() | {"unique_tokens": grid()["tokens"]}
    law = bind("data_constrained", fresh, excess=False)
    found = fit(law, fresh, additive(fresh, k))
    assert isinstance(found, Refusal)
    assert "R*_D" in found.reason


def test_quality_is_recovered_and_is_needed():
    columns = grid() | {"quality": np.tile([1.0, 0.8, 0.5, 0.3], 9)}
    k = ADDITIVE[0]
    seen = columns | {"tokens": columns["tokens"] * columns["quality"] ** 0.6}
    assert_recovers("quality", columns, additive(seen, k), k | {"g": 0.6})
    columns["quality"] = np.ones(36)
    found = fit(bind("quality", columns), columns, additive(columns, k))
    assert isinstance(found, Refusal)
    assert "g" in found.reason


def farseer(columns, k):
    n, d = columns["params"], columns["tokens"]
    power = np.exp(k["a1"] * n ** k["alpha"] + k["b1"])
    amplitude = np.exp(k["a2"] * n ** k["beta"] + k["b2"])
    return np.exp(k["a3"] * n ** k["gamma"] + k["b3"]) + amplitude * d**-power


def test_farseer_is_recovered():
    columns = grid(7, 7)
    k = {"a1": -0.3, "b1": 0.02, "alpha": 0.06, "a2": 60.0, "b2": 2.3, "beta": -0.13}
    k |= {"a3": -0.02, "b3": 1.1, "gamma": 0.17}
    assert_recovers("farseer", columns, farseer(columns, k), k, rtol=1e-3)


def test_m1_to_m4_are_recovered():
    """Alabdulmohsin et al. 2022; their M2 is `power`."""
    columns = curve()
    seen = columns["tokens"]
    assert_recovers("m1", columns, 5 * seen**-0.2, {"B": 5, "beta": 0.2})
    wanted = {"E": 0.3, "B": 5, "beta": 0.3}
    assert_recovers("power", columns, 0.3 + 5 * seen**-0.3, wanted)
    wanted = {"B": 3, "c": 0.3, "gamma": 1e-5}
    assert_recovers("m3", columns, 3 * (1 / seen + 1e-5) ** 0.3, wanted)


@pytest.mark.parametrize("alpha", [0.3, 0.8, 1.6])
def test_m4_is_recovered(alpha):
    columns = curve()

    def of(seen: float) -> float:
        def excess(loss: float) -> float:
            return (loss - 0.2) / (1.0 - loss) ** alpha - 40 * seen**-0.45

        return brentq(excess, 0.2 + 1e-15, 1 - 1e-15, xtol=1e-15)

    loss = np.array([of(seen) for seen in columns["tokens"]])
    wanted = {"E": 0.2, "E_0": 1.0, "B": 40, "c": 0.45, "alpha": alpha}
    assert_recovers("m4", columns, loss, wanted, rtol=1e-3)


def broken(seen, a, b, c_0, *breaks):
    loss = b * seen**-c_0
    for c, d, f in breaks:
        loss = loss * (1 + (seen / d) ** (1 / f)) ** (-c * f)
    return a + loss


@pytest.mark.parametrize(
    "breaks",
    [
        [(0.35, 3e5, 0.4)],
        [(-0.3, 3e5, 0.3)],
        [(0.35, 3e4, 0.4), (-0.2, 3e6, 0.3)],
        [(0.35, 3e4, 0.4), (-0.2, 3e6, 0.3), (0.3, 3e8, 0.3)],
    ],
)
def test_known_breaks_are_recovered(breaks):
    columns = curve(60, 1e10 if len(breaks) == 3 else 1e8)
    c_0 = 0.5 if breaks[0][0] < 0 else 0.1
    loss = broken(columns["tokens"], 0.02, 9.0, c_0, *breaks)
    wanted = {"a": 0.02, "b": 9.0, "c_0": c_0}
    for i, constants in enumerate(breaks, start=1):
        wanted |= dict(zip((f"c_{i}", f"d_{i}", f"f_{i}"), constants, strict=True))
    assert_recovers("bnsl", columns, loss, wanted, rtol=1e-3, breaks=len(breaks))


def joint_loss(columns, rho=1.3, slope=0.0, crossed=1.0, floor=0.2):
    """Family b uses its data rho times as well, with its exponent `slope` apart.

    The centre of the data is 10^10.5, where its multiplier is meant.
    """
    n, d = columns["params"], columns["tokens"] / 10**10.5
    b, e = columns["family"] == 1, columns["corpus"] == 1
    data = d * np.where(b, rho, 1.0) * np.where(b & e, crossed, 1.0)
    term = 0.35 * data ** -(0.3658 + slope * b) * np.where(e, 0.7**-0.3658, 1.0)
    return 1.8172 + floor * e + 482.01 / n**0.3478 + term


def test_nested_joint_laws_find_what_was_planted():
    columns = full_table()
    loss = joint_loss(columns, slope=0.1)
    found = recovered("joint", columns, loss, beta=("family",))
    assert found["beta"] == pytest.approx(0.3658, rel=1e-4)
    assert found["beta[b]"] == pytest.approx(0.4658, rel=1e-4)
    assert found["beta[c]"] == pytest.approx(0.3658, rel=1e-4)
    assert found["rhoD[b]"] == pytest.approx(1.3, rel=1e-4)
    assert found["rhoD[e]"] == pytest.approx(0.7, rel=1e-4)
    loss = joint_loss(columns, crossed=1.5)
    found = recovered("joint", columns, loss, crossed=("tokens",))
    assert found["rhoD[b]"] == pytest.approx(1.3, rel=1e-4)
    assert found["rhoD[b x e]"] == pytest.approx(1.5, rel=1e-4)
    assert found["rhoD[c x e]"] == pytest.approx(1.0, rel=1e-4)
    found = recovered("joint", columns, joint_loss(columns, floor=0.0), floor=())
    assert found["E"] == pytest.approx(1.8172, rel=1e-4)


@pytest.mark.parametrize(("k", "e"), [(0.6, 1.8172), (1.6, 1.8172), (0.6, 1e-3)])
def test_a_joint_law_under_an_outer_exponent_is_recovered(k, e):
    # Without a floor the bend between the terms still tells k from the exponents.
    columns = full_table()
    inner = joint_loss(columns, crossed=1.0, floor=0.0) - 1.8172
    loss = e * (1.0 + 0.1 * (columns["corpus"] == 1)) + 0.7 * (inner / 0.7) ** k
    found = recovered("joint_outer", columns, loss)
    assert found["k"] == pytest.approx(k, rel=1e-3)
    assert found["beta"] == pytest.approx(0.3658, rel=1e-3)
    assert found["rhoD[b]"] == pytest.approx(1.3, rel=1e-3)
    assert found["rhoD[e]"] == pytest.approx(0.7, rel=1e-3)
    assert found["rhoN[b]"] == pytest.approx(1.0, rel=1e-3)


def test_a_wider_joint_law_fits_no_worse():
    columns = full_table()
    rng = np.random.default_rng(0)
    loss = joint_loss(columns) * np.exp(0.01 * rng.normal(size=96))
    chains = [
        [{"floor": ()}, {}, {"floor": ("family", "corpus")}],
        [{}, {"alpha": ("family",)}, {"alpha": ("family", "corpus")}],
        [{}, {"crossed": ("tokens",)}, {"crossed": ("params", "tokens")}],
    ]
    for chain in chains:
        fits = [fit(bind("joint", columns, **o), columns, loss) for o in chain]
        values = [found.objective for found in fits if isinstance(found, Fit)]
        assert len(values) == 3 and np.diff(values).max() < 1e-9
        assert len({found.law.name for found in fits if isinstance(found, Fit)}) == 3


def test_wrong_options_are_named():
    columns = full_table()
    for name, options in (
        ("joint", {"alpha": ("size",)}),
        ("joint", {"floor": "corpus"}),
        ("joint", {"crossed": ("family",)}),
        ("bnsl", {"breaks": 0}),
        ("bnsl", {"breaks": 4}),
    ):
        with pytest.raises(UserError, match=next(iter(options))):
            bind(name, columns, **options)
