"""Optima without a surface: right where the design allows it, and doubts where not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.surfaces.best_sizes import envelope, interpolation, parabola
from scaling.errors import UserError

# Hoffmann et al. 2022, equation 10.
E, A, B, ALPHA, BETA = 1.69, 406.4, 410.7, 0.34, 0.28
EXPONENT = BETA / (ALPHA + BETA)
BUDGETS = np.geomspace(6e18, 3e21, 6)


def best(flops: float, alpha: float = ALPHA, beta: float = BETA) -> float:
    g = (alpha * A / (beta * B)) ** (1 / (alpha + beta))
    return g * (flops / 6) ** (beta / (alpha + beta))


def profiles(
    reach: float = 2.0,
    shift: float = 1.0,
    sizes: int = 9,
    noise: float = 0.0,
    alpha: float = ALPHA,
    beta: float = BETA,
    seed: int = 0,
) -> pd.DataFrame:
    """IsoFLOP runs from 1 / reach to reach times the best size, times shift."""
    rng = np.random.default_rng(seed)
    parts = []
    for flops in BUDGETS:
        ratio = np.geomspace(1 / reach, reach, sizes)
        params = best(flops, alpha, beta) * shift * ratio
        tokens = flops / (6 * params)
        loss = E + A / params**alpha + B / tokens**beta
        loss = loss + noise * rng.normal(size=sizes)
        parts.append({"params": params, "tokens": tokens, "flops": flops, "loss": loss})
    return pd.concat([pd.DataFrame(part) for part in parts], ignore_index=True)


def test_a_centred_parabola_finds_the_exponent():
    found = parabola(profiles())
    assert found.params.exponent == pytest.approx(EXPONENT, abs=1e-3)
    assert found.tokens.exponent == pytest.approx(1 - EXPONENT, abs=1e-3)
    assert found.params.budgets == len(BUDGETS)
    assert found.warnings == ()
    for budget in found.budgets:
        assert budget.params == pytest.approx(best(budget.flops), rel=0.02)
        assert budget.params * budget.tokens * 6 == pytest.approx(budget.flops)


def test_an_off_centre_or_lop_sided_parabola_says_so():
    off = parabola(profiles(reach=4, shift=2.5))
    assert any("off-centre" in clause for clause in off.warnings)
    assert any("smallest" in clause for clause in off.warnings)
    wide = parabola(profiles(reach=30, alpha=0.6, beta=0.2))
    assert any("lop-sided" in clause for clause in wide.warnings)
    gap = [abs(np.log(b.params / best(b.flops, 0.6, 0.2))) for b in wide.budgets]
    assert min(gap) > 0.1


def test_a_parabola_without_a_lowest_point_inside_has_no_optimum():
    outside = parabola(profiles(reach=2, shift=8))
    assert all("outside" in clause for clause in outside.warnings)
    assert outside.params is None
    upside = profiles()
    upside["loss"] = 6 - upside.loss
    downward = parabola(upside)
    assert all("opens downward" in clause for clause in downward.warnings)
    assert downward.params is None and len(downward.budgets) == len(BUDGETS)
    few = parabola(profiles(sizes=2))
    assert "2 sizes" in few.warnings[0]


def test_interpolation_finds_the_optimum_of_a_lop_sided_profile():
    table = profiles(reach=30, sizes=21, alpha=0.6, beta=0.2)
    found = interpolation(table)
    for budget in found.budgets:
        assert budget.params == pytest.approx(best(budget.flops, 0.6, 0.2), rel=0.05)
    assert found.params.exponent == pytest.approx(0.2 / 0.8, abs=5e-3)


def test_known_noise_gives_intervals_that_hold_the_truth():
    inside = 0
    for seed in range(20):
        table = profiles(reach=8, sizes=11, noise=0.004, seed=seed)
        found = interpolation(table, lambda loss: np.full_like(loss, 0.004), draws=200)
        assert found.params.low < found.params.exponent < found.params.high
        inside += found.params.low <= EXPONENT <= found.params.high
    assert inside >= 16


def test_resampled_residuals_give_parabolas_intervals():
    inside = 0
    for seed in range(20):
        table = profiles(reach=3, sizes=9, noise=0.002, seed=seed)
        found = parabola(table, draws=200, seed=seed)
        inside += found.params.low <= EXPONENT <= found.params.high
    assert inside >= 16


def test_the_lowest_run_at_an_end_gives_no_optimum():
    found = interpolation(profiles(reach=2, shift=8))
    assert all("smallest or the largest" in clause for clause in found.warnings)
    assert found.params is None


def curves(sizes: int = 25) -> pd.DataFrame:
    parts = []
    for number, params in enumerate(np.geomspace(1e7, 1e11, sizes)):
        tokens = np.geomspace(1e8, 1e13, 80)
        loss = E + A / params**ALPHA + B / tokens**BETA
        part = {"params": params, "tokens": tokens, "flops": 6 * params * tokens}
        parts.append(pd.DataFrame(part | {"loss": loss, "trajectory": number}))
    return pd.concat(parts, ignore_index=True)


def test_the_envelope_of_training_curves_finds_the_exponent():
    found = envelope(curves(), draws=50)
    assert found.params.exponent == pytest.approx(EXPONENT, abs=0.01)
    assert found.tokens.exponent == pytest.approx(1 - EXPONENT, abs=0.01)
    assert found.params.low <= found.params.exponent <= found.params.high
    sizes = [budget.params for budget in found.budgets]
    assert min(sizes) > 1e7 and max(sizes) < 1e11


def test_wrong_input_is_named():
    table = profiles()
    with pytest.raises(UserError, match="flops"):
        parabola(table.drop(columns="flops"))
    with pytest.raises(UserError, match="loss"):
        interpolation(table.assign(loss=-1.0))
    with pytest.raises(UserError, match="trajectory"):
        envelope(table.assign(trajectory=range(len(table))))
