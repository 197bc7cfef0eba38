"""Tables copied out of documents and spreadsheets, with what stands around them."""

from __future__ import annotations

import io
import json

import numpy as np
import pandas as pd
import pytest

from analysis.tables.load import from_frame, load
from scaling.errors import UserError
from tests.analysis.tables.test_losses import grid

BODY = [
    (f"{n / 1e6:g}M", f"{d / 1e9:g}B", f"{loss:.4f}") for n, d, loss in grid().values
]
HEADER = "| **N** | `D` | loss ↓ |\n|---|:-:|--:|\n"
BARS = HEADER + "".join(f"| {n} | {d} | **{loss}** |\n" for n, d, loss in BODY)
LATEX = (
    r"\begin{tabular}{l@{}rr} \toprule $N$ & \textbf{D} & loss \\ \cmidrule(lr){1-2}"
    + "\n".join(rf"${n[:-1]}$M & {d} & $\mathbf{{{loss}}}$ \\" for n, d, loss in BODY)
    + r"\bottomrule \end{tabular}"
)
COMMAS = grid().to_csv(index=False)


@pytest.mark.parametrize(
    "text",
    [
        f"# Runs\n\nHere they are:\n\n{BARS}\nThat is all.\n",
        BARS,
        LATEX,
        f"Table 1: all, in nats\n{LATEX}\n",
        f"My runs,,\n,,\n{COMMAS}",
        f"My runs\nof last year\n\n{COMMAS}",
        f"Model,Text,Result\n{COMMAS}",
        f"{COMMAS}Total,,\n",
        COMMAS.replace("N,D,loss", "'N','D','loss'"),
    ],
)
def test_the_table_alone_is_read(tmp_path, text):
    path = tmp_path / "copied.txt"
    path.write_text(text)
    table = load(path)
    assert len(table.readings) == 16
    np.testing.assert_allclose(table.runs.params[:16], grid().N)
    np.testing.assert_allclose(table.runs.tokens[:16], grid().D)
    np.testing.assert_allclose(table.readings.loss, grid().loss, atol=1e-4)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{BARS}\nand\n\n{BARS}", "one table in a file; this one has 2"),
        (f"{LATEX}\n{LATEX}", "one table in a file; this one has 2"),
        (LATEX.replace("$N$", r"\multicolumn{1}{l}{N}"), "without"),
        ("<table><tr><td>1</td></tr></table>", "HTML"),
        ("- params: 1\n  tokens: 2\n", "YAML"),
    ],
)
def test_what_is_not_one_table_is_refused(tmp_path, text, expected):
    path = tmp_path / "copied.md"
    path.write_text(text)
    with pytest.raises(UserError, match=expected):
        load(path)


def test_sheets_in_json_and_arrow_files_and_an_index(tmp_path):
    frame = grid()
    rows = [list(frame.columns), *frame.values.tolist()]
    (tmp_path / "sheet.json").write_text(json.dumps(rows))
    frame.to_feather(tmp_path / "a.feather")
    frame.set_index(["N", "D"]).to_parquet(tmp_path / "index.parquet")
    for name in ("sheet.json", "a.feather", "index.parquet"):
        table = load(tmp_path / name)
        np.testing.assert_allclose(table.readings.loss, frame.loss)
    (tmp_path / "a.feather").write_bytes((tmp_path / "a.feather").read_bytes()[:-40])
    with pytest.raises(UserError, match="a Feather or Arrow file"):
        load(tmp_path / "a.feather")
    cells = [{"N": n, "D": d, "loss": [5.0, x]} for n, d, x in frame.values]
    (tmp_path / "curves.json").write_text(json.dumps(cells))
    with pytest.raises(UserError, match=r"lists are left out: loss"):
        load(tmp_path / "curves.json")


@pytest.mark.parametrize("last", ["sum", "mean"])
@pytest.mark.parametrize("label", ["Total", "Grand total:", "Mean", ""])
def test_rows_that_sum_up_the_others_are_no_runs(last, label):
    frame = grid(run=[f"r{i}" for i in range(16)])
    ends = frame[["N", "D", "loss"]].agg(last).to_dict()
    whole = pd.concat([frame, pd.DataFrame([ends | {"run": label}])])
    table = from_frame(whole)
    assert len(table.readings) == 16
    (reason,) = table.exclusions.reason
    assert reason.startswith("it sums up other rows")


def test_a_row_that_merely_looks_like_a_total_is_a_run():
    frame = grid(pooling=["mean", "max", "sum", "none"] * 4, model="total")
    assert len(from_frame(frame, {"apart:pooling": ""}).readings) == 16
    text = io.StringIO(grid().to_csv(index=False))
    assert len(from_frame(pd.read_csv(text)).readings) == 16


@pytest.mark.filterwarnings("error")
def test_numbers_beyond_all_sums_are_no_totals():
    frame = grid().assign(x1=1e308, x2=-1e308, x3=1e-308)
    frame.loc[frame.index[1:3], ["x1", "x2", "x3"]] = [1.7e308, np.inf, 1e308]
    table = from_frame(frame)
    assert len(table.readings) == len(frame) and table.exclusions.empty
