"""Seeds of one cell are a group, and pairs of groups differ in one thing."""

import analysis
from analysis.design import factors
from analysis.predictions.groups import comparison
from tests.support.made_predictions import Plan


def compared(tmp_path, plan):
    plan.write(tmp_path)
    table, described = factors.fold(analysis.load(tmp_path))
    return comparison(table, described, table.predictions[0], 40)


def test_groups_are_cells_and_swaps_differ_in_one_factor(tmp_path):
    plan = Plan(
        corpora=("docstrings", "code"),
        budgets=(4096, 8192),
        fractions=(0.5, 1.0),
        positions=32,
        vocab=8,
    )
    asked = compared(tmp_path, plan)
    assert len(asked.groups) == 16 and (asked.groups.seeds == 3).all()
    assert len(asked.ends) == 8 and asked.settings == 0
    kinds = [(s.kind, s.baseline, s.alternative, s.fixed) for s in asked.swaps]
    assert kinds == [
        ("architecture", "lstm", "transformer", "code"),
        ("architecture", "lstm", "transformer", "docstrings"),
        ("corpus", "docstrings", "code", "lstm"),
        ("corpus", "docstrings", "code", "transformer"),
    ]
    pairs = asked.pairs(asked.ends, asked.swaps[0])
    assert [(a.family, b.family, a.tokens == b.tokens) for a, b in pairs] == 2 * [
        ("lstm", "transformer", True)
    ]
    half = asked.groups[asked.groups.fraction == 0.5].iloc[0]
    assert half.seen == half.tokens / 2 and len(asked.points(half)) == 3
    assert {fraction for _, fraction in asked.points(half)} == {0.5}
