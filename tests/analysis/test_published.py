"""Figures that others printed about their runs, from the runs themselves.

The tables are not part of the project: set SCALING_TABLES to their folder. Each test
says which figure it meets and how closely; where an estimator of a paper is not ours,
its recipe is written out here.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.interpolate import Akima1DInterpolator

from analysis.fitting.fit import Fit, huber, minimise, refit
from analysis.surfaces import best_sizes
from tests.support.published_tables import MARKS, columns_of, fitted, named, table

pytestmark = MARKS

# By default L-BFGS-B ends where a step wins less than 2.2e-9 times the objective or 1,
# whichever is more; these objectives are about .002.
LBFGS_BLIND = 2.2e-9


def percent_off(found: Fit, frame: pd.DataFrame) -> np.ndarray:
    predicted = found.law.predict(found.theta, columns_of(frame))
    return 100 * np.abs(predicted / frame.loss.to_numpy() - 1)


@pytest.fixture(scope="module")
def all_points() -> pd.DataFrame:
    frame = table("chinchilla_epoch.csv")
    assert len(frame) == 245
    return frame


@pytest.fixture(scope="module")
def points(all_points) -> pd.DataFrame:
    kept = all_points[all_points.drop_in_reference_fit == 0]
    assert len(kept) == 240
    return kept.reset_index(drop=True)


@pytest.fixture(scope="module")
def best(points) -> Fit:
    return fitted("chinchilla", points)


@pytest.fixture(scope="module")
def draws(points, best) -> np.ndarray:
    weights = np.random.default_rng(0).multinomial(240, np.full(240, 1 / 240), 400)
    return refit(best, columns_of(points), points.loss.to_numpy(), weights)


class TestChinchilla:
    """Besiroglu et al. 2024, and the lowest objective that is known."""

    def test_reference_fit(self, best):
        assert best.objective == pytest.approx(0.0010182740178, rel=1e-9)
        value = named(best)
        assert value["E"] == pytest.approx(1.8172, abs=5e-5)
        assert value["alpha"] == pytest.approx(0.3473, abs=5e-5)
        assert value["beta"] == pytest.approx(0.3672, abs=5e-5)
        # Printed from a slightly higher end of the same valley; standard errors apart.
        printed = {"A": (482.01, 124.5), "B": (2085.43, 1293), "E": (1.8172, 0.026)}
        printed |= {"alpha": (0.3478, 0.015), "beta": (0.3658, 0.021)}
        for name, (centre, error) in printed.items():
            assert abs(value[name] - centre) < 0.1 * error, name

    def test_reference_intervals(self, best, draws):
        values = best.law.natural(draws)
        low, high = np.percentile(values, [2.5, 97.5], axis=0)
        printed = {"alpha": (0.317, 0.373), "beta": (0.331, 0.415), "E": (1.769, 1.871)}
        for name, ends in printed.items():
            i = best.law.names.index(name)
            np.testing.assert_allclose([low[i], high[i]], ends, atol=0.012)

    def test_all_points(self, all_points):
        found = fitted("chinchilla", all_points)
        value = named(found)
        assert value["alpha"] == pytest.approx(0.3493, abs=5e-5)
        assert value["E"] == pytest.approx(1.8913, abs=5e-5)
        # Printed .4531. The lowest objective is at .453049: with beta held at .4531 the
        # least over all others is higher, by less than L-BFGS-B can see.
        assert value["beta"] == pytest.approx(0.453049, abs=5e-7)
        columns, loss = columns_of(all_points), all_points.loss.to_numpy()
        theta = found.theta[None].copy()
        beta = found.law.names.index("beta")
        theta[:, beta] = 0.4531
        held = np.arange(theta.shape[1]) == beta
        weights = np.ones((1, loss.size))
        at = minimise(
            found.law, columns, loss, weights, theta, 1e-3, frozen=held
        ).objective[0]
        assert found.objective < at < found.objective + LBFGS_BLIND

    def test_extrapolation(self, points):
        small = points.flops < 1e20
        assert small.sum() == 136
        off = percent_off(fitted("chinchilla", points[small]), points[~small])
        assert off.mean() == pytest.approx(0.890, abs=5e-4)
        assert off.max() == pytest.approx(4.09, abs=5e-3)

    def test_the_constants_that_hoffmann_et_al_print_are_rejected(
        self, points, best, draws
    ):
        """No bootstrap optimum is as far up the objective as their constants are."""
        columns, loss = columns_of(points), points.loss.to_numpy()
        n, d = columns["params"], columns["tokens"]
        printed = 1.69 + 406.4 / n**0.34 + 410.7 / d**0.28
        theirs = float(huber(np.log(printed / loss), 1e-3).sum())
        residual = np.log(best.law.predict(draws, columns) / loss)
        ours = huber(residual, 1e-3).sum(axis=1)
        assert theirs > 2 * best.objective
        assert theirs > ours.max()


class TestGadre:
    """Gadre et al. 2024: five small runs predict two large ones."""

    def test_relative_errors(self):
        frame = table("gadre_overtraining.csv")
        frame = frame[(frame.corpus == "rpj") & (frame.eval_set == "c4_val")]
        sizes = sorted(frame.params.unique())
        small = frame.params.isin(sizes[:4]) & (frame.token_multiplier == 20)
        small |= (frame.params == sizes[0]) & (frame.token_multiplier == 320)
        assert small.sum() == 5
        options = {"delta": np.inf, "scale": "raw"}
        found = fitted("chinchilla_tied", frame[small], **options)
        for size, multiplier, error in (
            (sizes[4], 640, 0.7103),
            (sizes[5], 20, 0.7320),
        ):
            row = (frame.params == size) & (frame.token_multiplier == multiplier)
            assert row.sum() == 1
            off = percent_off(found, frame[row])[0]
            assert off == pytest.approx(error, abs=5e-5)


def gemstones_objective(frame: pd.DataFrame, row: pd.Series) -> float:
    """Of a published fit in N and D, on its runs."""
    terms = [
        np.full(len(frame), row.log_E),
        row.logcoef_params - row.exp_params * np.log(frame.params),
        row.logcoef_tokens - row.exp_tokens * np.log(frame.tokens),
    ]
    residual = np.logaddexp.reduce(np.array(terms)) - np.log(frame.loss)
    return float(huber(residual.to_numpy(), row.huber_delta).sum())


class TestGemstones:
    """McLeish et al. 2025, the fits in N and D."""

    def test_hot_fit(self):
        frame = table("gemstones.csv")
        frame = frame[frame.subset == "hot"]
        assert len(frame) == 220
        found = fitted("chinchilla", frame)
        value = named(found)
        assert found.objective == pytest.approx(0.0019816, abs=5e-8)
        assert value["alpha"] == pytest.approx(0.2929, abs=5e-5)
        assert np.log(value["E"]) == pytest.approx(0.7623, abs=5e-5)
        # Printed .712872. The lowest objective is at .712979, and below that of the
        # printed fit by less than L-BFGS-B, which they use too, can see.
        assert value["beta"] == pytest.approx(0.712979, abs=5e-7)
        published = table("gemstones_published_fits.csv")
        row = published[(published.subset == "hot") & (published.form == "parameters")]
        theirs = gemstones_objective(frame, row[row.huber_delta == 1e-3].iloc[0])
        assert found.objective < theirs < found.objective + LBFGS_BLIND

    @pytest.mark.parametrize("delta", [1e-3, 1e-4])
    @pytest.mark.parametrize("subset", ["cool_begin", "cool_end", "lr_ablation_hot"])
    def test_no_published_fit_is_lower_than_ours(self, subset, delta):
        published = table("gemstones_published_fits.csv")
        row = published[
            (published.subset == subset)
            & (published.form == "parameters")
            & (published.huber_delta == delta)
        ].iloc[0]
        frame = table("gemstones.csv")
        frame = frame[frame.subset == subset]
        found = fitted("chinchilla", frame, delta=delta)
        theirs = gemstones_objective(frame, row)
        assert theirs == pytest.approx(row.objective, rel=1e-5)
        assert found.objective <= theirs * (1 + 1e-9)


class TestClark:
    """Clark et al. 2022: routing families on the same size and number of experts."""

    @pytest.mark.parametrize(
        ("family", "effect", "pairs", "always"),
        [("Hash", 0.0206, 51, True), ("RL-R", 0.0041, 53, False)],
    )
    def test_paired_effects(self, family, effect, pairs, always):
        frame = table("clark_routing_final.csv")
        # One expert a token in every second layer, as in the paper's main grid.
        frame = frame[(frame.k == 1) & (frame.routing_frequency == 0.5)]
        cells = frame.groupby(["params", "num_experts", "family"]).loss.mean().unstack()
        ratio = np.log(cells[family] / cells["S-Base"]).dropna()
        assert len(ratio) == pairs
        assert ratio.mean() == pytest.approx(effect, abs=5e-5)
        assert (ratio > 0).all() == always


PORIAN = {
    "rw_base_long_kaplan_kaplan_train": 0.835,
    "rw_base_long_kaplan_standard_val": 0.706,
    "rw_base_short_kaplan_standard_val": 0.602,
    "rw_base_short_chinchilla_standard_val": 0.572,
    "rw_tuned_short_const_standard_val": 0.497,
    "owt2_base_long_kaplan_kaplan_train": 0.863,
    "owt2_base_long_kaplan_standard_val": 0.699,
    "owt2_base_short_kaplan_standard_val": 0.603,
    "owt2_base_short_chinchilla_standard_val": 0.574,
    "owt2_tuned_short_const_standard_val": 0.519,
}


def least(x, losses) -> tuple[np.ndarray, float]:
    """Lowest points inside a spline through each row of losses, and the grid's step."""
    order = np.argsort(x)
    fine = np.geomspace(x.min(), x.max(), 25 * (x.size - 1))
    spline = Akima1DInterpolator(np.log(x[order]), np.log(losses[:, order]), axis=1)
    row = spline(np.log(fine)).argmin(axis=1)
    inner = (row > 0) & (row < fine.size - 1)
    return fine[row[inner]], float(np.log(fine[1] / fine[0]))


def porian_recipe(frame, noise, random, draws: int = 1000) -> float:
    """The exponent of N*, from optima that are medians over draws of the noise."""
    flops, medians, spreads = [], [], []
    for of, part in frame.groupby(frame.flops.round(-8)):
        if len(part) < 3:
            continue
        part = part.loc[part.groupby("params").loss.idxmin()]
        size, loss = part.params.to_numpy(float), part.loss.to_numpy()
        shaken = loss + noise * random.normal(size=(draws, size.size))
        random.normal(size=(draws, size.size))  # theirs of the tokens
        found, step = least(size, shaken)
        if found.size >= draws / 2:
            spread = max(np.std(np.log(found)), 0.33 * 25 * step)
            flops.append(of)
            medians.append(np.median(found))
            spreads.append(spread * draws / found.size)
    weights = 1 / np.array(spreads)
    return np.polyfit(np.log(flops), np.log(medians), 1, w=weights)[0]


class TestPorian:
    """Porian et al. 2024, the fit named bs_median_weighted.

    Optima are medians over 1,000 draws of seed noise, whose standard deviation the
    authors took as .002 nats on RefinedWeb and .01 on OpenWebText2.
    """

    @pytest.mark.parametrize("corpus", ["rw", "owt2"])
    def test_exponents_by_the_published_draws(self, corpus):
        """To every digit: one generator of seed 42 runs through the experiments."""
        frame = table("porian_isoflop.csv")
        published = table("porian_published_fits.csv").set_index(["experiment", "fit"])
        random = np.random.RandomState(42)
        noise = 0.01 if corpus == "owt2" else 0.002
        for experiment, printed in PORIAN.items():
            if not experiment.startswith(corpus):
                continue
            part = frame[frame.experiment == experiment]
            exponent = porian_recipe(part, noise, random)
            row = published.loc[(experiment, "bs_median_weighted")]
            assert exponent == pytest.approx(row.n_exponent, rel=1e-9), experiment
            assert exponent == pytest.approx(printed, abs=6e-4), experiment

    @pytest.mark.parametrize("experiment", list(PORIAN))
    def test_exponents(self, experiment):
        """Draws of our own move a median along the grid, and so the exponent.

        On RefinedWeb in the first experiment alone, to .8366 from .8353: of 20,000
        draws at its largest budget 47% lie at or below the published median, 53% at or
        above the next point of the grid, 1.6% larger. On OpenWebText2, whose noise is
        five times that, by up to .0017.
        """
        frame = table("porian_isoflop.csv")
        frame = frame[frame.experiment == experiment]
        published = table("porian_published_fits.csv").set_index(["experiment", "fit"])
        row = published.loc[(experiment, "bs_median_weighted")]
        open_text = experiment.startswith("owt2")
        noise = 0.01 if open_text else 0.002
        tolerance = 0.002 if open_text else 0.0015

        def deviation(loss):
            return np.full_like(loss, noise)

        found = best_sizes.interpolation(frame, deviation, draws=4000)
        assert found.params is not None
        assert found.params.exponent == pytest.approx(row.n_exponent, abs=tolerance)
        ends = (found.params.low, found.params.high)
        published_ends = (row.n_exponent_lo95, row.n_exponent_hi95)
        np.testing.assert_allclose(ends, published_ends, atol=0.006)
