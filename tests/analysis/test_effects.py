"""Intervals and effects: what is resampled, found, and left undetermined."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from analysis.design.cells import largest
from analysis.design.settings import coded
from analysis.effects import data_equivalents
from analysis.effects.matched_cells import document_se
from analysis.pipeline import analyse
from analysis.questions import tuning, variance
from analysis.results import Analysis
from analysis.tables.load import from_frame
from scaling.errors import UserError

RHO = 1.3


def made(noise=0.003, rho=RHO, seed=0, corpora=("code", "prose"), **extra):
    """Two families (b gets rho times as much out of its data), 3 sizes, 5 budgets."""
    rng = np.random.default_rng(seed)
    rows = []
    for family in ("a", "b"):
        for d, corpus in enumerate(corpora):
            for params in (8e3, 24e3, 72e3):
                for tokens in (1e6, 2.5e6, 6e6, 15e6, 40e6):
                    seen = tokens * (rho if family == "b" else 1.0) * 0.7**d
                    loss = 1.0 + 0.1 * d + 30 * params**-0.35 + 150 * seen**-0.35
                    rows.append(
                        {
                            "family": family,
                            "corpus": corpus,
                            "params": params,
                            "tokens": tokens,
                            "loss": loss * np.exp(noise * rng.normal()),
                        }
                        | extra
                    )
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def analysis() -> Analysis:
    frame = made()
    seeds = frame[(frame.tokens == 6e6) & (frame.params == 24e3)]
    again = seeds.assign(loss=seeds.loss * 1.004, seed=1)
    epochs = frame.iloc[[2]].assign(unique_tokens=1.5e6, loss=3.5)
    slow = frame.iloc[[7]].assign(learning_rate=0.1, loss=9.0)
    frame = frame.assign(seed=0, learning_rate=0.01)
    whole = pd.concat([frame, again.assign(learning_rate=0.01), epochs, slow])
    return analyse(from_frame(whole.reset_index(drop=True), target="shared"), draws=60)


def overall(frame: pd.DataFrame, **where) -> pd.Series:
    part = frame[frame.params.isna()]
    for key, value in where.items():
        part = part[part[key] == value]
    assert len(part) == 1
    return part.iloc[0]


def test_planted_data_multiplier_is_the_data_equivalent(analysis):
    for method in ("joint", "family", "paired"):
        found = overall(
            analysis.equivalents,
            method=method,
            baseline="a",
            alternative="b",
            fixed="code",
        )
        assert found.factor == pytest.approx(RHO, rel=0.12)
    joint = overall(
        analysis.equivalents,
        method="joint",
        baseline="a",
        alternative="b",
        fixed="code",
    )
    assert 1.0 < joint.low < RHO < joint.high
    assert joint.p_infinite == 0.0


def test_every_frame_has_its_columns(analysis):
    for name in ("fits", "quality", "curves", "residuals", "joint", "equivalents"):
        assert len(getattr(analysis, name)), name
    for name in ("doubling", "ratios", "variance", "noise", "fitness", "holdout"):
        assert len(getattr(analysis, name)), name
    reference = analysis.joint[analysis.joint.reference]
    assert (reference.value == 1.0).all() and len(reference) == 4


def test_rows_no_fit_saw_are_listed(analysis):
    reasons = analysis.exclusions.set_index("run_id").reason
    assert reasons["row 65"].startswith("repeats its data: 4 epochs")
    assert reasons["row 66"] == "not at its cell's best setting"
    assert (reasons == "largest cell: withheld to be predicted").sum() == 4
    used = analysis.runs.set_index("run_id").used
    assert not used[reasons.index].any() and used.sum() == len(used) - len(reasons)


def test_largest_cells_are_predicted_and_were_not_fitted(analysis):
    assert len(analysis.holdout) == 12
    assert analysis.holdout.inside.mean() >= 0.75
    assert (analysis.holdout.tokens == 40e6).all()
    corner = (analysis.residuals.params == 72e3) & (analysis.residuals.tokens == 40e6)
    assert not corner.any()


def test_shares_add_up_and_doubling_helps(analysis):
    assert analysis.variance.share.sum() == pytest.approx(1.0)
    assert (analysis.doubling.gain > 0).all()
    assert (analysis.doubling.low <= analysis.doubling.gain).all()


def test_one_family_is_undetermined_not_an_error():
    frame = made(corpora=("code",))
    found = analyse(from_frame(frame[frame.family == "a"], target="shared"), draws=40)
    assert found.equivalents.empty and found.ratios.empty
    texts = [n.text for n in found.notes if n.kind == "undetermined"]
    assert any("an effect of families needs two" in text for text in texts)
    assert any("an effect of corpora needs two" in text for text in texts)


def test_a_line_in_n_and_d_is_refused_in_notes():
    params = np.geomspace(1e6, 1e9, 10)
    frame = pd.DataFrame({"params": params, "tokens": 20 * params})
    frame["loss"] = 2.0 + params**-0.2
    found = analyse(from_frame(frame, target="shared"), draws=40)
    refused = [n.text for n in found.notes if n.kind == "refused"]
    assert any("one line" in text for text in refused)
    assert found.joint.empty and found.fits.empty


def test_best_rate_at_the_edge_is_noted():
    frame = made(corpora=("code",), learning_rate=0.01)
    cell = frame.iloc[[4]]
    rates = [cell.assign(learning_rate=r, loss=9.0 - r) for r in (0.02, 0.04)]
    found = analyse(from_frame(pd.concat([frame, *rates]), target="shared"), draws=40)
    edge = [n for n in found.notes if n.kind == "edge"]
    assert len(edge) == 1 and "low end at 0.01" in edge[0].text
    assert found.tuning.best.sum() == 1 and len(found.tuning) == 3


def test_repeated_data_at_the_same_place_hides_no_edge():
    cell = {"family": "a", "corpus": "code", "params": 8e3, "tokens": 1e6}
    repeated = cell | {"unique_tokens": 2.5e5, "rates": 1, "edge": ""}
    tuned = cell | {"unique_tokens": 1e6, "rates": 4, "edge": "high"}
    cells = pd.DataFrame(
        [row | {"settings": row["rates"]} for row in (repeated, tuned)]
    )
    tried = {"setting": "learning rate", "value": "0.03", "edge": "high"}
    said = tuning.of_cells(cells, pd.DataFrame([tuned | tried]))
    said = [note.text for note in said if note.kind == "edge"]
    assert len(said) == 1 and "high end at 0.03" in said[0]


def test_same_seed_same_numbers_other_seed_other_draws():
    table = from_frame(made(corpora=("code",)), target="shared")
    one, two, other = (analyse(table, draws=40, seed=k) for k in (1, 1, 2))
    pd.testing.assert_frame_equal(one.equivalents, two.equivalents)
    pd.testing.assert_frame_equal(one.fits, two.fits)
    assert not one.joint.low.equals(other.joint.low)
    np.testing.assert_allclose(one.joint.value, other.joint.value, rtol=1e-4)


def test_wrong_settings_raise_a_user_error():
    table = from_frame(made(), target="shared")
    with pytest.raises(UserError, match="draws"):
        analyse(table, draws=3)
    with pytest.raises(UserError, match="delta"):
        analyse(table, delta=0.0)


def test_data_equivalent_is_infinite_below_the_floor():
    logs = np.linspace(0.0, 20.0, 2001)
    losses = np.stack([2.0 + np.exp(-0.3 * logs)] * 3)
    found = data_equivalents.equivalent(losses, logs, np.array([2.1, 1.9, np.nan]))
    assert found[0] == pytest.approx(-np.log(0.1) / 0.3, abs=1e-4)
    assert np.isposinf(found[1]) and np.isnan(found[2])


def test_overall_effect_is_a_median_that_infinity_may_enter():
    logs = np.array([[0.1, 0.3, np.inf], [np.inf, 0.2, np.inf], [0.0, np.nan, 1.0]])
    found = data_equivalents.overall(logs)
    assert found[0] == 0.3 and np.isposinf(found[1]) and np.isnan(found[2])


def test_shapley_shares_of_an_additive_table_are_its_variances():
    x, y = np.array([0.0, 2.0]), np.array([0.0, 1.0, 2.0])
    shares = variance.shapley_effects((x[:, None] + y[None])[None])
    total = x.var() + y.var()
    np.testing.assert_allclose(shares[0], [x.var() / total, y.var() / total])
    product = variance.shapley_effects((x[:, None] * (x[None] - 1))[None])
    np.testing.assert_allclose(product.sum(), 1.0)
    assert product[0, 1] > product[0, 0] > 0


def test_document_errors_are_paired():
    table = from_frame(made(), target="shared")
    rng = np.random.default_rng(0)
    tokens = rng.integers(50, 150, 400).astype(float)
    hard = rng.gamma(4.0, 1.0, 400)
    documents = {
        "one": {"kjv": (tokens * hard, tokens)},
        "two": {"kjv": (tokens * (hard + 0.1), tokens)},
        "new": {"kjv": (tokens * (hard + rng.normal(0, 0.2, 400)), tokens)},
    }
    kept = table.__class__(
        **(table.__dict__ | {"documents": documents, "parts": {"t": {"kjv": 1.0}}})
    )
    assert document_se(kept, "t", "one", "two") == pytest.approx(0.0, abs=1e-12)
    found = document_se(kept, "t", "one", "new")
    assert found == pytest.approx(0.2 / np.sqrt(400), rel=0.15)
    assert document_se(kept, "t", "one", "absent") == 0.0


def test_small_designs_have_no_cell_to_spare():
    frame = coded(from_frame(made(), target="shared").runs)
    assert largest(frame).sum() == 4
    assert largest(frame[frame.tokens < 5e6]).sum() == 0


def test_importing_the_analysis_imports_no_jax():
    code = "import sys, analysis.pipeline; print({'jax', 'flax'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"
