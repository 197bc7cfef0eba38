"""What a design cannot identify is refused, and the run that would help is named."""

import numpy as np

from analysis.design.identify import ends_at_bound, refuse, suggest
from analysis.fitting.fit import Refusal, fit
from tests.support.made_laws import additive, bind, grid, joint_table


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


def test_a_refusal_that_nobody_reads_looks_for_no_run():
    columns = grid()
    few = columns["params"] < 3e8
    two = {key: values[few] for key, values in columns.items()}
    law, loss = bind("chinchilla", two), additive(columns)[few]
    whole, brief = fit(law, two, loss), fit(law, two, loss, advise=False)
    assert isinstance(whole, Refusal) and isinstance(brief, Refusal)
    assert "run that would help most" in whole.reason
    assert whole.reason.startswith(brief.reason) and brief.reason != whole.reason


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


def test_an_end_of_an_interval_on_a_bound_is_named():
    columns = grid()
    law = bind("chinchilla", columns)
    theta = fit(law, columns, additive(columns)).theta
    draws = np.tile(theta, (100, 1))
    assert ends_at_bound(law, draws) == ()
    draws[:3, 0] = law.parameters[0].low
    draws[50] = np.nan
    assert ends_at_bound(law, draws) == ("E",)
    draws[:1, 0], draws[1:3, 0] = draws[0, 0], theta[0]
    assert ends_at_bound(law, draws) == ()


def added(columns, run):
    return {key: np.append(values, run[key]) for key, values in columns.items()}


def test_the_run_that_helps_most_heals_the_design():
    columns = grid()
    few = columns["params"] < 3e8
    two = {key: values[few] for key, values in columns.items()}
    law = bind("chinchilla", columns)
    assert "params has 2 distinct levels" in refuse(law, two)
    advice = suggest(law, two)
    assert advice.text in refuse(law, two)
    assert refuse(law, added(two, advice.columns)) == ""
    largest = (two["params"] * two["tokens"]).max()
    assert advice.columns["params"] * advice.columns["tokens"] <= 1.01 * largest


def test_the_run_that_helps_most_leaves_the_line():
    sizes = np.geomspace(1e8, 1e10, 12)
    zeros = np.zeros(12, int)
    line = {"params": sizes, "tokens": 20.0 * sizes, "family": zeros, "corpus": zeros}
    law = bind("chinchilla", line)
    advice = suggest(law, line).columns
    ratio = advice["tokens"] / advice["params"]
    assert ratio > 100 or ratio < 4
    assert refuse(law, added(line, advice)) == ""


def test_the_run_that_helps_most_names_the_family_that_lacks_one():
    columns, loss = joint_table()
    first = np.flatnonzero(columns["family"] == 1)[0]
    keep = (columns["family"] != 1) | (np.arange(loss.size) == first)
    columns = {key: values[keep] for key, values in columns.items()}
    law = bind("joint", columns, ("a", "b", "c"), ("d", "e"))
    found = fit(law, columns, loss[keep])
    assert isinstance(found, Refusal)
    assert suggest(law, columns).columns["family"] == 1
    assert "of b on" in found.reason
