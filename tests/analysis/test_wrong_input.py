"""Whatever a table holds: a Table, or one clear line; and no row goes unmentioned."""

from __future__ import annotations

import gzip
import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analysis import main
from analysis.tables.files import ENDINGS
from analysis.tables.load import from_frame, load
from analysis.tables.table import Table
from scaling.errors import UserError

BRIEF = settings(
    deadline=None,
    max_examples=60,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

NUMBER = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True),
    st.integers(-(10**30), 10**30),
    st.sampled_from([0.0, -1.0, 1e-300, 1e300, 3.2, 10**400]),
)
ANYTHING = st.one_of(
    NUMBER,
    st.text(max_size=6),
    st.none(),
    st.booleans(),
    st.sampled_from(["3B", "1e9", " 7 ", "nan", "inf", "1,000", "", "\n"]),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=2), st.integers(), max_size=1),
)
NAMES = st.sampled_from(
    [
        *("params", "N", "n", "tokens", "D", "loss", "loss:a", "loss:b", "val_loss"),
        *("family", "corpus", "status", "run_id", "trajectory", "seed", "flops"),
        *("learning_rate", "unique_tokens", "size", "", "x"),
    ]
)


@st.composite
def tables(draw):
    """Frames with the columns that are needed, and others, filled with anything."""
    names = {"params", "tokens", draw(st.sampled_from(["loss", "loss:a"]))}
    names |= set(draw(st.lists(NAMES, max_size=5)))
    rows = draw(st.integers(1, 6))
    cell = draw(st.sampled_from([NUMBER, ANYTHING]))
    return pd.DataFrame(
        {
            name: pd.Series([draw(cell) for _ in range(rows)], dtype=object)
            for name in sorted(names)
        }
    )


def check_nothing_is_lost(table: Table, rows: int) -> None:
    """On every target each row is either used or listed with a reason."""
    assert len(table.runs) == rows and table.runs.run_id.is_unique
    for target in table.targets:
        used = table.readings[table.readings.target == target]
        left = table.exclusions[table.exclusions.target.isin(["", target])]
        if table.asked:  # each corpus is a target of its own, and has its rows alone
            runs = table.runs.run_id[table.runs.corpus == target]
            assert set(runs) <= set(used.run_id) | set(left.run_id)
            continue
        assert used.run_id.is_unique and left.run_id.is_unique
        assert not set(used.run_id) & set(left.run_id)
        assert len(used) + len(left) == rows
    assert (table.exclusions.reason != "").all()
    assert (table.readings.loss > 0).all() and np.isfinite(table.readings.loss).all()


@given(tables())
@BRIEF
def test_any_frame_is_a_table_or_one_line(frame):
    before = frame.copy(deep=True)
    try:
        check_nothing_is_lost(from_frame(frame), len(frame))
    except UserError as error:
        assert "\n" not in str(error)
    pd.testing.assert_frame_equal(frame, before)


@given(st.sampled_from(sorted(ENDINGS)), st.binary(max_size=200))
@BRIEF
def test_any_bytes_are_refused_in_one_line(tmp_path, ending, content):
    path = tmp_path / f"table{ending}"
    path.write_bytes(content)
    with pytest.raises(UserError) as refused:
        load(path)
    assert "\n" not in str(refused.value)


@given(
    st.sampled_from([".csv", ".jsonl"]),
    st.text(alphabet="NDloss,;\t\n\"{}[]:0123456789.e-'\ufeff\r é", max_size=120),
)
@BRIEF
def test_any_text_is_a_table_or_one_line(tmp_path, ending, text):
    path = tmp_path / f"table{ending}"
    start = "N,D,loss\n" if ending == ".csv" else '{"N":1,"D":2,"loss":3}\n'
    for content in (text, start + text):
        path.write_bytes(content.encode())
        try:
            table = load(path)
        except UserError as error:
            assert "\n" not in str(error)
        else:
            check_nothing_is_lost(table, len(table.runs))


@given(st.dictionaries(NAMES, NAMES, max_size=4), st.lists(NAMES, max_size=6))
@BRIEF
def test_any_mapping_is_a_table_or_one_line(mapping, names):
    frame = pd.DataFrame([[1e6 + i for i in range(len(names))]], columns=names)
    try:
        check_nothing_is_lost(from_frame(frame, mapping), 1)
    except UserError as error:
        assert "\n" not in str(error)


# The named mistakes, each with what its line must say


def runs(rows: int = 12, **more) -> pd.DataFrame:
    frame = pd.DataFrame(
        {
            "N": np.tile(np.geomspace(1e6, 1e8, 3), rows)[:rows],
            "D": np.repeat(np.geomspace(1e8, 1e10, 4), 3)[:rows],
        }
    )
    frame["loss"] = 1.7 + 400 * frame.N**-0.34 + 400 * frame.D**-0.28
    return frame.assign(**more)


def csv(frame: pd.DataFrame) -> bytes:
    return frame.to_csv(index=False).encode()


def parquet(frame: pd.DataFrame) -> bytes:
    return frame.to_parquet()


WIDE = ",".join(f"c{i}" for i in range(10_001)).encode()
FILES = {
    "empty.csv": (b"", "the file is empty"),
    "header.csv": (b"N,D,loss\n", "at least one row"),
    "doubled.csv": (b"N,N,D,loss\n1,1,1,1\n", "'N': each column"),
    "doubled.jsonl": (b'{"N":1,"N":2,"D":3,"loss":1}\n', "each column name only once"),
    "cases.csv": (b"N,n,D,loss\n1,1,1,1\n", "name one: params=N or params=n"),
    "missing.csv": (b"N,loss\n1,1\n", "map tokens"),
    "parquet.csv": (parquet(runs())[:-200], "a Parquet file"),
    "gzip.csv": (gzip.compress(csv(runs()))[:-20], "cut short, after"),
    "damaged.csv.gz": (b"\x1f\x8b" + csv(runs()), "it is damaged"),
    "gzip.jsonl": (gzip.compress(b"{}"), "at least one row"),
    "sheet.csv": (b"PK\x03\x04rest", "spreadsheet"),
    "binary.csv": (b"N,D\0,loss\n", "binary"),
    "latin.csv": ("N,D,loss,é\n".encode("latin-1"), "at least one row"),
    "word.csv": (b"runs\n1\n", "its header has none of these"),
    "long.csv": (b"N,D,loss\n1e6,1e9,3,extra\n", "line 2 has 4"),
    "longer.csv": (b"N,D,loss\n1,2,3\n\n1e6,1e9,3,extra\n", "line 4 has 4"),
    "short.csv": (b"N,D,loss\n# a\n1e6,1e9,3\n1e6,1e9\n", "line 4 has 2"),
    "array.jsonl": (b'[{"N":1}]', "map tokens"),
    "list.json": (b"[1, 2]", "a JSON list of objects"),
    "cut.json": (b'[{"N":1}', "a JSON document or one object a line"),
    "cut.jsonl": (b'{"N":1}\n{"N":1}\n{"N":', "line 3"),
    "wide.csv": (WIDE + b"\n", "at most 10000 columns"),
    "wide.jsonl": (
        json.dumps(dict.fromkeys(map(str, range(10_001)), 1)).encode(),
        "at most 10000 columns",
    ),
    "negative.csv": (b"N,D,loss\n1e6,1e9,-3\n", "loss is negative"),
    "text.csv": (b"N,D,loss\n1e6,three,3\n", "it holds text, such as 'three'"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_wrong_file_is_one_line_and_exit_2(tmp_path, capsys, name):
    content, expected = FILES[name]
    (tmp_path / name).write_bytes(content)
    assert command("fit", str(tmp_path / name)) == main.WRONG
    said = capsys.readouterr()
    assert expected in said.err and said.err.count("\n") == 1
    assert said.out == ""


def command(*arguments: str) -> int:
    return main.main(main.parse(["scaling-analysis", *arguments]))


@pytest.mark.parametrize(
    "arguments",
    [
        ("no/such/file.csv",),
        ("no/such/folder",),
        ("no/such/runs.txt",),
        (".", "--map", "params=N"),
        ("t.csv", "--study", "quick"),
        ("t.csv", "--embeddings"),
        ("t.csv", "--map", "params=N,tokens=N"),
        ("t.csv", "--draws", "3"),
        ("t.csv", "--law", "chinchila"),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_2(
    tmp_path, monkeypatch, capsys, arguments
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.csv").write_bytes(csv(runs()))
    (tmp_path / "runs.txt").write_bytes(csv(runs()))
    assert command("fit", *arguments) == main.WRONG
    error = capsys.readouterr().err
    assert error.startswith("scaling-analysis: ") and error.count("\n") == 1


def test_more_columns_than_any_table_are_refused_at_once(tmp_path):
    """The header alone is read: a line of 40 MB is not."""
    (tmp_path / "wide.csv").write_bytes(b"column," * 6_000_000)
    with pytest.raises(UserError, match="at most 10000 columns"):
        load(tmp_path / "wide.csv")


@pytest.mark.parametrize("name", ["N", "D"])
def test_mixed_units_are_warned_of(name):
    """Half of a table in billions, and all of it."""
    mixed = runs()
    mixed.loc[:2, name] /= 1e9
    (text,) = from_frame(mixed).warnings
    assert "units look mixed" in text and "3 of 12 rows" in text
    (text,) = from_frame(runs(**{name: runs()[name] / 1e9})).warnings
    assert "millions or billions" in text


def test_rows_named_alike_are_told_apart():
    table = from_frame(runs(run=["a"] * 12))
    assert table.runs.run_id.is_unique and len(table.readings) == 12


def test_an_exclusion_is_listed_once_with_its_first_reason():
    bad = runs(status="done").astype({"N": object, "loss": object})
    bad.loc[0, ["N", "loss", "status"]] = ["many", "low", "failed"]
    table = from_frame(bad)
    assert table.exclusions.to_dict("records") == [
        {"run_id": "row 1", "target": "", "reason": "params is not a number: 'many'"}
    ]
    check_nothing_is_lost(table, 12)


def test_missing_family_is_listed_not_made_up():
    families = ["a", None, "b", math.nan] * 3
    table = from_frame(runs(family=families))
    assert set(table.readings.merge(table.runs).family) == {"a", "b"}
    assert set(table.exclusions.reason) == {"family is missing"}
    check_nothing_is_lost(table, 12)


def test_names_of_runs_are_not_taken_for_families():
    """Every run a family of its own: thousands of pairs, and none of any meaning."""
    named = pd.concat([runs()] * 4, ignore_index=True)
    named = named.assign(model=[f"run-{i}" for i in range(48)])
    named["loss"] += 1e-3 * np.arange(48)
    table = from_frame(named)
    assert set(table.runs.family) == {"all"} and "family" not in table.mapping
    (text,) = table.warnings
    assert "model has 48 different values" in text and "--map" in text
    check_nothing_is_lost(table, 48)
    with pytest.raises(UserError, match="48 different values, more than 40"):
        from_frame(named, {"family": "model"})


def test_losses_that_are_all_the_same_are_refused():
    with pytest.raises(UserError, match="all 12 usable losses of loss are 3"):
        from_frame(runs(loss=3.0))


@pytest.mark.parametrize("factor", [1e8, 1e-8])
def test_losses_beyond_what_laws_allow_are_refused(factor):
    """Every parameter would end on a bound."""
    with pytest.raises(UserError, match=r"median of .* multiply them by .*--unit"):
        from_frame(runs().assign(loss=lambda frame: frame.loss * factor))
    # One diverged run among many does not make the table's scale.
    one = runs()
    one.loc[3, "loss"] *= factor
    assert len(from_frame(one).readings) == 12
