"""One rule of the same size or budget."""

import ast
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.design import levels
from analysis.design.cells import points, target_frame
from analysis.design.levels import BUDGET, SIZE, count, level_codes
from analysis.design.swaps import Swap
from analysis.effects.matched_cells import matches, of_experiments, one_a_place
from analysis.inference.intervals import draw, sample
from analysis.pipeline import analyse
from analysis.predictions.groups import seeds_of_cells
from analysis.questions import noise, sensitivity
from analysis.surfaces.surfaces import fit_all
from analysis.tables import subsample
from analysis.tables.load import from_frame


@pytest.mark.parametrize("apart", [SIZE, BUDGET, 0.2])
def test_no_level_spans_more_than_the_tolerance(apart):
    rng = np.random.default_rng(0)
    for width in (0.01, 0.1, 1.0, 5.0):
        for size in (1, 2, 30, 200):
            values = np.exp(rng.uniform(0, width, size))
            codes = level_codes(values, apart)
            for code in range(codes.max() + 1):
                level = values[codes == code]
                assert level.max() / level.min() <= (1 + apart) * (1 + 1e-6)
            assert (np.diff(codes[np.argsort(values)]) >= 0).all()
            # As many values lie further apart than that, each from all others.
            picked = [values.min()]
            for value in np.sort(values):
                if value > picked[-1] * (1 + apart) * (1 + 1e-8):
                    picked.append(value)
            assert len(picked) == codes.max() + 1 == count(values, apart)


def test_cuts_lie_in_the_widest_gaps_and_groups_stay_whole():
    assert level_codes(np.array([0.985, 1.004, 1.005, 1.006]), BUDGET).tolist() == [
        *(0, 1, 1, 1)
    ]
    jitter = np.array([0.99, 1.0, 1.009])
    values = np.concatenate([jitter, 2 * jitter, 8 * jitter])
    assert level_codes(values, BUDGET).tolist() == [0] * 3 + [1] * 3 + [2] * 3
    assert level_codes(np.zeros(0)).size == 0 and count(np.zeros(0)) == 0


def continuous(rows: int = 240, families=("a",)) -> pd.DataFrame:
    """Runs whose budgets nobody planned: three sizes, each its own tokens."""
    rng = np.random.default_rng(3)
    frames = []
    for k, family in enumerate(families):
        params = rng.choice([1e7, 4e7, 1.6e8], rows)
        tokens = np.exp(rng.uniform(np.log(2e8), np.log(6e9), rows))
        loss = 1.8 + 300 / params**0.33 + 900 / (tokens * 1.3**k) ** 0.33
        loss *= np.exp(rng.normal(0, 0.001, rows))
        columns = {"params": params, "tokens": tokens, "loss": loss}
        frames.append(pd.DataFrame(columns | {"family": family}))
    return pd.concat(frames, ignore_index=True)


def test_continuous_budgets_are_no_single_cell():
    frame = target_frame(from_frame(continuous(), target="shared"), "loss")
    assert frame.cell.nunique() == 240
    by_budget = frame.groupby("budget").tokens
    assert (by_budget.max() / by_budget.min()).max() <= 1 + BUDGET + 1e-9
    assert frame.budget.nunique() > 80 and frame.level.nunique() == 3
    assert len(points(frame)) == 9  # three sizes, three quantiles of the budgets
    surfaces = fit_all(draw(sample(frame), 0), 1e-3, 0)
    assert len(surfaces.sizes) == 3
    assert sum(one.rows.sum() for one in surfaces.sizes) == 240


def test_matched_cells_of_continuous_budgets_differ_by_the_tolerance_at_most():
    found = analyse(from_frame(continuous(120, ("a", "b")), target="shared"), draws=40)
    paired = found.equivalents[found.equivalents.method == "paired"]
    assert paired.params.notna().sum() > 10
    frame = target_frame(
        from_frame(continuous(120, ("a", "b")), target="shared"), "loss"
    )
    cells = frame.drop_duplicates(["family", "corpus", "level", "budget"])
    swap = Swap("architecture", "a", "b", "all", ("a", "all"), ("b", "all"))
    for match in matches(cells.assign(seeds=1), [swap])[swap]:
        ratio = match.after.tokens / match.before.tokens
        assert abs(np.log(ratio)) <= np.log1p(BUDGET) + 1e-9


def test_shapes_are_kept_apart_where_the_table_has_them_apart():
    frame = continuous(24).assign(params=1e8, tokens=1e9)
    runs = from_frame(frame, target="shared").runs.assign(
        **{"apart:depth": np.arange(24) % 2}
    )
    table = from_frame(frame, target="shared")
    table = table.__class__(**(table.__dict__ | {"runs": runs}))
    assert target_frame(table, "loss").cell.nunique() == 2


def test_every_consumer_has_the_same_levels():
    rng = np.random.default_rng(1)
    made = continuous(90)
    made["params"] = np.exp(rng.uniform(np.log(1e7), np.log(2e8), len(made)))
    made["params_total"] = made.params * rng.uniform(1.0, 1.1, len(made))
    frame = target_frame(from_frame(made, target="shared"), "loss")

    def codes(rows, name, apart):
        return level_codes(rows[name].to_numpy(float), apart)

    np.testing.assert_array_equal(frame.level, codes(frame, "params", SIZE))
    np.testing.assert_array_equal(frame.budget, codes(frame, "tokens", BUDGET))
    assert frame.level.nunique() < len(frame) > frame.budget.nunique()
    best = seeds_of_cells(frame)
    np.testing.assert_array_equal(best.unique, codes(best, "unique_tokens", BUDGET))
    counted = sensitivity._counted(frame)
    np.testing.assert_array_equal(counted.level, codes(frame, "params_total", SIZE))
    spread = frame[["corpus", "params"]].assign(target="t", seeds=2, sd_log=0.01)
    assert len(noise.levels(spread)) == frame.level.nunique()
    near = {"params": SIZE, "tokens": BUDGET, "unique_tokens": BUDGET}
    assert near.items() <= subsample.NEAR.items()
    cells = one_a_place(of_experiments(frame, "loss"))
    assert len(cells) == len(frame.drop_duplicates(["level", "budget"]))


BINS = {"digitize", "cut", "qcut", "histogram"}
COUNTS = {"params", "tokens", "unique_tokens", "params_total", "flops"}


def names(node: ast.AST) -> set[str]:
    """Names, attributes and strings of a piece of code."""
    out = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
    out |= {n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute)}
    return out | {str(n.value) for n in ast.walk(node) if isinstance(n, ast.Constant)}


def test_no_file_has_a_rule_of_its_own():
    """Nobody else bins counts, or calls those of one rounded logarithm the same."""
    own = Path(levels.__file__)
    rules = []
    for path in own.parents[1].rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if path == own or not isinstance(node, ast.Call):
                continue
            called = names(node.func)
            binned = bool(BINS & called)
            rounded = {"round", "rint", "floor"} & called and "log" in names(node)
            if (binned or rounded) and COUNTS & names(node):
                rules.append(f"{path.name}:{node.lineno}")
    assert not rules
