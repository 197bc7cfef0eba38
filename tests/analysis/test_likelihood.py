"""The likelihood of Huber's objective: its density, criteria and ratios."""

import numpy as np
import pytest
from scipy import integrate

from analysis import laws
from analysis.fitting.fit import Fit, fit, huber
from analysis.inference.likelihood import (
    Likelihood,
    compare,
    density_variance,
    likelihood,
    log_normaliser,
    profile_scale,
    quantile,
    ratio_test,
    seed_check,
    simulate,
    within_correlation,
)
from scaling.errors import UserError

# Laplace's almost, both, the Gaussian's almost, and the Gaussian's.
SHAPES = [(1e-3, 1e-5), (1e-2, 1e-4), (3e-2, 1e-4), (np.inf, 1e-4)]


def integral(function, delta, scale) -> float:
    wide = 20 * np.sqrt(scale) + (40 * scale / delta if np.isfinite(delta) else 0.0)
    x = np.linspace(-wide, wide, 800_001)
    return float(integrate.trapezoid(function(x) * np.exp(-huber(x, delta) / scale), x))


@pytest.mark.parametrize(("delta", "scale"), SHAPES)
def test_the_closed_forms_are_the_integrals(delta, scale):
    total = integral(np.ones_like, delta, scale)
    assert log_normaliser(delta, scale) == pytest.approx(np.log(total), rel=1e-6)
    square = integral(np.square, delta, scale) / total
    assert density_variance(delta, scale) == pytest.approx(square, rel=1e-5)


@pytest.mark.parametrize(("delta", "scale"), SHAPES)
def test_quantiles_invert_the_distribution(delta, scale):
    total = integral(np.ones_like, delta, scale)
    for probability in (0.001, 0.1, 0.4, 0.5, 0.7, 0.99):
        x = float(quantile(delta, scale, np.array(probability)))
        below = integral(lambda r, x=x: (r <= x) * 1.0, delta, scale) / total
        assert below == pytest.approx(probability, abs=1e-4)


@pytest.mark.parametrize(("delta", "scale"), SHAPES)
def test_the_profiled_scale_has_the_highest_likelihood(delta, scale):
    rng = np.random.default_rng(0)
    residual = quantile(delta, scale, rng.random(20_000))
    mean = float(huber(residual, delta).mean())
    found = float(profile_scale(mean, delta))
    assert found == pytest.approx(scale, rel=0.04)

    def value(s):
        return -float(log_normaliser(delta, s)) - mean / s

    assert value(found) >= max(value(found * 1.01), value(found / 1.01))


def study(law: str = "chinchilla", noise=0.01, delta=np.inf, seed=0, bend=0.0, per=1):
    """A likelihood on 5 sizes x 5 budgets x 2 seeds; `bend` adds a family's own E."""
    rng = np.random.default_rng(seed)
    params, tokens, family = (
        x.ravel()
        for x in np.meshgrid(
            np.geomspace(5e7, 2e10, 5), np.geomspace(1e9, 1e12, 5), [0, 1]
        )
    )
    columns = {"params": params, "tokens": tokens, "family": family.astype(int)}
    columns["corpus"] = np.zeros(params.size, int)
    loss = 1.8 + 482 * params**-0.35 + 2085 * (tokens * 1.5 ** (bend * family)) ** -0.37
    clusters = np.arange(params.size) // per
    shared = rng.normal(size=params.size)[clusters] if per > 1 else 0.0
    own = rng.normal(size=params.size) * (0.3 if per > 1 else 1.0)
    return columns, loss * np.exp(noise * (own + shared)), clusters, delta


def model(law: str, columns, loss, clusters, delta) -> Likelihood:
    centre = {k: float(np.log(columns[k]).mean()) for k in ("params", "tokens")}
    bound = laws.load(law).bind({"family": ("a", "b"), "corpus": ("d",)}, centre)
    found = fit(bound, columns, loss, delta=delta, random_starts=0)
    assert isinstance(found, Fit)
    return likelihood(found, columns, loss, clusters, delta)


def test_least_squares_likelihood_is_the_normal_one():
    found = model("chinchilla", *study())
    mean = float(np.mean(found.residuals**2))
    assert found.scale == pytest.approx(mean, rel=1e-9)
    wanted = -25.0 * (np.log(2.0 * np.pi * mean) + 1.0)
    assert found.value == pytest.approx(wanted, rel=1e-9)
    k, n = 6, 50
    assert found.parameters == k
    extra = 2 * k * (k + 1) / (n - k - 1)
    assert found.aicc == pytest.approx(2 * k - 2 * wanted + extra, rel=1e-9)
    assert found.bic == pytest.approx(k * np.log(n) - 2 * wanted, rel=1e-9)


def test_criteria_count_trajectories_and_not_runs():
    columns, loss, _, delta = study()
    few = model("chinchilla", columns, loss, np.arange(50) // 5, delta)
    many = model("chinchilla", columns, loss, np.arange(50), delta)
    assert few.size == 10 and few.value == many.value
    assert few.aicc - many.aicc == pytest.approx(84 / 3 - 84 / 43)
    none = model("chinchilla", columns, loss, np.arange(50) // 10, delta)
    assert none.aicc == np.inf


def test_comparison_prefers_the_law_that_made_the_data():
    for bend, wanted in ((0.0, "chinchilla"), (1.0, "joint")):
        made = study(bend=bend, seed=1)
        frame = compare({name: model(name, *made) for name in ("joint", "chinchilla")})
        assert frame.law[0] == wanted
        assert frame.delta_aicc[0] == 0.0 and frame.weight.sum() == pytest.approx(1.0)
        assert (frame.aicc.diff()[1:] > 0).all()


def test_likelihoods_of_other_runs_do_not_compare():
    columns, loss, clusters, _ = study()
    one = model("chinchilla", columns, loss, clusters, np.inf)
    other = model("chinchilla", columns, loss * 1.01, clusters, np.inf)
    with pytest.raises(UserError, match="loss"):
        compare({"one": one, "other": other})
    with pytest.raises(UserError, match="delta"):
        ratio_test(one, model("chinchilla", columns, loss, clusters, 1e-3))
    with pytest.raises(UserError, match="draws"):
        ratio_test(one, one, draws=3)


@pytest.mark.parametrize("delta", [1e-3, np.inf])
def test_ratio_finds_what_is_there_and_not_what_is_not(delta):
    for bend in (0.0, 1.0):
        made = study(bend=bend, delta=delta, seed=1)
        found = ratio_test(model("chinchilla", *made), model("joint", *made), 200)
        assert found.draws == 200
        if bend:
            assert found.p == pytest.approx(1 / 201) and found.statistic > 20
        else:
            assert found.p > 0.05 and found.statistic < found.threshold
        # Two more parameters: near the chi-squared threshold of 5.99.
        assert 4.5 < found.threshold < 9.0


def test_ratio_rejects_the_smaller_law_at_the_stated_rate():
    """60 made studies of which each is rejected at 5%: nine or more has p 0.3%."""
    rejected = 0
    for seed in range(60):
        made = study(seed=100 + seed)
        small, large = (model(name, *made) for name in ("chinchilla", "joint"))
        rejected += ratio_test(small, large, 99, seed).p <= 0.05
    assert rejected < 9


def test_simulation_repeats_the_correlation_within_trajectories():
    found = model("chinchilla", *study(per=5))
    codes = np.arange(50) // 5
    shared = within_correlation(found.residuals, codes)
    assert 0.5 < shared < 0.99
    drawn = simulate(found, 4000, 0)
    assert np.var(drawn) == pytest.approx(found.sd**2, rel=0.05)
    within = np.corrcoef(drawn[:, 0], drawn[:, 1])[0, 1]
    assert within == pytest.approx(shared, abs=0.05)
    assert abs(np.corrcoef(drawn[:, 0], drawn[:, 5])[0, 1]) < 0.06
    alone = model("chinchilla", *study())
    assert within_correlation(alone.residuals, np.arange(50)) == 0.0


def test_seeds_check_the_density():
    columns, loss, clusters, delta = study()
    cell = np.arange(50) // 2  # both families of a point, alike here
    row = seed_check(model("chinchilla", columns, loss, clusters, delta), cell).iloc[0]
    assert row.freedom == 25 and row.low < 1.0 < row.high
    assert seed_check(model("chinchilla", *study()), np.arange(50)).empty


def test_lack_of_fit_shows_beside_the_seeds():
    columns, loss, _, delta = study(noise=0.002)
    columns = {k: np.tile(v, 2) for k, v in columns.items()}
    again = study(noise=0.002, seed=7)[1]
    bent = 1.0 + 0.01 * np.cos(np.log(columns["tokens"]))
    both = np.concatenate([loss, again]) * bent
    found = model("chinchilla", columns, both, np.arange(100), delta)
    row = seed_check(found, np.tile(np.arange(50), 2)).iloc[0]
    assert row.low > 1.5
