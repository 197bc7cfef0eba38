"""Intervals: what is drawn again, how residuals are inflated, and what they cover."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis import laws
from analysis.design.cells import (
    at_optimum,
    cells_frame,
    optima_frame,
    optimum,
    settings_frame,
    target_frame,
)
from analysis.design.settings import coded
from analysis.effects.data_equivalents import Equivalents
from analysis.fitting.fit import Fit, fit, log_gradient
from analysis.inference.intervals import (
    Sample,
    again,
    draw,
    interval,
    interval_of_share,
    left_out_residuals,
    mixture,
    new_run,
    part,
    sample,
    select,
    widening,
)
from analysis.questions import tuning
from analysis.surfaces.surfaces import joint_surfaces
from analysis.tables.load import from_frame
from scaling.errors import UserError
from tests.benchmarks.coverage import SCENARIOS, made, study, truth
from tests.support.made_surfaces import Truth


def one_cell() -> pd.DataFrame:
    """One cell with two rates of two seeds each, of trajectories of two runs."""
    base = {"family": "a", "corpus": "d", "size": 1.0, "params": 1.0, "tokens": 1.0}
    base |= {"unique_tokens": 1.0, "batch": 1.0}
    rows = [
        (0.1, 2.0, "t1"),
        (0.1, 3.0, "t2"),
        (0.2, 2.4, "t3"),
        (0.2, 2.4, "t3"),
    ]
    return pd.DataFrame(
        [
            base | {"learning_rate": r, "loss": x, "trajectory": t, "run_id": str(i)}
            for i, (r, x, t) in enumerate(rows)
        ]
    )


def trajectories() -> Sample:
    """Five cells; the same three trajectories run through all of them."""
    rows = [one_cell().assign(tokens=float(k + 1)) for k in range(5)]
    frame = pd.concat(rows, ignore_index=True)
    frame["run_id"] = [str(i) for i in range(len(frame))]
    return sample(frame)


def design(
    noise: float,
    seed: int = 0,
    sizes: int = 5,
    rates: tuple[float, ...] = (0.01,),
    budgets: int = 5,
) -> Sample:
    """One family and corpus on a grid; `rates` cost 0, 1%, 2%... of the loss."""
    rng = np.random.default_rng(seed)
    rows = []
    for params in np.geomspace(5e7, 2e10, sizes):
        for tokens in np.geomspace(1e9, 1e12, budgets):
            for k, rate in enumerate(rates):
                loss = 1.8 + 482 * params**-0.35 + 2085 * tokens**-0.37
                loss *= np.exp(0.01 * k + noise * rng.normal())
                row = {"params": params, "tokens": tokens, "learning_rate": rate}
                rows.append(row | {"loss": loss, "run_id": str(len(rows))})
    frame = pd.DataFrame(rows).assign(family="a", corpus="d", batch=1.0, seed=0)
    frame = frame.assign(size=frame.params, unique_tokens=frame.tokens)
    return sample(frame.assign(trajectory=frame.run_id))


def fitted_to(data: Sample, chosen=None, delta: float = np.inf, scale="log"):
    columns = {k: data.frame[k].to_numpy(float) for k in ("params", "tokens")}
    centre = {key: float(np.log(x).mean()) for key, x in columns.items()}
    law = laws.load("chinchilla").bind({"family": ("a",), "corpus": ("d",)}, centre)
    found = fit(law, columns, data.loss, chosen, delta, random_starts=0, scale=scale)
    assert isinstance(found, Fit)
    return found, columns


def test_a_share_of_none_or_all_is_not_known_for_certain():
    none, every = np.zeros(41), np.ones(41)
    assert interval_of_share(none, 256) == pytest.approx((0.0, 0.0143), abs=1e-4)
    assert interval_of_share(every, 256) == pytest.approx((0.9857, 1.0), abs=1e-4)
    some = np.append(0.1, np.linspace(-0.02, 0.2, 40))
    low, high = interval_of_share(some, 4)
    assert (low, high) == (0.0, interval(some[1:])[1])


def test_best_rate_is_selected_again_inside_a_draw():
    data = sample(one_cell())
    copies = np.array([[1, 1, 1, 1], [2, 0, 1, 1], [2, 1, 0, 0], [0, 1, 1, 1]])
    wanted = [[0, 0, 1, 1], [2, 0, 0, 0], [2, 1, 0, 0], [0, 0, 1, 1]]
    np.testing.assert_array_equal(select(data, copies.astype(float)), wanted)


def test_best_rate_follows_the_losses_of_a_draw():
    data = sample(one_cell())
    losses = np.array([[2.0, 2.0, 3.0, 3.0], [3.0, 3.0, 2.0, 2.0]])
    found = select(data, np.ones((2, 4)), losses)
    np.testing.assert_array_equal(found, [[1, 1, 0, 0], [0, 0, 1, 1]])


@pytest.mark.parametrize("scheme", ["wild", "pairs"])
def test_a_trajectory_is_drawn_as_one(scheme):
    data = trajectories()
    factors = draw(data, 200, 0, scheme).factors
    for trajectory in ("t1", "t2", "t3"):
        same = (data.frame.trajectory == trajectory).to_numpy()
        assert (factors[:, same] == factors[:, same][:, :1]).all()
    assert len(np.unique(factors, axis=0)) > 5


def test_pairs_keep_every_family_and_corpus():
    frames = []
    for family in ("a", "b"):
        one = design(0.01).frame.assign(family=family)
        frames.append(one.assign(run_id=family + one.run_id))
    frame = pd.concat(frames, ignore_index=True)
    data = sample(coded(frame.assign(trajectory=frame.run_id)))
    copies = draw(data, 50, 0, "pairs").factors
    for code in np.unique(data.stratum):
        assert (copies[:, data.stratum == code].sum(axis=1) == 25).all()


def test_few_trajectories_get_webbs_six_points():
    few = draw(trajectories(), 300)
    many = draw(design(0.01), 300)
    assert len(np.unique(few.factors)) == 6 and len(np.unique(many.factors)) == 2
    for drawn in (few, many):
        assert drawn.factors.mean() == pytest.approx(0.0, abs=0.1)
        assert (drawn.factors**2).mean() == pytest.approx(1.0, abs=0.1)


def test_unknown_scheme_is_the_users_mistake():
    with pytest.raises(UserError, match="bootstrap"):
        draw(trajectories(), 40, 0, "jackknife")


@pytest.mark.parametrize("scale", ["log", "raw"])
def test_left_out_residuals_are_those_of_fits_without_the_trajectory(scale):
    """Exact for least squares up to the curvature of the law."""
    data = design(0.003)
    found, columns = fitted_to(data, scale=scale)
    predicted = found.law.predict(found.theta, columns)
    raw = scale == "raw"
    residual = data.loss - predicted if raw else np.log(data.loss / predicted)
    for cluster in (np.arange(25), np.arange(25) // 3):
        quick = left_out_residuals(found, columns, residual, cluster, np.inf)
        jacobian = log_gradient(found.law, found.theta[None], columns)[0]
        jacobian *= predicted[:, None] if raw else 1.0
        for code in np.unique(cluster):
            out = cluster == code
            step = np.linalg.lstsq(jacobian[~out], residual[~out], rcond=None)[0]
            alone = residual[out] - jacobian[out] @ step
            np.testing.assert_allclose(quick[out], alone, atol=1e-7)


def test_left_out_residuals_lift_what_a_median_fit_passes_through():
    data = design(0.01)
    found, columns = fitted_to(data, delta=1e-6)
    residual = np.log(data.loss) - np.log(found.law.predict(found.theta, columns))
    through = np.abs(residual) < 1e-6
    assert through.sum() >= 4
    lifted = left_out_residuals(found, columns, residual, np.arange(25), 1e-6)
    assert np.median(np.abs(lifted[through])) > 1e-4
    assert (lifted[~through] * residual[~through] > 0).all()
    assert (np.abs(lifted) >= np.abs(residual)).mean() > 0.9


def test_draws_are_widened_by_students_t_where_their_spread_is_uncertain():
    residual = np.random.default_rng(0).normal(size=100)
    squares = widening(residual, 5, 100, np.inf)
    assert squares == pytest.approx(1.9853 / 1.95996, abs=1e-4)  # t of 95
    assert widening(residual, 5, 15, np.inf) == pytest.approx(
        2.2281 / 1.95996, abs=1e-4
    )
    medians = widening(residual, 5, 100, 1e-3)
    assert 1.05 < medians < 1.10
    assert widening(residual[:50], 5, 50, 1e-3) > medians
    assert np.isfinite(widening(np.ones(10), 5, 2, 1e-3))


def everything(data: Sample) -> np.ndarray:
    return np.ones(data.loss.size, bool)


def test_wild_draws_lie_around_the_curve_and_spread_as_the_residuals():
    data = design(0.01)
    found, columns = fitted_to(data)
    losses, weights = again(draw(data, 400), everything(data), found, columns, np.inf)
    curve = found.law.predict(found.theta, columns)
    assert (weights == 1.0).all()
    np.testing.assert_allclose(np.log(losses).mean(axis=0), np.log(curve), atol=2e-3)
    spread = (np.log(losses) - np.log(curve)).std()
    assert 0.009 < spread < 0.016


def test_wild_draws_of_a_raw_fit_spread_as_its_residuals_do():
    """Equal noise of every loss, large and small, and so of every draw."""
    data = design(0.0)
    rng = np.random.default_rng(1)
    data = dataclasses.replace(data, loss=data.loss + 0.03 * rng.normal(size=25))
    found, columns = fitted_to(data, scale="raw")
    losses, _ = again(draw(data, 400), everything(data), found, columns, np.inf)
    curve = found.law.predict(found.theta, columns)
    np.testing.assert_allclose(losses.mean(axis=0), curve, atol=8e-3)
    residual = data.loss - curve
    lifted = left_out_residuals(found, columns, residual, np.arange(25), np.inf)
    lifted *= widening(residual, 5, 25, np.inf)
    np.testing.assert_allclose((losses - curve).std(axis=0), np.abs(lifted), rtol=0.01)


@pytest.mark.parametrize("scale", ["log", "raw"])
def test_wild_draws_choose_among_new_losses_of_all_rates(scale):
    data = design(0.01, rates=(0.01, 0.02, 0.04))
    drawn = draw(data, 300)
    found, columns = fitted_to(data, drawn.chosen, scale=scale)
    losses, weights = again(drawn, everything(data), found, columns, np.inf)
    by_cell = np.add.reduceat(weights, np.arange(0, 75, 3), axis=1)
    assert (by_cell == 1.0).all()
    chosen = weights[:, drawn.chosen > 0].mean()
    assert 0.4 < chosen < 0.95
    best = losses[weights > 0].reshape(300, 25)
    lowest = losses.reshape(300, 25, 3).min(axis=2)
    np.testing.assert_array_equal(best, lowest)
    curve = found.law.predict(found.theta, columns)[::3]
    of = np.log if scale == "log" else np.asarray
    np.testing.assert_allclose(of(best).mean(axis=0), of(curve), atol=1e-9)


def test_a_part_of_the_sample_keeps_its_cells_and_draws():
    data = design(0.01, rates=(0.01, 0.02))
    rows = (data.frame.params > 1e9).to_numpy()
    mine = part(data, rows)
    assert mine.cell.max() + 1 == len(np.unique(data.cell[rows]))
    drawn = draw(data, 50, scheme="pairs")
    found, columns = fitted_to(data, drawn.chosen)
    some = {name: values[rows] for name, values in columns.items()}
    _, weights = again(drawn, rows, found, some, np.inf)
    np.testing.assert_array_equal(weights, select(data, drawn.factors)[:, rows])


def test_intervals_keep_infinity_and_leave_out_nan():
    draws = np.concatenate([np.arange(90.0), np.full(10, np.inf)])
    low, high = interval(draws)
    assert low == pytest.approx(2, abs=1) and np.isposinf(high)
    low, high = interval(np.concatenate([draws, np.full(50, np.nan)]))
    assert low == pytest.approx(2, abs=1) and np.isposinf(high)
    assert np.isnan(interval(np.full(100, np.nan))).all()


def test_a_new_run_is_wider_than_the_curve_by_a_runs_noise():
    rng = np.random.default_rng(0)
    curve = 3.0 * np.exp(0.01 * rng.normal(size=(4000, 1)))
    run = new_run(curve, 0.02 * rng.normal(size=500))
    assert np.log(curve).std() == pytest.approx(0.01, rel=0.05)
    assert np.log(run).std() == pytest.approx(np.hypot(0.01, 0.02), rel=0.08)


def test_a_mixture_of_laws_takes_each_by_its_weight():
    curves = np.stack([np.full((4000, 2), 2.0), np.full((4000, 2), 3.0)])
    found = mixture(curves, np.array([[0.25], [0.75]]))
    assert (found[:, 0] == found[:, 1]).all()
    assert (found == 3.0).mean() == 0.75
    found = mixture(curves, np.array([[0.25, 1.0], [0.75, 0.0]]))
    np.testing.assert_array_equal((found == 3.0).mean(axis=0), [0.75, 0.0])


RATES = np.array([0.005, 0.01, 0.02, 0.04])


def test_the_optimum_of_a_quadratic_in_the_log_rate_is_found():
    loss = np.exp(0.7 + 0.03 * np.log(RATES / 0.013) ** 2)
    rate, lowest, warning = optimum(RATES, loss)
    assert rate == pytest.approx(0.013) and lowest == pytest.approx(np.exp(0.7))
    assert warning == ""


def test_no_optimum_is_made_up():
    falling = 3.0 - np.log(RATES / RATES[0]) * 0.05
    rate, loss, warning = optimum(RATES, falling)
    assert warning in ("opens downward", "optimum outside the tried rates")
    assert (rate, loss) == (0.04, falling[-1])
    hill = np.array([2.0, 2.2, 2.3, 2.1])
    assert optimum(RATES, hill) == (0.005, 2.0, "opens downward")
    outside = np.exp(0.03 * np.log(RATES / 0.1) ** 2)
    assert optimum(RATES, outside)[::2] == (0.04, "optimum outside the tried rates")
    assert "2 of the 3" in optimum(RATES[:2], hill[:2])[2]


def tuned(best: float = 0.013) -> pd.DataFrame:
    """Two cells of four rates with two seeds each, and a cell with one rate."""
    rows = []
    for tokens in (1e6, 4e6, 16e6):
        for seed in (0, 1):
            for rate in RATES if tokens < 1e7 else RATES[:1]:
                loss = 3.0 - np.log(tokens) / 50 + 0.001 * seed
                loss *= np.exp(0.03 * np.log(rate / best) ** 2)
                row = {"params": 1e5, "tokens": tokens, "learning_rate": rate}
                rows.append(row | {"seed": seed, "loss": loss})
    table = from_frame(pd.DataFrame(rows), target="shared")
    return target_frame(table, table.targets[0])


def test_runs_move_to_the_optimum_of_their_cell():
    frame = tuned()
    moved = at_optimum(frame)
    assert len(moved) == 6
    wanted = [3.0 - np.log(t) / 50 + 0.001 * s for t in (1e6, 4e6) for s in (0, 1)]
    found = moved[moved.tokens < 1e7].sort_values(["tokens", "seed"]).loss
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    table = optima_frame(sample(frame), "t")
    assert len(table) == 2 and (table.warning == "").all()
    np.testing.assert_allclose(table.learning_rate, 0.013, rtol=1e-6)
    assert (table.loss < table.tried_loss).all()


def test_runs_without_an_optimum_stay_and_are_noted():
    frame = tuned(best=0.5)
    assert at_optimum(frame) is frame
    said = list(tuning.of_optima(optima_frame(sample(frame), "t")))
    assert len(said) == 1 and "2 of 2 cells" in said[0].text


def test_unequal_numbers_of_rates_are_noted():
    cells = cells_frame(sample(tuned()), "t")
    tried = settings_frame(sample(tuned()), "t")
    texts = [note.text for note in tuning.of_cells(cells, tried)]
    assert any("1 in 1 cell, 4 in 2 cells" in text for text in texts)
    same = tuning.of_cells(cells[cells.rates == 4], tried)
    assert not any("unequal numbers" in note.text for note in same)


def studies(name: str, count: int) -> list[dict]:
    return [study(name, number, 99, "wild") for number in range(count)]


def missed(name: str, found: list[dict], width: float = 1.0) -> np.ndarray:
    """How many intervals of alpha, beta and M_D leave the truth out, [3]."""
    out = np.zeros(3, int)
    for one in found:
        for k, (key, wanted) in enumerate(truth(SCENARIOS[name]).items()):
            best, low, high = one[key]
            low, high = best + width * (low - best), best + width * (high - best)
            out[k] += not low <= wanted <= high
    return out


def most(count: int) -> int:
    """Misses that a right 95% interval passes once in two thousand times."""
    return int(stats.binom.ppf(0.9995, count, 0.05))


def test_intervals_contain_what_was_planted():
    """32 made studies of 50 runs; the whole measurement is benchmarks/coverage.py."""
    found = studies("under 60 runs", 32)
    assert (missed("under 60 runs", found) <= most(32)).all()
    # Intervals of half the width are caught.
    assert (missed("under 60 runs", found, 0.5) > most(32)).any()


def test_a_planted_equality_is_rarely_called_a_difference():
    """M_D is planted at 1: an interval that leaves it out calls a difference."""
    assert missed("equality", studies("equality", 32))[2] <= most(32)


def test_made_studies_differ_from_the_fitted_law_as_their_scenario_says():
    """Heavy tails, gaps, correlated seeds, falling noise and another law."""

    def residuals(name):
        scenario = SCENARIOS[name]
        frame = made(scenario, np.random.default_rng(0))
        quiet = made(dataclasses.replace(scenario, noise=0.0), np.random.default_rng(0))
        return frame, np.log(frame.loss / quiet.loss).to_numpy()

    frame, heavy = residuals("heavy tails")
    assert sorted(frame.corpus.unique()) == ["d", "e"]
    assert 75 <= len(frame) <= 95
    spread = np.percentile(np.abs(heavy), 75) / stats.norm.ppf(0.875)
    assert np.abs(heavy).max() > 3.5 * spread
    frame, common = residuals("correlated seeds")
    pairs = frame.assign(left=common).groupby(
        ["family", "corpus", "params", "tokens"], sort=False
    )
    both = np.stack(pairs.left.apply(np.asarray).to_list())
    assert np.corrcoef(both.T)[0, 1] > 0.25
    frame, falls = residuals("shrinking noise")
    order = np.argsort(frame.params * frame.tokens)
    low, high = np.abs(falls)[order[:30]].mean(), np.abs(falls)[order[-30:]].mean()
    assert low > 2.0 * high


def test_seeds_that_share_their_noise_tell_no_more_than_one():
    one = Truth(rhoD={"b": 1.5}).runs(noise=0.005)
    width = {}
    for seeds in (1, 4):
        runs = pd.concat([one.assign(seed=seed) for seed in range(seeds)])
        table = from_frame(runs, target="shared")
        surfaces = joint_surfaces(target_frame(table, "loss"), 100, 0, 1e-3)
        assert surfaces.data.frame.shape[0] == seeds * len(one)
        model = Equivalents(surfaces.of_joint, [(72e3, 6e6)])
        low, high = interval(model.log_factors(("a", "code"), ("b", "code"))[1:, 0])
        width[seeds] = float(high - low)
    # Drawn one by one, four copies of a run would halve the interval.
    assert width[4] > 0.75 * width[1]


def test_seeds_of_longer_trajectories_stay_with_these():
    runs = Truth().runs().head(5)  # the budgets of one size
    runs = pd.concat([runs.assign(seed=seed) for seed in (0, 1)], ignore_index=True)
    frame = target_frame(from_frame(runs, target="shared"), "loss")
    alone = sample(frame)
    assert len(np.unique(alone.cluster)) == 5
    seed = frame.groupby("tokens").cumcount().astype(str)
    long = sample(frame.assign(trajectory=seed + frame.params.astype(str)))
    assert len(np.unique(long.cluster)) == 2
