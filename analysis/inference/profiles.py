"""Profile likelihoods of reported parameters, and the intervals that they give.

At each value of a parameter all others and the density's scale s are fitted again. What
is reported may be a function of several coordinates (a multiplier of data is one of its
amplitude's and the exponent), so that it is made a coordinate itself and frozen: all
points of a profile are then one batch of the solver's, and only as many as reach the
threshold are fitted.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.fitting.fit import MORE_STEPS, WIDE, Fit, log_gradient, minimise
from analysis.inference import quantiles
from analysis.inference.intervals import check_draws
from analysis.inference.likelihood import Likelihood, log_likelihood, refits, simulate
from analysis.laws import Array, Columns, Law, Turned
from scaling.errors import UserError

__all__ = ["held", "profile"]

# Where a profile is looked at first, in standard errors to either side; then farther,
# for one that is open as far as that. Beyond, it has no end.
LADDER = (0.5, 1.0, 1.5, 2.0, 3.0)
FARTHER = (6.0, 12.0, 24.0, 48.0)
SIDES = (-1.0, 1.0)
# Steps that close in on the ends, both at once, and how near is near enough.
CLOSER = 2
NEAR = 1e-2
# Of a coordinate, for the slopes of what is reported; Newton steps that solve for it.
SHIFT = 1e-6
NEWTON = 50
# For second derivatives, of which rounding leaves less.
WIDER_SHIFT = 1e-4


def profile(
    model: Likelihood,
    names: Sequence[str] | None = None,
    draws: int = 0,
    seed: int = 0,
) -> pd.DataFrame:
    """Profile likelihoods of reported parameters, all of them by default.

    Columns: parameter, value, drop (twice the log likelihood below the best, per
    trajectory rather than per run), threshold, rule (where it is from), and low and
    high, where the drop passes the threshold; NaN where it never does.

    The threshold is the 95% quantile of the drop in samples simulated from the fit, at
    the value that they were made with (rule "parametric bootstrap"). Without draws it
    is n ln(1 + F / (n - p)) with the 95% quantile F of the F(1, n - p) distribution and
    n trajectories (rule "F"): exact for a linear law with normal noise, and the
    chi-squared one in the limit (Bates and Watts 1988, section 6.1).

    Args:
      draws: samples behind a threshold, at least 40; 0 for none.

    Raises:
      UserError: a name that is no fitted parameter, or too few draws.
    """
    fitted = [p.name for p in model.fit.law.parameters]
    names = fitted if names is None else names
    for name in names:
        if name not in fitted:
            wanted = f"choose from {', '.join(fitted)}"
            raise UserError("parameter", name, wanted)
    check_draws(draws, none=True)
    each = [held(model.fit, fitted.index(name)) for name in names]
    rule = "parametric bootstrap" if draws else "F"
    thresholds = [_limit(model)] * len(each)
    if draws:
        thresholds = _simulated(model, each, draws, seed)
    parts = [
        Profile(model, one, threshold).frame().assign(rule=rule)
        for one, threshold in zip(each, thresholds, strict=True)
    ]
    return pd.concat(parts, ignore_index=True)


def _limit(model: Likelihood) -> float:
    freedom = max(1, model.size - model.fit.theta.size)
    ratio = quantiles.fisher(0.95, 1, freedom) / freedom
    return float(model.size * np.log1p(ratio))


@dataclasses.dataclass(frozen=True)
class Held:
    """A law with one reported parameter as a coordinate, which the engine can freeze.

    Attributes:
      law: its coordinate `index` fixes the parameter.
      own: whether the parameter always was a function of that coordinate alone. If not,
        the coordinate is the parameter's logarithm, and that of the plain law is solved
        for, at any value of the others.
      theta: the fit, in the coordinates of `law` [P].
    """

    law: Law
    index: int
    own: bool
    theta: Array

    def value(self, theta: Array) -> Array:
        """The parameter [...] at coordinates [..., P] of `law`."""
        return np.asarray(self.law.natural(theta)[..., self.index])

    def turned(self, plain: Law, theta: Array) -> Array:
        """Coordinates of the plain law as those of `law`, [..., P]."""
        theta = np.array(theta, np.float64)
        if not self.own:
            natural = plain.natural(theta)[..., self.index]
            theta[..., self.index] = np.log(np.maximum(natural, 1e-300))
        return theta


def held(fitted: Fit, index: int) -> Held:
    """The fitted law with the reported parameter `index` as a coordinate."""
    law, theta = fitted.law, fitted.theta
    slopes = _slopes(law, index, theta)
    if not np.delete(slopes, index).any():
        return Held(law, index, True, theta)
    turned = Held(by_value(law, index, theta), index, False, theta)
    return dataclasses.replace(turned, theta=turned.turned(law, theta))


def _slopes(law: Law, index: int, theta: Array) -> Array:
    """d ln of a reported parameter by each coordinate, at theta [P]: [P]."""
    return _slopes_of(law, index, theta[None], np.arange(theta.size))[1][0]


def _logs(law: Law, index: int, theta: Array, shifts: Array) -> Array:
    """ln of a reported parameter [B, S] at theta [B, P], moved by shifts [S, P].

    Not a number where the parameter is not positive and has no logarithm.
    """
    natural = law.natural(theta[:, None] + shifts)[..., index]
    return np.log(np.where(natural > 0.0, natural, np.nan))


def _slopes_of(law: Law, index: int, theta: Array, by: Array) -> tuple[Array, Array]:
    """ln of a reported parameter at theta [B, P], and its slopes [B, k] by some."""
    shifts = np.zeros((1 + by.size, theta.shape[1]))
    shifts[np.arange(by.size) + 1, by] = SHIFT
    logs = _logs(law, index, theta, shifts)
    return logs[:, 0], (logs[:, 1:] - logs[:, :1]) / SHIFT


class _Solver:
    """Coordinates of a law from those in which a reported parameter is one itself.

    A reported parameter (a multiplier, say) is a rising or falling function of its own
    coordinate at any value of the others, so that this is solved for, by Newton's
    method from where the fit has it.
    """

    def __init__(self, law: Law, index: int, at: Array):
        self._law, self._index, self._at = law, index, at
        slopes = _slopes(law, index, at)
        slopes[index] = 0.0
        # The coordinate's own slope first.
        self._by = np.array([index, *np.flatnonzero(slopes)])
        self._own = np.zeros((2, at.size))
        self._own[1, index] = SHIFT
        self._around = self._points()
        self._last: tuple[Array, Array, Array, Array] | None = None

    def _points(self) -> Array:
        """Shifts by which first and second derivatives are found: [S, P].

        None; each coordinate up, and down; and each two of them up.
        """
        each = np.zeros((self._by.size, self._at.size))
        each[np.arange(self._by.size), self._by] = WIDER_SHIFT
        both = [each[t] + each[u] for t, u in self._twos()]
        return np.array([np.zeros(self._at.size), *each, *-each, *both])

    def _twos(self) -> list[tuple[int, int]]:
        return list(itertools.combinations(range(self._by.size), 2))

    def __call__(self, theta: Array) -> tuple[Array, Array, Array]:
        """Plain coordinates [B, P], and how the solved one of them follows these.

        Its slopes [B, P], and its second derivatives [B, P, P] at a value of the
        parameter that is held. A solver asks for the same ones several times in a row.
        """
        if self._last is None or not np.array_equal(self._last[0], theta):
            plain = self._solved(theta)
            self._last = (theta.copy(), plain, *self._derivatives(plain))
        return self._last[1:]

    def _solved(self, theta: Array) -> Array:
        index = self._index
        wanted = theta[:, index]
        plain = np.array(theta, np.float64)
        plain[:, index] = self._at[index]
        step = np.zeros(len(plain))
        for _ in range(NEWTON):
            logs = _logs(self._law, index, plain, self._own)
            # The logarithm bends, so that a step down can go past zero: halve it.
            past = np.isnan(logs[:, 0])
            if past.any():
                step = np.where(past, step / 2, 0.0)
                plain[:, index] -= step
                continue
            own = (logs[:, 1] - logs[:, 0]) / SHIFT
            step = (wanted - logs[:, 0]) / np.where(own == 0.0, np.inf, own)
            plain[:, index] += step
            if (np.abs(step) < 1e-9).all():
                break
        return plain

    def _derivatives(self, plain: Array) -> tuple[Array, Array]:
        """Of the solved coordinate x in F(x, others) = ln of the parameter.

        dx = -F_j / F_x by another, 1 / F_x by the held logarithm, and d2x =
        -(F_jk + F_xj x_k + F_xk x_j + F_xx x_j x_k) / F_x.
        """
        by, count = self._by, self._by.size
        logs = _logs(self._law, self._index, plain, self._around)
        middle, up, down, twos = np.split(logs, [1, 1 + count, 1 + 2 * count], axis=1)
        first = (up - down) / (2.0 * WIDER_SHIFT)
        second = np.zeros((len(plain), count, count))
        at = np.arange(count)
        second[:, at, at] = (up + down - 2.0 * middle) / WIDER_SHIFT**2
        for (t, u), both in zip(self._twos(), twos.T, strict=True):
            bend = (both - up[:, t] - up[:, u] + middle[:, 0]) / WIDER_SHIFT**2
            second[:, t, u] = second[:, u, t] = bend
        own = np.where(first[:, 0] == 0.0, np.inf, first[:, 0])
        follows = -first[:, 1:] / own[:, None]
        slopes = np.zeros(plain.shape)
        slopes[:, by[1:]], slopes[:, self._index] = follows, 1.0 / own
        mixed = second[:, 0, 1:, None] * follows[:, None, :]
        bend = second[:, 1:, 1:] + mixed + mixed.transpose(0, 2, 1)
        bend += second[:, :1, :1] * follows[:, :, None] * follows[:, None, :]
        bends = np.zeros((len(plain), self._at.size, self._at.size))
        bends[np.ix_(range(len(plain)), by[1:], by[1:])] = -bend / own[:, None, None]
        return slopes, bends


def by_value(law: Law, index: int, at: Array) -> Law:
    """The law with the logarithm of a reported parameter as its coordinate `index`."""
    solve = _Solver(law, index, at)
    parameters = list(law.parameters)
    parameters[index] = parameters[index]._replace(low=-np.inf, high=np.inf)

    def plain(theta: Array) -> Array:
        theta = np.asarray(theta, np.float64)
        return solve(theta.reshape(-1, at.size))[0].reshape(theta.shape)

    def gradient(theta: Array, columns: Columns) -> Array:
        theta, slopes, _ = solve(theta)
        inner = log_gradient(law, theta, columns)
        of_solved = inner[..., index : index + 1].copy()
        inner[..., index] = 0.0
        return inner + of_solved * slopes[:, None, :]

    return dataclasses.replace(
        law,
        parameters=tuple(parameters),
        reported=law.reported or law.parameters,
        predict=lambda theta, columns: law.predict(plain(theta), columns),
        natural=lambda theta: law.natural(plain(theta)),
        linear=(),
        log_gradient=gradient,
        log_curvature=None,
        designs=None,
        composite=None,
        turned=Turned(law, index, solve),
    )


def _fitted(
    model: Likelihood, one: Held, losses: Array, starts: Array, smooth: bool = False
) -> tuple[Array, Array]:
    """All but the held coordinate fitted from starts [B, P]: theta, log likelihood.

    Args:
      losses: [n] or [B, n].
      smooth: pass by the solution at a wider delta, where few rows give Huber's
        objective dents; for starts that no neighbour's solution has led to.
    """
    weights = np.ones((len(starts), model.runs))
    frozen = np.arange(one.theta.size) == one.index
    task = (one.law, model.columns, losses, weights)
    if smooth and np.isfinite(model.delta):
        wide = WIDE * model.delta
        starts = minimise(
            *task, starts, wide, MORE_STEPS // 4, frozen=frozen, damping=0.1
        ).theta
    end = minimise(*task, starts, model.delta, MORE_STEPS, frozen=frozen, damping=0.1)
    return end.theta, log_likelihood(end.objective, model.runs, model.delta)


def _simulated(
    model: Likelihood, each: Sequence[Held], draws: int, seed: int
) -> list[float]:
    """95% quantiles of the drops at the true values of samples from the fit."""
    law = model.fit.law
    curve = np.log(law.predict(model.fit.theta, model.columns))
    losses = np.exp(curve + simulate(model, draws, seed))
    theta, best = refits(model, losses)
    known = ~np.isnan(best)
    theta, best, losses = theta[known], best[known], losses[known]
    out = []
    for one in each:
        starts = one.turned(law, theta)
        starts[:, one.index] = one.theta[one.index]
        found = _fitted(model, one, losses, starts, smooth=True)[1]
        drops = np.maximum(0.0, 2.0 * (best - found)) * model.size / model.runs
        # A sample without a fit at the true value says nothing of the drop there.
        drops = drops[np.isfinite(drops)]
        out.append(float(np.quantile(drops, 0.95)) if drops.size else _limit(model))
    return out


class Profile:
    """The profile of one parameter, as far as it has been looked at.

    All places are of the held coordinate; roots are of the drop, with the sign of the
    side, in which a profile is nearly a straight line.
    """

    def __init__(self, model: Likelihood, one: Held, threshold: float):
        self._model, self._one = model, one
        self._threshold, self._wanted = threshold, float(np.sqrt(threshold))
        self._best = float(one.theta[one.index])
        self._theta, self._root = one.theta[None], np.zeros(1)
        self._path, self._error = self._steps()

    def _steps(self) -> tuple[Array, float]:
        """How the others follow the held coordinate to first order, and its error."""
        one, model = self._one, self._model
        jacobian = log_gradient(one.law, one.theta[None], model.columns)[0]
        inverse = np.linalg.pinv(jacobian.T @ jacobian, hermitian=True)
        variance = max(float(inverse[one.index, one.index]), 1e-300)
        return inverse[one.index] / variance, float(np.sqrt(variance)) * model.sd

    def frame(self) -> pd.DataFrame:
        """Columns as of `profile`, but for `rule`."""
        steps = np.array(LADDER) * self._error
        self._look(self._best + np.concatenate([-steps[::-1], steps]))
        self._again()
        for farther in FARTHER:
            still = [side for side in SIDES if self._bracket(side) is None]
            if not still:
                break
            self._look(self._best + np.array(still) * farther * self._error)
        for _ in range(CLOSER):
            brackets = [self._bracket(side) for side in SIDES]
            places = [self._between(b) for b in brackets if b and not self._near(b)]
            if not places:
                break
            self._look(np.array(places))
        return self._known([self._bracket(side) for side in SIDES])

    def _places(self) -> Array:
        return self._theta[:, self._one.index]

    def _look(self, places: Array) -> None:
        """Fits at further places inside the bounds, each from the nearest known."""
        bound = self._one.law.parameters[self._one.index]
        places = np.unique(np.clip(places, bound.low, bound.high))
        places = np.setdiff1d(places, self._places())
        if not places.size:
            return
        near = np.abs(places[:, None] - self._places()).argmin(axis=1)
        theta, root = self._at(places, self._theta[near])
        self._theta = np.concatenate([self._theta, theta])
        self._root = np.concatenate([self._root, root])

    def _again(self) -> None:
        """Fits once more from the neighbour towards the fit, and keeps what is lower.

        A start of its own may have led a point to another valley than its neighbours.
        """
        order = np.argsort(np.abs(self._places() - self._best))
        inner = np.zeros(order.size, int)
        for side in SIDES:
            mine = order[side * (self._places()[order] - self._best) >= 0]
            inner[mine[1:]] = mine[:-1]
        theta, root = self._at(self._places(), self._theta[inner])
        lower = root < self._root
        self._theta[lower], self._root[lower] = theta[lower], root[lower]

    def _at(self, places: Array, starts: Array) -> tuple[Array, Array]:
        """Coordinates [B, P] and roots [B] at the places, fitted from starts [B, P]."""
        model = self._model
        moved = places - starts[:, self._one.index]
        starts = starts + moved[:, None] * self._path
        starts[:, self._one.index] = places
        theta, found = _fitted(model, self._one, model.loss, starts)
        drop = 2.0 * np.maximum(0.0, model.value - found) * model.size / model.runs
        return theta, np.sqrt(drop)

    def _bracket(self, side: float) -> tuple[int, int] | None:
        """The last place known inside the threshold and the next, which is outside."""
        away = side * (self._places() - self._best)
        mine = np.flatnonzero(away >= 0)
        mine = mine[np.argsort(away[mine], kind="stable")]
        over = np.flatnonzero(self._root[mine] > self._wanted)
        return (int(mine[over[0] - 1]), int(mine[over[0]])) if over.size else None

    def _near(self, bracket: tuple[int, int]) -> bool:
        missed = np.abs(self._root[list(bracket)] - self._wanted)
        return bool(missed.min() < NEAR * self._wanted)

    def _between(self, bracket: tuple[int, int]) -> float:
        """Where the root passes the threshold's, by interpolation."""
        place, root = self._places()[list(bracket)], self._root[list(bracket)]
        share = (self._wanted - root[0]) / (root[1] - root[0])
        return float(place[0] + share * (place[1] - place[0]))

    def _known(self, brackets: Sequence[tuple[int, int] | None]) -> pd.DataFrame:
        """Every point up to the first beyond either end, or as far as was looked."""
        places, ends, kept = self._places(), [], np.zeros(self._root.size, bool)
        for side, bracket in zip(SIDES, brackets, strict=True):
            away = side * (places - self._best)
            reach = away.max() if bracket is None else away[bracket[1]]
            kept |= (away >= 0) & (away <= reach)
            ends.append(
                np.nan if bracket is None else self._value(self._between(bracket))
            )
        if self._value(self._best + self._error) < self._value(self._best):
            ends.reverse()
        one = self._one
        frame = pd.DataFrame({"value": one.value(self._theta), "drop": self._root**2})
        frame = frame[kept].sort_values("value", ignore_index=True)
        return frame.assign(
            parameter=one.law.names[one.index],
            threshold=self._threshold,
            low=ends[0],
            high=ends[1],
        )

    def _value(self, place: float) -> float:
        """What is reported at a place; of the held coordinate alone."""
        theta = self._one.theta.copy()
        theta[self._one.index] = place
        return float(self._one.value(theta))
