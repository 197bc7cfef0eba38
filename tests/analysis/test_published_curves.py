"""Learning curves whose ends others predicted, and their printed scores.

The tables are not part of the project: see test_published.py.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import least_squares, nnls

from analysis import laws
from analysis.fitting.fit import Fit, fit
from analysis.questions import learning_curves
from tests.support.published_tables import MARKS, geometric, table

pytestmark = MARKS


def m1_recipe(seen, loss):
    """A line through the logs."""
    slope, level = np.polyfit(np.log(seen), np.log(loss), 1)
    return lambda at: np.exp(level + slope * np.log(at))


def m2_recipe(seen, loss):
    """A line through ln (loss - e); e descends from just below the lowest loss.

    The residual is that of the excess, which has several minima in e: the published
    scores are of the one nearest to the lowest loss.
    """
    centre = np.log(seen).mean()
    x = np.log(seen) - centre
    top, steps = max(loss.min() - 1e-3, 0.0), 2000
    floors = np.linspace(top, 0.0, steps)
    for _ in range(3):
        logs = np.log(loss - floors[:, None])
        level, slope = logs.mean(axis=1), logs @ x / (x @ x)
        left = logs - level[:, None] - slope[:, None] * x
        rises = np.flatnonzero(np.diff((left**2).sum(axis=1)) > 0)
        i = rises[0] if rises.size else steps - 1
        e, b, c = floors[i], level[i], slope[i]
        width = floors[0] - floors[1]
        floors = np.linspace(min(e + width, top), max(e - width, 0.0), steps)
    return lambda at: e + np.exp(b + c * (np.log(at) - centre))


def m3_recipe(seen, loss, rounds: int = 10_000):
    """A line through the logs, and in turn the best gamma that meets some point."""
    gamma, b, c = 0.0, 1.0, -0.5
    for _ in range(rounds):
        before = b
        slope, level = np.polyfit(np.log(1 / seen + gamma), np.log(loss), 1)
        b, c = np.exp(level), max(0.0, slope)
        candidates = np.append(gamma, (loss / b) ** (1 / c) - 1 / seen)
        candidates = candidates[candidates >= 0]
        logs = np.log(b) + c * np.log(1 / seen + candidates[:, None])
        gamma = candidates[np.argmin(((logs - np.log(loss)) ** 2).sum(axis=1))]
        if abs(b - before) < 1e-10:
            break
    return lambda at: b * (1 / at + gamma) ** c


class M4Recipe:
    """Alternates a line through the logs with Newton's steps on the two asymptotes.

    All curves at once, since it needs thousands of turns: rows are padded with their
    last point at weight zero, and a curve whose B stands still is left alone.
    """

    TURNS, STEPS, RATE, MARGIN = 10_000, 25, 0.1, 1e-3

    def __init__(self, known):
        width = max(len(seen) for seen, _ in known)
        self.seen, self.loss = (
            np.array([np.pad(part, (0, width - len(part)), "edge") for part in parts])
            for parts in zip(*known, strict=True)
        )
        lengths = np.array([len(seen) for seen, _ in known])
        self.weight = (np.arange(width) < lengths[:, None]) / lengths[:, None]
        self.most = np.maximum(self.loss.min(axis=1) - self.MARGIN, 0.0)
        self.least = self.loss.max(axis=1) + self.MARGIN
        self.floor, self.start = self.most.copy(), np.maximum(1.0, self.least)
        self.lines = [
            np.stack([np.ones(n), -np.log(x[:n]), np.log(e_0 - y[:n])], axis=1)
            for x, y, n, e_0 in zip(
                self.seen, self.loss, lengths, self.start, strict=True
            )
        ]
        self.line = np.zeros((len(known), 3))
        moving = np.arange(len(known))
        for turn in range(self.TURNS):
            before = np.exp(self.line[moving, 0])
            for row in moving:
                n = lengths[row]
                excess = np.log(self.loss[row, :n] - self.floor[row])
                self.line[row] = nnls(self.lines[row], excess)[0]
            if turn >= 2:
                self._descend(moving)
            still = np.abs(np.exp(self.line[moving, 0]) - before) < 1e-8 * before
            moving = moving[~(still & (turn > 100))]

    def _descend(self, rows):
        """Moves both asymptotes of some curves, inside their margins."""
        y, w = self.loss[rows], self.weight[rows]
        b, c, alpha = self.line[rows].T[..., None]
        line = b - c * np.log(self.seen[rows])
        e, e_0 = self.floor[rows], self.start[rows]
        for _ in range(self.STEPS):
            above, below = y - e[:, None], e_0[:, None] - y
            residual = np.log(above) - alpha * np.log(below) - line
            slope = -(w * residual / above).sum(axis=1)
            bend = (w * (1 - residual) / above**2).sum(axis=1)
            slope_0 = -(alpha * w * residual / below).sum(axis=1)
            bend_0 = (alpha * w * (alpha + residual) / below**2).sum(axis=1)
            e = np.clip(e - self._step(slope, bend), 0.0, self.most[rows])
            e_0 = np.maximum(e_0 - self._step(slope_0, bend_0), self.least[rows])
        self.floor[rows], self.start[rows] = e, e_0

    def _step(self, slope, bend):
        steep = np.abs(bend) > 1e-5
        return np.where(steep, self.RATE * slope / np.where(steep, bend, 1.0), 0.0)

    def predict(self, row, at, points: int = 10_000):
        """Losses [k] at places of one curve: the nearest of a grid of them."""
        b, c, alpha = self.line[row]
        ratio = np.exp(b - c * np.log(at))[:, None]
        span = self.start[row] - self.floor[row]
        excess = np.linspace(0.0, span, points)
        miss = np.abs(excess - ratio * (span - excess) ** alpha)
        return self.floor[row] + excess[miss.argmin(axis=1)]


@pytest.fixture(scope="module")
def split() -> dict[tuple[str, str], tuple[pd.DataFrame, pd.DataFrame]]:
    frame = table("learning_curves_nsl.csv").sort_values("seen")
    parts = {key: part for key, part in frame.groupby(["domain", "curve_id"])}
    assert len(parts) == 56
    return {
        key: (part[part.train_split == 1], part[part.train_split == 0])
        for key, part in parts.items()
    }


def arrays(part: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    return part.seen.to_numpy(float), part.loss.to_numpy()


# The printed scores hold the change of the exponent within these bounds, ours wider.
MOST_CHANGE = 5.0


def one_break(seen, loss) -> Fit:
    """The one-break fit within the bounds of the printed scores."""
    centre = {"params": 0.0, "tokens": float(np.log(seen).mean())}
    law = laws.load("bnsl").bind({"family": ("",), "corpus": ("",)}, centre)
    narrow = [
        p._replace(low=-MOST_CHANGE, high=MOST_CHANGE) if p.name == "c_1" else p
        for p in law.parameters
    ]
    law = dataclasses.replace(law, parameters=tuple(narrow))
    found = fit(law, {"tokens": seen}, loss, delta=np.inf, keep_flat=True)
    assert isinstance(found, Fit)
    return found


@pytest.fixture(scope="module")
def broken(split) -> pd.DataFrame:
    """Scores of one-break fits by curve: domain, ours, and theirs as re-measured."""
    theirs = table("learning_curves_nsl_scores.csv").set_index("curve_id")
    rows = {}
    for (domain, curve), (known, rest) in split.items():
        found = one_break(*arrays(known))
        at, loss = arrays(rest)
        ours = learning_curves.rmse_log(
            found.law.predict(found.theta, {"tokens": at}), loss
        )
        rows[curve] = (domain, ours, theirs.bnsl1_unofficial[curve])
    return pd.DataFrame.from_dict(rows, "index", columns=["domain", "ours", "theirs"])


class TestLearningCurves:
    """Alabdulmohsin et al. 2022: curves whose end is predicted from their start."""

    def scores(self, split, domain, predictor) -> list[float]:
        out = []
        for (of, _), (known, rest) in split.items():
            if of == domain:
                seen, loss = known.seen.to_numpy(float), known.loss.to_numpy()
                predicted = predictor(seen, loss)(rest.seen.to_numpy(float))
                out.append(learning_curves.rmse_log(predicted, rest.loss.to_numpy()))
        return out

    @pytest.mark.parametrize(
        ("recipe", "domain", "score"),
        [
            (m1_recipe, "NMT", 0.2188),
            (m2_recipe, "NMT", 0.0272),
            (m2_recipe, "LM", 0.00087),
            (m3_recipe, "NMT", 0.0401),
            (m3_recipe, "BB", 0.0068),
        ],
    )
    def test_scores_of_the_published_recipes(self, split, recipe, domain, score):
        digits = len(str(score)) - 2
        found = geometric(self.scores(split, domain, recipe))
        assert found == pytest.approx(score, abs=0.6 * 10**-digits)

    @pytest.mark.parametrize(
        ("domain", "score"),
        [("NMT", 0.0177), ("LM", 0.00083), ("BB", 0.0097), ("IC", 0.0451)],
    )
    def test_scores_of_the_published_m4(self, split, domain, score):
        known, rest = [], []
        for (of, _), parts in split.items():
            if of == domain:
                pairs = [
                    (part.seen.to_numpy(float), part.loss.to_numpy()) for part in parts
                ]
                known.append(pairs[0])
                rest.append(pairs[1])
        recipe = M4Recipe(known)
        found = geometric(
            learning_curves.rmse_log(recipe.predict(row, seen), loss)
            for row, (seen, loss) in enumerate(rest)
        )
        digits = len(str(score)) - 2
        assert found == pytest.approx(score, abs=0.6 * 10**-digits)

    def test_one_break_image_fits(self, broken):
        """To the printed digits, and all curves but one within 1%."""
        part = broken[broken.domain == "IC"]
        assert len(part) == 36
        off = np.abs(np.log(part.ours / part.theirs))
        assert (off < 0.01).sum() >= 35
        assert geometric(part.ours) == pytest.approx(0.0373, abs=6e-5)

    @pytest.mark.parametrize(
        ("domain", "score", "same", "of"),
        [("NMT", 0.0061, 4, 5), ("LM", 0.00089, 2, 5), ("BB", 0.0095, 5, 10)],
    )
    def test_one_break_fits(self, broken, domain, score, same, of):
        """Most curves within .5%; on the others some lower place was missed.

        By the printed scores in one translation and two language curves (see the next
        test), which makes .0062 of .0061. On one language curve and two of BIG-Bench by
        us: their valley is so long that a descent ends on its way, up to 5% above.
        """
        part = broken[broken.domain == domain]
        assert len(part) == of
        assert geometric(part.theirs) == pytest.approx(score, rel=0.01)
        off = np.abs(np.log(part.ours / part.theirs))
        assert (off < 0.005).sum() >= same
        assert geometric(part.ours) <= 1.05 * score

    @pytest.mark.parametrize(
        "curve",
        [
            "NMT|log_perplexity|TEnc-LSTM",
            "LM|val_loss|1.34e+08",
            "LM|val_loss|1.68e+07",
        ],
    )
    def test_no_descent_ends_below_ours_where_scores_differ(self, split, broken, curve):
        assert abs(np.log(broken.ours[curve] / broken.theirs[curve])) > 0.1
        seen, loss = arrays(split[curve.split("|")[0], curve][0])
        found = one_break(seen, loss)
        low, high = np.array([p[1:3] for p in found.law.parameters]).T

        def miss(theta):
            return np.log(found.law.predict(theta, {"tokens": seen}) / loss)

        starts = found.law.starts({"tokens": seen}, loss)[::4]
        for start in np.clip(starts, low + 1e-6, high - 1e-6):
            end = least_squares(miss, start, bounds=(low, high), max_nfev=200)
            assert end.cost >= found.objective * (1 - 1e-6)

    @pytest.mark.parametrize(("domain", "score"), [("NMT", 0.0046), ("BB", 0.0078)])
    def test_the_last_value(self, split, domain, score):
        def last(seen, loss):
            return lambda at: np.full_like(at, loss[-1])

        found = geometric(self.scores(split, domain, last))
        assert found == pytest.approx(score, abs=5e-5)

    @pytest.mark.parametrize("domain", ["IC", "NMT", "LM", "BB"])
    def test_the_average_loses_to_no_law_of_its_set(self, split, domain, capsys):
        """What laws count for is learnt from each curve's training points alone.

        Beyond what curves drawn again would give, that is: the five of translation, and
        of language, tell little.
        """
        parts = [part for (own, _), part in split.items() if own == domain]
        kind = learning_curves.choose([arrays(known) for known, _ in parts])
        average, helped, last = [], [], []
        by_law: dict[str, list[float]] = {}
        for known, rest in parts:
            at, loss = arrays(rest)
            found = learning_curves.extrapolate(*arrays(known), at)
            average.append(learning_curves.rmse_log(found.predicted, loss))
            more = learning_curves.extrapolate(*arrays(known), at, kind)
            helped.append(learning_curves.rmse_log(more.predicted, loss))
            last.append(learning_curves.rmse_log(np.full_like(loss, found.last), loss))
            for name, predicted in found.by_law.items():
                by_law.setdefault(name, []).append(
                    learning_curves.rmse_log(predicted, loss)
                )
        alone = {
            name: scores for name, scores in by_law.items() if len(scores) == len(parts)
        }
        best = min(alone, key=lambda name: geometric(alone[name]))
        # The ratio to the best law, with the curves drawn again.
        ratio = np.log(average) - np.log(alone[best])
        rng = np.random.default_rng(0)
        drawn = rng.choice(ratio, (4000, ratio.size)).mean(axis=1)
        low, high = np.exp(np.quantile(drawn, [0.025, 0.975]))
        with capsys.disabled():
            text = ", ".join(f"{k} {geometric(v):.5f}" for k, v in by_law.items())
            text = f"average {geometric(average):.5f}, {text}"
            text += f", with its kind {geometric(helped):.5f}"
            text += f", last value {geometric(last):.5f}; average / {best} "
            text += f"{np.exp(ratio.mean()):.2f} ({low:.2f} to {high:.2f})"
            print(f"\n{len(parts)} held-out {domain} curves, geometric mean: {text}")
        assert low <= 1.0
        # On the kinds with more curves it is ahead, and no less on language.
        assert domain == "NMT" or ratio.mean() <= 0.0

    def test_the_kind_of_curve_helps_on_images(self, split):
        """The published score of one break is .0373."""
        parts = [part for (own, _), part in split.items() if own == "IC"]
        kind = learning_curves.choose([arrays(known) for known, _ in parts])
        scores = []
        for known, rest in parts:
            at, loss = arrays(rest)
            found = learning_curves.extrapolate(*arrays(known), at, kind)
            scores.append(learning_curves.rmse_log(found.predicted, loss))
        assert geometric(scores) <= 0.0373

    def test_certified_m4_fits(self, split):
        """On the image curves no worse than the published recipe's .0451."""

        def m4(seen, loss):
            return lambda at: (
                learning_curves.extrapolate(seen, loss, at, ["m4"]).predicted
            )

        assert geometric(self.scores(split, "IC", m4)) <= 0.0451
