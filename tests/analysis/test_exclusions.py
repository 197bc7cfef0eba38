"""Rows that no fit saw: all counted, named up to a limit, and no report holds more."""

from __future__ import annotations

import io
import json
import math

import pandas as pd
import pytest

from analysis import main, progress
from analysis.pipeline import STAGES
from analysis.tables import exclusions
from analysis.tables.load import from_frame


@pytest.fixture
def limit(monkeypatch):
    monkeypatch.setattr(exclusions, "LISTED", 3)
    return 3


def table():
    """Twelve usable rows, of two targets; ten rows without a size, five bad losses."""
    good = pd.DataFrame(
        {
            "params": [1e6, 4e6, 16e6] * 4,
            "tokens": sorted([1e8, 4e8, 16e8, 64e8] * 3),
        }
    )
    good["loss:a"] = 1.7 + 400 * good.params**-0.34 + 400 * good.tokens**-0.28
    good["loss:b"] = good["loss:a"] + 1.0
    sizeless = good.iloc[:10].assign(params=-1.0)
    lossless = good.iloc[:5].assign(**{"loss:a": -1.0})
    lossless["loss:b"] += 0.1
    every = pd.concat([good, sizeless, lossless], ignore_index=True)
    return from_frame(every, target="shared")


def test_every_row_is_counted_where_few_are_named(limit):
    whole = table()
    short = exclusions.brief(whole)
    gone = whole.runs.run_id[~whole.runs.run_id.isin(short.runs.run_id)]
    counted = exclusions.counted(whole.exclusions, gone).set_index(["target", "reason"])
    size, loss = ("", "params is not above zero"), ("a", "loss is negative")
    assert counted.loc[size, ["rows", "listed", "unnamed"]].tolist() == [10, limit, 7]
    # Rows without a loss on one target are used on the other, and stay among the runs.
    assert counted.loc[loss, ["rows", "listed", "unnamed"]].tolist() == [5, limit, 0]
    assert len(short.runs) + counted.unnamed.sum() == len(whole.runs) == 27
    assert set(whole.readings.run_id) <= set(short.runs.run_id)
    named = exclusions.listed(whole.exclusions)
    assert set(named.run_id) <= set(short.runs.run_id)
    assert named.groupby("reason").size().tolist() == [limit, limit]


def test_a_short_list_is_left_alone():
    whole = table()
    assert exclusions.listed(whole.exclusions).equals(whole.exclusions)
    assert len(exclusions.brief(whole).runs) == 27


def test_reasons_that_quote_are_of_one_kind(limit):
    rows = [(f"row {i}", "", f"tokens is not a number: 'x{i}'") for i in range(8)]
    left = pd.DataFrame(rows, columns=["run_id", "target", "reason"])
    assert exclusions.listed(left).run_id.tolist() == ["row 0", "row 1", "row 2"]
    assert exclusions.counted(left, left.run_id[3:]).to_dict("records") == [
        {
            "target": "",
            "reason": "tokens is not a number",
            "rows": 8,
            "listed": 3,
            "unnamed": 5,
        }
    ]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("short", "lines"),
    [
        (0.0, ["val: 1 of 2, laws", "val: 2 of 2, effects"]),
        (math.inf, ["val: 1 of 2, laws"]),
    ],
)
def test_stages_are_lines_where_there_is_no_terminal(short, lines, monkeypatch):
    """Stages that pass quickly share a line."""
    monkeypatch.setattr(progress, "SHORT", short)
    stream = io.StringIO()
    with progress.stages("val", 2, stream=stream) as begin:
        begin("laws")
        begin("effects")
    assert [line.split(" (")[0] for line in stream.getvalue().splitlines()] == lines


def test_stages_are_a_bar_on_a_terminal():
    stream = Terminal()
    with progress.stages("val", 2, stream=stream) as begin:
        begin("laws")
        begin("effects")
    said = stream.getvalue()
    assert "val: laws: " in said and "val: effects: " in said and "1 of 2" in said
    assert ": :" not in said
    assert "\n" not in said


def test_nothing_is_written_unless_asked_for(capsys):
    with progress.stages("val", 1, shown=False) as begin:
        begin("laws")
    assert capsys.readouterr() == ("", "")


def test_a_report_counts_what_it_does_not_name(limit, tmp_path, capsys):
    """Its tables are short, its sentences count every row; no law takes repeated data.

    So that the test is quick: what is listed does not hang on what is fitted.
    """
    whole = table().runs[["params", "tokens", "loss:a"]]
    whole.assign(unique_tokens=whole.tokens / 4).to_csv(tmp_path / "t.csv", index=False)
    asked = ["report", str(tmp_path / "t.csv"), "--out", str(tmp_path)]
    assert main.main(main.parse(["scaling-analysis", *asked])) == main.NOTHING
    said = capsys.readouterr()
    assert (
        "a (12 losses, 300 draws): 1 of " in said.err and f", {STAGES[0]}" in said.err
    )
    assert said.out.count("\n12 of 27 runs (") == 1
    frames = json.loads((tmp_path / "report.json").read_text())["frames"]
    assert len(frames["runs"]["run_id"]) + sum(frames["excluded"]["unnamed"]) == 27
    assert len(frames["runs"]["run_id"]) < 27
    sizes = frames["excluded"]["reason"].index("params is not above zero")
    assert frames["excluded"]["rows"][sizes] == 10
    assert frames["excluded"]["listed"][sizes] == limit
    page = (tmp_path / "report.html").read_text()
    # Sizes such as -1 are cells that were left out, and no size of a run.
    assert "12 of 27 runs (0 fitted), 1 family, 1 corpus; 1M to 16M parameters" in page
