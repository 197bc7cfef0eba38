"""Exhausted data: planted floors, gaps and efficiencies are found, or refused."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

import analysis
from analysis import schema
from analysis.design import factors
from analysis.predictions.contrasts import Compared
from analysis.questions import ensembles, exhausted_data
from analysis.questions._asked import Whole
from analysis.questions._exhausted import (
    DRAWS,
    EARLY,
    FINAL,
    Cell,
    Curve,
    _seeds,
    moderated,
)
from analysis.report.canvas import figure
from analysis.results import Analysis
from tests.support import made_function
from tests.support.made_predictions import run_id

PLAN = made_function.EXHAUSTED
EPOCHS = (1, 4, 16, 64, 256)


def concluded(frames, notes=(), runs=None):
    known = schema.frames()
    joined = {name: known[name].join([part]) for name, part in frames.items()}
    every = {"title": "made", "unit": "nats/token", "targets": ("docs",)}
    runs = pd.DataFrame({"run_id": [""]}) if runs is None else runs
    return Analysis.of(**every, notes=tuple(notes), **joined, runs=runs)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    frames, notes, asked = made_function.exhausted(tmp_path_factory.mktemp("made"))
    more, _ = made_function.answered(asked, "excess")
    return concluded({**frames, **more}, notes), asked


def test_the_best_readings_and_predictions_of_runs_are_read(made):
    result, asked = made
    assert len(asked.stopped) == len(asked.ends) == 2 * len(EPOCHS)
    assert (asked.stopped.seen == asked.stopped.tokens / 2).all()
    assert sorted(set(asked.stopped.epochs)) == list(EPOCHS)
    rows = result.exhausted
    early, final = (rows[rows.reading == r].reset_index() for r in (EARLY, FINAL))
    assert (early.loss < final.loss).all() and (early.seeds == 3).all()
    np.testing.assert_allclose(early.stopped, early.epochs / 2, rtol=0.02)
    for _, row in asked.stopped.iterrows():
        mine = early[(early.family == row.family) & (early.tokens == row.tokens)]
        loss = asked.compared.loss(asked.points(row))[0]
        assert mine.loss.item() == pytest.approx(loss, abs=0.005)


def test_early_stopped_functions_have_a_path_of_their_own(made):
    trends = made[0].function_trends.set_index("axis")
    early, ends = trends.loc["epochs, stopped early"], trends.loc["epochs"]
    assert early.points == ends.points == len(EPOCHS)
    assert early.tokens == 1024 * 256 and early.to_x == 256
    assert early["last"] < ends["last"] and early.change_high < 0


def test_gaps_are_paired_and_beside_those_after_one_epoch(made):
    gaps = made[0].exhausted_gaps.set_index("reading")
    losses = made[0].exhausted
    for reading, row in gaps.iterrows():
        mine = losses[losses.reading == reading].set_index(["family", "epochs"]).loss
        assert row.gap == pytest.approx(mine["lstm", 256] - mine["gru", 256])
        assert row.once == pytest.approx(mine["lstm", 1] - mine["gru", 1])
        assert row.change == pytest.approx(abs(row.gap) - abs(row.once))
        assert row.gap_low < row.gap_low_90 < row.gap < row.gap_high_90 < row.gap_high
        assert row.exhausted  # the best scoring of all is halfway
    assert (gaps.params == 8000).all() and (gaps.epochs == 256).all()


def cell(epochs, losses, name):
    names = tuple(f"{name}-{epochs}-{k}" for k in range(len(losses)))
    losses = np.asarray(losses, float)
    moved = {reading: _seeds(names, losses) for reading in (EARLY, FINAL)}
    mean = dict.fromkeys((EARLY, FINAL), float(losses.mean()))
    nothing = np.zeros(1 + DRAWS)
    free = dict.fromkeys((EARLY, FINAL), (len(losses) - 1.0, np.inf))
    spread = losses.var(ddof=1) if len(losses) > 1 else np.nan
    spread = dict.fromkeys((EARLY, FINAL), spread)
    own = (mean, spread, moved, free, nothing)
    return Cell(epochs, 1000.0 * epochs, names, *own, epochs / 2)


def curve(family, law, unique=0, noise=0.004, seeds=3, rng=None, epochs=EPOCHS):
    """A family whose losses over epochs are a law with the noise of seeds about it."""
    rng = rng or np.random.default_rng(7)
    tokens = 1000.0 * 4**unique
    cells = tuple(
        cell(
            e, law(e, tokens) + noise * rng.standard_normal(seeds), f"{family}{unique}"
        )
        for e in epochs
    )
    return Curve(family, "docs", "docs", 0, unique, 8e3, tokens, cells)


def law(floor):
    return lambda epochs, tokens: floor + 0.5 * epochs**-0.8


def test_a_planted_floor_is_held_by_its_interval_or_refused():
    rng = np.random.default_rng(0)
    found = []
    for k in range(25):  # studies of six families each
        study = [curve(f"{k}/{n}", law(2.0), rng=rng) for n in range(6)]
        found += [exhausted_data._floor(one, EARLY) for one in moderated(study)]
    reported = [one for one in found if not one.refused]
    assert len(reported) >= 140
    held = np.mean([one.low <= 2.0 <= one.high for one in reported])
    assert 0.91 <= held <= 0.99
    (slow,) = moderated([curve("a", lambda e, u: 3.0 - 0.1 * np.log(e), noise=0.02)])
    assert "a fall without an end" in exhausted_data._floor(slow, EARLY).refused
    single = curve("one", law(2.0), seeds=1)
    assert "one seed only" in exhausted_data._floor(single, EARLY).refused
    few = curve("few", law(2.0), epochs=EPOCHS[:3])
    assert "3 points for a curve" in exhausted_data._floor(few, EARLY).refused


def test_the_gap_of_planted_floors_lies_in_its_interval():
    rng = np.random.default_rng(1)
    held = 0
    for k in range(40):
        more = (0.0, 0.1, 0.2, 0.3)
        study = moderated([curve(f"{n}{k}", law(2.0 + n), rng=rng) for n in more])
        floors = [exhausted_data._floor(one, EARLY) for one in study]
        row = exhausted_data._between(*floors[:2])
        held += bool(row["refused"]) or (
            row["floor_gap_low"] <= 0.1 <= row["floor_gap_high"]
        )
    assert held >= 36


def test_a_planted_efficiency_is_found_in_both_units():
    """One family needs twice the unique data of the other for any loss."""
    rng = np.random.default_rng(2)
    loss = lambda times: lambda e, u: 3.0 - 0.2 * np.log(u / times)
    many = [
        curve(name, loss(times), unique, 0.002, rng=rng)
        for name, times in (("good", 1.0), ("bad", 2.0))
        for unique in (0, 1)
    ]
    rows = pd.DataFrame(list(exhausted_data._efficiency(moderated(many))))
    rows = rows[rows.reading == EARLY].set_index("baseline")
    bad, good = rows.loc["bad"], rows.loc["good"]
    assert bad.factor == pytest.approx(2.0, abs=0.1) and bad.low < bad.high < 2.2
    assert good.factor == pytest.approx(0.5, abs=0.03) and good.low < good.high < 0.55
    assert bad.beyond and not good.beyond
    flat = [curve(n, lambda e, u: 2.0, k) for n in ("a", "b") for k in (0, 1)]
    reported = pd.DataFrame(list(exhausted_data._efficiency(flat)))
    assert reported.refused.str.contains("not shown to lower").all()
    alone = [curve(n, law(2.0)) for n in ("a", "b")]
    reported = pd.DataFrame(list(exhausted_data._efficiency(alone)))
    assert reported.refused.str.contains("one amount of unique data").all()


def test_an_ensemble_is_the_mean_of_kept_predictions(made):
    result, _ = made
    rows = result.ensembles
    assert set(rows.reading) == {EARLY, FINAL} and (rows.epochs == 256).all()
    plan = PLAN.predictions()
    row = rows[(rows.family == "lstm") & (rows.reading == FINAL)].iloc[0]
    seeds = [(run_id("lstm", "docs", 8000, 1024 * 256, k), 1.0) for k in range(3)]
    chances = np.mean([np.exp(plan.read(*one)) for one in seeds], axis=0)
    target = plan.probes.target
    wanted = -np.log(chances[np.arange(100), target]).mean()
    assert row.ensemble == pytest.approx(wanted, abs=0.003)
    assert row.gain == pytest.approx(row.loss - row.ensemble)
    assert row.gain_low > 0 and row.low < row.floor < row.high
    # Of many seeds of this plan the ensemble's loss is known.
    many = dataclasses.replace(
        PLAN, seeds=40, families=("lstm",), budgets=(1024 * 256,)
    )
    seeds = [(run_id("lstm", "docs", 8000, 1024 * 256, k), 1.0) for k in range(40)]
    chances = np.mean([np.exp(many.predictions().read(*one)) for one in seeds], axis=0)
    wanted = -np.log(chances[np.arange(100), target]).mean()
    assert row.low < wanted < row.high and row.floor < row.ensemble
    assert Compared(plan, 1).predictions is plan


def test_what_is_said_follows_from_the_numbers(made):
    result, _ = made
    said = exhausted_data.said(result.view)
    assert any("after one epoch: whether it shrinks" in line for line in said)
    assert any("early-stopped loss is" in line for line in said)
    assert any("seeds without end" in line for line in ensembles.said(result.view))
    (front, full) = exhausted_data.answers(result.view)
    assert front.text == full.text and "after one epoch" in front.text
    assert figure(exhausted_data.draw_exhausted, result, "docs").axes


def test_with_one_seed_no_interval_is_given(tmp_path):
    dataclasses.replace(PLAN, seeds=1, budgets=(1024, 4096)).write(tmp_path)
    table, _ = factors.fold(analysis.load(tmp_path))
    frames, (note,) = exhausted_data.concludes(Whole(table, concluded({})))
    assert "One seed only of" in note.text and note.kind == "undetermined"
    gaps = frames["exhausted_gaps"]
    assert gaps.gap.notna().all() and gaps.gap_low.isna().all()
    assert frames["exhausted_floors"].refused.str.contains("one seed only").all()


def test_a_table_whose_data_is_read_once_says_nothing(tmp_path):
    dataclasses.replace(PLAN, unique=None, budgets=(1024, 4096)).write(tmp_path)
    table, _ = factors.fold(analysis.load(tmp_path))
    assert exhausted_data.concludes(Whole(table, concluded({}))) == ({}, [])
