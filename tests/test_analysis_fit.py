"""Fits recover the laws that made their data, and refuse what no data could give."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis import laws
from analysis.fit import Fit, Refusal, fit, huber, minimise, refit

# Besiroglu et al. 2024: E, A, B, alpha, beta.
BESIROGLU = (1.8172, 482.01, 2085.43, 0.3478, 0.3658)
TABLES = os.environ.get("SCALING_TABLES", "")


def grid(sizes: int = 6, budgets: int = 6) -> dict[str, np.ndarray]:
    """A factorial design over three decades each, of one family and corpus."""
    params, tokens = np.meshgrid(
        np.geomspace(5e7, 2e10, sizes), np.geomspace(1e9, 1e12, budgets)
    )
    zeros = np.zeros(params.size, int)
    columns = {"params": params.ravel(), "tokens": tokens.ravel()}
    return columns | {"family": zeros, "corpus": zeros}


def bind(name, columns, families=("a",), corpora=("d",)):
    centre = {key: float(np.log(columns[key]).mean()) for key in ("params", "tokens")}
    levels = {"family": families, "corpus": corpora}
    return laws.load(name).bind(levels, centre)


def additive(columns, constants=BESIROGLU):
    e, a, b, alpha, beta = constants
    return e + a / columns["params"] ** alpha + b / columns["tokens"] ** beta


def named(found: Fit) -> dict[str, float]:
    return dict(zip(found.law.names, found.values, strict=True))


@pytest.mark.parametrize("delta", [1e-3, np.inf])
def test_chinchilla_constants_are_recovered(delta):
    columns = grid()
    law = bind("chinchilla", columns)
    found = fit(law, columns, additive(columns), delta=delta)
    assert isinstance(found, Fit)
    np.testing.assert_allclose(found.values, BESIROGLU, rtol=1e-5)
    assert found.agree > 0.5
    assert found.at_bound == ()


def test_outliers_move_huber_less_than_least_squares():
    columns = grid()
    loss = additive(columns)
    loss[[3, 17, 30]] *= 1.3
    law = bind("chinchilla", columns)
    robust = fit(law, columns, loss, delta=1e-3)
    squares = fit(law, columns, loss, delta=np.inf)
    wanted = BESIROGLU[3]
    assert abs(named(robust)["alpha"] - wanted) < 1e-3
    assert abs(named(squares)["alpha"] - wanted) > 1e-2


def joint_table(rho_family=1.3, rho_corpus=0.7, noise=0.0, seed=0):
    """3 families x 2 corpora x 4 sizes x 4 budgets with planted data multipliers."""
    rng = np.random.default_rng(seed)
    one = grid(4, 4)
    parts, losses = [], []
    for family, rho_a in enumerate((1.0, rho_family, 1.0)):
        for corpus, rho_d in enumerate((1.0, rho_corpus)):
            codes = {"family": family, "corpus": corpus}
            part = one | {k: np.full(16, v) for k, v in codes.items()}
            seen = part | {"tokens": part["tokens"] * rho_a * rho_d}
            loss = additive(seen) + 0.2 * corpus
            parts.append(part)
            losses.append(loss * np.exp(noise * rng.normal(size=16)))
    columns = {key: np.concatenate([p[key] for p in parts]) for key in parts[0]}
    return columns, np.concatenate(losses)


def test_joint_law_finds_planted_multipliers():
    columns, loss = joint_table()
    law = bind("joint", columns, ("a", "b", "c"), ("d", "e"))
    found = named(fit(law, columns, loss))
    assert found["rhoD[b]"] == pytest.approx(1.3, rel=1e-3)
    assert found["rhoD[e]"] == pytest.approx(0.7, rel=1e-3)
    assert found["rhoD[c]"] == pytest.approx(1.0, rel=1e-3)
    assert found["rhoN[b]"] == pytest.approx(1.0, rel=1e-3)
    assert found["rhoD[a]"] == found["rhoN[d]"] == 1.0
    assert found["E[e]"] - found["E[d]"] == pytest.approx(0.2, rel=1e-3)
    assert found["A"] == pytest.approx(BESIROGLU[1], rel=1e-2)
    assert found["beta"] == pytest.approx(BESIROGLU[4], rel=1e-3)


def refused(name, columns, loss) -> str:
    found = fit(bind(name, columns), columns, loss)
    assert isinstance(found, Refusal)
    return found.reason


def test_unidentifiable_designs_are_refused_with_the_reason():
    columns = grid()
    loss = additive(columns)
    few = columns["params"] < 3e8
    two = {key: values[few] for key, values in columns.items()}
    assert "params has 2 distinct levels" in refused("chinchilla", two, loss[few])
    sizes = np.geomspace(1e8, 1e10, 12)
    zeros = np.zeros(12, int)
    line = {"params": sizes, "tokens": 20.0 * sizes, "family": zeros, "corpus": zeros}
    assert "one line" in refused("chinchilla", line, additive(line))
    four = {key: values[[0, 7, 14, 21]] for key, values in columns.items()}
    assert "4 runs for 5" in refused("joint", four, loss[[0, 7, 14, 21]])


def test_a_family_with_one_run_leaves_its_multipliers_open():
    columns, loss = joint_table()
    smallest = columns["params"].min()
    budget = columns["tokens"].min()
    one = (columns["params"] == smallest) & (columns["tokens"] == budget)
    one &= columns["corpus"] == 0
    keep = (columns["family"] != 1) | one
    columns = {key: values[keep] for key, values in columns.items()}
    law = bind("joint", columns, ("a", "b", "c"), ("d", "e"))
    found = fit(law, columns, loss[keep])
    assert isinstance(found, Refusal)
    assert "rhoN[b]" in found.reason and "rhoD[b]" in found.reason


def test_a_parameter_at_its_bound_is_reported():
    columns = grid()
    found = fit(
        bind("chinchilla", columns),
        columns,
        additive(columns, (0.0, 482.01, 2085.43, 0.3478, 0.3658)),
    )
    assert "E" in found.at_bound


def test_huber_is_quadratic_then_linear():
    assert huber(np.array([0.5]), 1.0)[0] == 0.125
    assert huber(np.array([-3.0]), 1.0)[0] == 2.5
    assert huber(np.array([3.0]), np.inf)[0] == 4.5


def test_refit_with_weights_is_a_fit_of_the_repeated_rows():
    columns = grid()
    rng = np.random.default_rng(3)
    loss = additive(columns) * np.exp(0.01 * rng.normal(size=36))
    law = bind("chinchilla", columns)
    found = fit(law, columns, loss)
    weights = rng.multinomial(36, np.full(36, 1 / 36), size=4).astype(float)
    theta = refit(found, columns, loss, weights)
    for row, weight in zip(theta, weights, strict=True):
        rows = np.repeat(np.arange(36), weight.astype(int))
        repeated = {key: values[rows] for key, values in columns.items()}
        alone = fit(law, repeated, loss[rows])
        np.testing.assert_allclose(law.natural(row), alone.values, rtol=1e-3)


def test_a_draw_that_cannot_identify_the_law_has_no_estimate():
    columns = grid()
    loss = additive(columns)
    law = bind("chinchilla", columns)
    found = fit(law, columns, loss)
    weights = np.ones((2, 36))
    weights[1, columns["params"] > 3e8] = 0.0
    theta = refit(found, columns, loss, weights)
    assert np.isfinite(theta[0]).all() and np.isnan(theta[1]).all()


def test_descent_never_rises():
    columns, loss = joint_table(noise=0.02)
    law = bind("joint", columns, ("a", "b", "c"), ("d", "e"))
    starts = law.starts(columns, loss)[:5]
    weights = np.ones((5, loss.size))
    values = [
        minimise(law, columns, loss, weights, starts, 1e-3, iterations=k).objective
        for k in (0, 1, 3, 10, 40)
    ]
    assert (np.diff(values, axis=0) <= 0).all()
    assert (values[-1] < values[0]).all()


@pytest.mark.published
@pytest.mark.skipif(
    not (TABLES and Path(TABLES, "chinchilla_epoch.csv").is_file()),
    reason="set SCALING_TABLES to the folder with chinchilla_epoch.csv",
)
def test_published_chinchilla_table():
    frame = pd.read_csv(Path(TABLES, "chinchilla_epoch.csv"))
    frame = frame[frame.drop_in_reference_fit == 0]
    assert len(frame) == 240
    columns = {key: frame[key].to_numpy(float) for key in ("params", "tokens")}
    law = bind("chinchilla", columns)
    found = fit(law, columns, frame.loss.to_numpy())
    assert found.objective == pytest.approx(0.0010182740178, rel=1e-9)
    value = named(found)
    assert value["E"] == pytest.approx(1.8172, abs=1e-4)
    assert value["alpha"] == pytest.approx(0.3473, abs=1e-4)
    assert value["beta"] == pytest.approx(0.3672, abs=1e-4)
    weights = np.random.default_rng(0).multinomial(240, np.full(240, 1 / 240), 300)
    theta = refit(found, columns, frame.loss.to_numpy(), weights)
    low, high = np.percentile(law.natural(theta), [2.5, 97.5], axis=0)
    e, alpha, beta = (law.names.index(name) for name in ("E", "alpha", "beta"))
    ends = np.stack([low, high], axis=1)[[alpha, beta, e]]
    printed = [[0.317, 0.373], [0.331, 0.415], [1.769, 1.871]]
    np.testing.assert_allclose(ends, printed, atol=0.012)
