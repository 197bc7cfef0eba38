"""Profile likelihoods: against refits one by one, a linear model and the bootstrap."""

import dataclasses
import types
import warnings

import numpy as np
import pytest
from scipy import optimize

from analysis import laws
from analysis.design.cells import target_frame
from analysis.fitting.descent import Descent
from analysis.fitting.fit import huber, minimise
from analysis.inference import profiles
from analysis.inference.intervals import interval
from analysis.inference.likelihood import Likelihood, log_likelihood
from analysis.inference.profiles import profile
from analysis.surfaces.nested import likelihood_of
from analysis.surfaces.surfaces import joint_surfaces
from analysis.tables.load import from_frame
from scaling.errors import UserError
from tests.analysis.test_likelihood import model, study
from tests.support.made_surfaces import Truth


def drop_of(found: Likelihood, objective: float) -> float:
    """Twice the log likelihood lost by an objective, for independent runs."""
    value = log_likelihood(np.array(objective), found.runs, found.delta)
    return max(0.0, 2.0 * (found.value - float(value)))


def pinned(found: Likelihood, index: int, value: float) -> float:
    """The objective with a coordinate pinned, from the fit and 60 places about it."""
    law = found.fit.law
    bounds = list(law.parameters)
    bounds[index] = bounds[index]._replace(low=value, high=value)
    rng = np.random.default_rng(0)
    starts = found.fit.theta + 0.2 * rng.normal(size=(61, found.fit.theta.size))
    starts[0] = found.fit.theta
    alone = dataclasses.replace(law, parameters=tuple(bounds))
    ones = np.ones((61, found.runs))
    wide = minimise(alone, found.columns, found.loss, ones, starts, 0.03).theta
    both = np.concatenate([starts, wide])
    ones = np.ones((122, found.runs))
    end = minimise(alone, found.columns, found.loss, ones, both, found.delta)
    return float(end.objective.min())


@pytest.mark.parametrize("delta", [1e-3, np.inf])
def test_points_of_a_profile_are_refits_one_by_one(delta):
    found = model("joint", *study(bend=1.0, delta=delta, seed=3))
    index = found.fit.law.names.index("alpha")
    frame = profile(found, ["alpha"])
    assert (frame["drop"] == 0.0).sum() == 1
    for row in frame.itertuples():
        wanted = drop_of(found, pinned(found, index, row.value))
        assert row.drop == pytest.approx(wanted, rel=0.01, abs=0.01)


def test_a_multiplier_is_held_itself_and_not_its_coordinate():
    """By a search that knows neither the law's coordinates nor its derivatives."""
    found = model("joint", *study(bend=1.0, seed=3))
    columns, loss = found.columns, np.log(found.loss)
    frame = profile(found, ["rhoD[b]"])

    def objective(rest, rho):
        E, A, alpha, B, beta, rhoN = np.exp(rest)
        second = columns["family"] == 1
        size = np.where(second, rhoN, 1.0) * columns["params"] / 1e9
        data = np.where(second, rho, 1.0) * columns["tokens"] / 3e10
        fitted = E + A * size**-alpha + B * data**-beta
        return float(huber(np.log(fitted) - loss, found.delta).sum())

    start = np.log([1.8, 482 * 1e9**-0.35, 0.35, 2085 * 3e10**-0.37, 0.37, 1.0])
    options = {"xatol": 1e-7, "fatol": 1e-12, "maxiter": 6000, "maxfev": 6000}
    for row in frame.iloc[[0, -1]].itertuples():
        end = optimize.minimize(
            objective, start, (row.value,), method="Nelder-Mead", options=options
        )
        assert row.drop == pytest.approx(drop_of(found, end.fun), rel=0.01)


@pytest.mark.parametrize("delta", [1e-3, np.inf])
def test_ends_are_where_the_drop_passes_the_threshold(delta):
    found = model("joint", *study(bend=1.0, delta=delta, seed=3))
    frame = profile(found, ["alpha", "rhoD[b]"], draws=100)
    assert (frame.rule == "parametric bootstrap").all()
    for name, truth in (("alpha", 0.35), ("rhoD[b]", 1.5)):
        part = frame[frame.parameter == name]
        low, high = part.low.iloc[0], part.high.iloc[0]
        best = found.fit.values[found.fit.law.names.index(name)]
        assert low < best < high and low < truth < high
        inside = (part.value > low) & (part.value < high)
        assert (part["drop"][inside] <= part.threshold[inside] * 1.02).all()
        # No further than the first point beyond each end.
        assert (~inside).sum() <= 4
        # Near the chi-squared threshold of 3.84, above it with few runs.
        assert 3.0 < part.threshold.iloc[0] < 8.0


def test_profile_of_a_linear_parameter_is_students_interval():
    """With exponents known well the profile of E is nearly that of a linear model."""
    columns, loss, clusters, delta = study(noise=1e-5)
    found = model("chinchilla", columns, loss, clusters, delta)
    frame = profile(found, ["E"])
    assert (frame.rule == "F").all()
    jacobian = found.fit.law.log_gradient(found.fit.theta[None], columns)[0]
    variance = float(np.sum(found.residuals**2)) / 45
    se = np.sqrt(variance * np.linalg.inv(jacobian.T @ jacobian)[0, 0])
    best = found.fit.values[0]
    reach = best * se * 2.0141  # t of 45 degrees of freedom
    assert frame.high.iloc[0] == pytest.approx(best + reach, abs=0.01 * reach)
    assert frame.low.iloc[0] == pytest.approx(best - reach, abs=0.01 * reach)


def test_interval_is_near_the_bootstraps():
    made = Truth(rhoD={"b": 1.4}).runs(noise=0.004, seed=2)
    loaded = from_frame(made, target="shared")
    frame = target_frame(loaded, loaded.targets[0])
    surfaces = joint_surfaces(frame, 400, 0, np.inf)
    law, fitted = surfaces.joint.law, surfaces.joint.outcome
    low, high = interval(law.natural(surfaces.joint.theta[1:]))
    found = likelihood_of(surfaces.joint, surfaces.draws, np.inf)
    for name in ("alpha", "beta", "rhoD[b]"):
        k = law.names.index(name)
        row = profile(found, [name], draws=200).iloc[0]
        wide = high[k] - low[k]
        assert row.low == pytest.approx(low[k], abs=0.25 * wide)
        assert row.high == pytest.approx(high[k], abs=0.25 * wide)
        assert row.high - row.low == pytest.approx(wide, rel=0.3)
        assert low[k] < fitted.values[k] < high[k]


def test_a_parameter_that_the_runs_leave_open_has_no_end():
    """A term that is lost in the noise: as good as a floor, down to beta's bound."""
    columns, _, clusters, delta = study()
    rng = np.random.default_rng(0)
    loss = 1.8 + 482 * columns["params"] ** -0.35 + 1e-4 * columns["tokens"] ** -0.01
    found = model(
        "chinchilla",
        columns,
        loss * np.exp(0.01 * rng.normal(size=50)),
        clusters,
        delta,
    )
    row = profile(found, ["beta"]).iloc[0]
    assert np.isnan(row.low) and row.high < 3.0


def test_an_exponent_is_held_at_values_far_below_the_fitted_one():
    """The way there is not past zero, where an exponent has no logarithm."""
    law = laws.load("chinchilla_outer").bind({}, {"params": 10.0, "tokens": 12.0})
    index = law.names.index("alpha")
    fitted = np.array([0.5, 1.0, 1.0, 0.6, 0.3, np.log(0.5)])
    held = profiles.by_value(law, index, fitted)
    theta = np.tile(fitted, (5, 1))
    values = np.array([1e-3, 0.01, 0.2, 1.2, 40.0])
    theta[:, index] = np.log(values)
    theta[:, -1] = np.log(np.linspace(0.2, 3.0, 5))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_allclose(held.natural(theta)[:, index], values)


def test_wrong_wishes_are_the_users_mistakes():
    found = model("chinchilla", *study())
    with pytest.raises(UserError, match="parameter"):
        profile(found, ["gamma"])
    with pytest.raises(UserError, match="draws"):
        profile(found, ["alpha"], draws=3)


def test_a_problem_without_derivatives_takes_no_step_and_harms_no_other():
    """Of some patterns of no numbers among zeros LAPACK says that they are singular."""
    frozen = np.zeros(21, bool)
    frozen[[1, 2, 3, 11, 13, 15, 18, 20]] = True
    hessian = np.stack([np.full((21, 21), np.nan), 2.0 * np.eye(21)])
    gradient = np.stack([np.full(21, np.nan), np.ones(21)])
    engine = types.SimpleNamespace(
        _delta=np.inf,
        _frozen=frozen,
        _low=np.full(21, -9.0),
        _high=np.full(21, 9.0),
        _shape=types.SimpleNamespace(derivatives=lambda *_: (gradient, hessian)),
    )
    some = np.ones((2, 4))
    step = Descent._step(engine, np.zeros((2, 21)), some, (), some, np.zeros(2))[1]
    assert not step[0].any()
    np.testing.assert_allclose(step[1], np.where(frozen, 0.0, 0.5), rtol=1e-6)
