"""Constants that papers print, recovered from surfaces that are made of them.

Each law is written out here as its paper writes it, in the paper's units, so that the
project's parametrisation is checked too. A constant counts as recovered at a relative
error of 1e-3. Laws whose papers print no full set of constants have none here: M3, M4.
"""

from __future__ import annotations

import numpy as np
import pytest

from analysis import laws
from analysis.fitting.fit import Fit, fit

TO_DIGITS = 1e-3
LEVELS = {"family": ("all",), "corpus": ("all",)}


def grid(sizes: int = 6, budgets: int = 6) -> dict[str, np.ndarray]:
    """Sizes from 10M to 10B, from 1B to 1T tokens."""
    params, tokens = np.meshgrid(
        np.geomspace(1e7, 1e10, sizes), np.geomspace(1e9, 1e12, budgets)
    )
    return {"params": params.ravel(), "tokens": tokens.ravel()}


def recovered(name, columns, loss, **options) -> dict[str, float]:
    centre = {
        key: float(np.log(columns[key]).mean()) if key in columns else 0.0
        for key in ("params", "tokens")
    }
    law = laws.load(name).bind(LEVELS, centre, **options)
    found = fit(law, columns, loss)
    assert isinstance(found, Fit), found
    assert found.at_bound == ()
    return dict(zip(found.law.names, found.values, strict=True))


def assert_recovers(name, columns, loss, printed, **options):
    found = recovered(name, columns, loss, **options)
    assert set(printed) == set(found)
    for key, value in printed.items():
        assert found[key] == pytest.approx(value, rel=TO_DIGITS), key


def test_kaplan_in_size_and_data():
    """Kaplan et al. 2020, equation 1.5 and table 2."""
    columns = grid()
    n, d = columns["params"], columns["tokens"]
    loss = ((6.4e13 / n) ** (0.076 / 0.103) + 1.8e13 / d) ** 0.103
    printed = {"alpha_N": 0.076, "alpha_D": 0.103, "N_c": 6.4e13, "D_c": 1.8e13}
    assert_recovers("kaplan", columns, loss, printed)


def test_kaplan_in_data_alone():
    """Kaplan et al. 2020, equation 1.2: M1 with B = D_c^alpha_D."""
    tokens = np.geomspace(2e7, 2.3e10, 12)
    loss = (5.4e13 / tokens) ** 0.095
    found = recovered("m1", {"tokens": tokens}, loss)
    assert found["beta"] == pytest.approx(0.095, rel=TO_DIGITS)
    assert found["B"] ** (1 / found["beta"]) == pytest.approx(5.4e13, rel=TO_DIGITS)


HOFFMANN = {"E": 1.69, "A": 406.4, "B": 410.7, "alpha": 0.34, "beta": 0.28}
BESIROGLU = {"E": 1.8172, "A": 482.01, "B": 2085.43, "alpha": 0.3478, "beta": 0.3658}


def additive(printed, n, d):
    size = printed["A"] / n ** printed["alpha"]
    return printed["E"] + size + printed["B"] / d ** printed["beta"]


@pytest.mark.parametrize("printed", [HOFFMANN, BESIROGLU])
def test_chinchilla(printed):
    """Hoffmann et al. 2022, equation 10; Besiroglu et al. 2024, table 1."""
    columns = grid()
    loss = additive(printed, columns["params"], columns["tokens"])
    assert_recovers("chinchilla", columns, loss, printed)


@pytest.mark.parametrize("printed", [HOFFMANN, BESIROGLU])
def test_chinchilla_at_a_size_without_bound(printed):
    """What is left of the same constants is M2, which has no printed set of its own."""
    tokens = np.geomspace(1e8, 1e12, 15)
    loss = additive(printed, np.inf, tokens)
    wanted = {key: printed[key] for key in ("E", "B", "beta")}
    assert_recovers("power", {"tokens": tokens}, loss, wanted)


def worth(unique, times, decay):
    """What `times` as much as is unique is worth (Muennighoff et al., equation 5)."""
    return unique * (1 + decay * (1 - np.exp(-(times - 1) / decay)))


def test_data_constrained():
    """Muennighoff et al. 2023, appendix A: with R*_D and R*_N to seven digits.

    A, B and E stand there as logarithms; they read 521, 1488 and 1.87 in the text.
    """
    printed = {"A": np.exp(6.255414), "B": np.exp(7.3049974), "E": np.exp(0.6254804)}
    printed |= {"alpha": 0.3526596, "beta": 0.3526596}
    printed |= {"R*_D": 15.387756, "R*_N": 5.309743}
    budget, n, epochs = (
        part.ravel()
        for part in np.meshgrid(
            [1e8, 4e8, 1.5e9], np.geomspace(7e6, 9e9, 8), [1, 2, 5, 20, 60]
        )
    )
    # With tied exponents the size that is optimal for U tokens is (A / B)^(1/alpha) U.
    enough = (printed["A"] / printed["B"]) ** (1 / printed["alpha"]) * budget
    base = np.minimum(enough, n)
    assert (base < n).any() and (base == n).any()
    size = worth(base, n / base, printed["R*_N"])
    loss = additive(printed, size, worth(budget, epochs, printed["R*_D"]))
    columns = {"params": n, "tokens": budget * epochs, "unique_tokens": budget}
    assert_recovers("data_constrained", columns, loss, printed)
    assert np.exp(6.255414) == pytest.approx(521, abs=0.5)


def test_quality():
    """Subramanyam et al. 2025: their exponent of Q for language models, .401.

    Their law without it is Hoffmann et al.'s, whose constants stand in for the rest.
    """
    columns = grid() | {"quality": np.tile([1.0, 0.9, 0.7, 0.5], 9)}
    n, d, q = columns["params"], columns["tokens"], columns["quality"]
    loss = additive(HOFFMANN, n, d * q ** (0.401 / HOFFMANN["beta"]))
    printed = HOFFMANN | {"g": 0.401 / HOFFMANN["beta"]}
    assert_recovers("quality", columns, loss, printed)


def test_broken_power_law():
    """Caballero et al. 2023, the noiseless simulation of four-digit addition."""
    seen = np.unique(np.geomspace(1, 4095, 200).round())
    printed = {"a": 0.41388453071629455, "b": 2.2772722897737556}
    printed |= {"c_0": 0.055077348404973955, "c_1": 5.662903816010331}
    printed |= {"d_1": 612.5836172918001, "f_1": 0.059193036393742314}
    fall = (1 + (seen / printed["d_1"]) ** (1 / printed["f_1"])) ** (
        -printed["c_1"] * printed["f_1"]
    )
    loss = printed["a"] + printed["b"] * seen ** -printed["c_0"] * fall
    assert_recovers("bnsl", {"tokens": seen}, loss, printed)


def test_farseer():
    """Li et al. 2025, the fitted law of their equation 5, in bits per character."""
    printed = {"a1": -0.124, "b1": 0.424, "alpha": 0.123}
    printed |= {"a2": 88.01, "b2": -6.287, "beta": -0.1}
    printed |= {"a3": -0.021, "b3": 0.091, "gamma": 0.169}
    columns = grid(8, 8)
    n, d = columns["params"], columns["tokens"]
    power = np.exp(printed["a1"] * n ** printed["alpha"] + printed["b1"])
    amplitude = np.exp(printed["a2"] * n ** printed["beta"] + printed["b2"])
    floor = np.exp(printed["a3"] * n ** printed["gamma"] + printed["b3"])
    assert_recovers("farseer", columns, floor + amplitude * d**-power, printed)
