"""One frame, written as people and programs write it, is read as the same numbers."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import sys

import numpy as np
import pandas as pd
import pytest
import zstandard

from analysis.tables import files
from analysis.tables.load import load
from scaling.errors import UserError


def runs() -> pd.DataFrame:
    sizes, budgets = np.geomspace(1.1e7, 1e9, 4), np.geomspace(2e8, 1e11, 4)
    frame = pd.DataFrame([(n, d) for n in sizes for d in budgets], columns=["N", "D"])
    frame = frame.round(0)
    return frame.assign(loss=1.7 + 400 * frame.N**-0.34 + 400 * frame.D**-0.28)


def text(**options) -> bytes:
    return runs().to_csv(index=False, **options).encode()


def markdown() -> bytes:
    lines = ["| N | D | loss |", "|---|:--|---:|"]
    lines += [f"| {n!r} | {d!r} | {x!r} |" for n, d, x in runs().to_numpy().tolist()]
    return "\n".join(lines).encode()


def numpy_text() -> bytes:
    out = io.StringIO()
    np.savetxt(out, runs().to_numpy(), fmt="%.17g", header="N D loss")
    return out.getvalue().encode()


def nested(rows: bool = True) -> list[dict]:
    return [
        {"config": {"N": n, "D": d, "betas": [0.9, 0.95]}, "summary": {"loss": x}}
        for n, d, x in runs().to_numpy().tolist()
    ]


def parquet() -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(nested()), out)
    return out.getvalue()


DIALECTS = {
    "comma.csv": text(),
    "semicolon.csv": text(sep=";"),
    "continental.csv": text(sep=";", decimal=","),
    "quoted.csv": text(sep=",", decimal=","),
    "tab.tsv": text(sep="\t"),
    "tab.csv": text(sep="\t"),
    "bar.txt": text(sep="|"),
    "blanks.txt": text(sep=" "),
    "named.csv": b"sep=;\r\n" + text(sep=";"),
    "bom.csv": b"\xef\xbb\xbf" + text(),
    "utf16.csv": text().decode().encode("utf-16"),
    "utf16_without_mark.csv": text().decode().encode("utf-16-le"),
    "windows.csv": text().replace(b"\n", b"\r\n"),
    "mac.csv": text().replace(b"\n", b"\r"),
    "latin.csv": text()
    .replace(b"loss", "loss,größe".encode("latin-1"), 1)
    .replace(b"\n", b",x\n")
    .replace(b"e,x\n", b"e\n", 1),
    "comments.csv": b"# by me\n\n" + text().replace(b"\n", b"\n# more, and more\n", 3),
    "savetxt.txt": numpy_text(),
    "index.csv": runs().to_csv().encode(),
    "spaces.csv": text().replace(b"N,D,loss", b" N , D, loss "),
    "table.md": markdown(),
    "records.json": runs().to_json(orient="records", double_precision=15).encode(),
    "columns.json": json.dumps(runs().to_dict(orient="list")).encode(),
    "pandas.json": json.dumps(runs().to_dict(orient="index")).encode(),
    "split.json": json.dumps(runs().to_dict(orient="split")).encode(),
    "under.json": json.dumps({"version": 1, "runs": nested()}).encode(),
    "by_run.json": json.dumps({f"r{i}": x for i, x in enumerate(nested())}).encode(),
    "nested.jsonl": "\n".join(map(json.dumps, nested())).encode(),
    "mixed.jsonl": "\n".join(map(json.dumps, [*nested(), {"config": "x"}])).encode(),
    "nested.parquet": parquet(),
    "cells.csv": pd.DataFrame(nested()).to_csv().encode(),
    "gzip.csv.gz": gzip.compress(text()),
    "gzip_by_content.csv": gzip.compress(text()),
    "two_members.csv.gz": gzip.compress(text()[:70]) + gzip.compress(text()[70:]),
    "xz.csv.xz": lzma.compress(text()),
    "bz2.csv.bz2": bz2.compress(text()),
    "zst.csv.zst": zstandard.compress(text()),
    "packed.parquet.gz": gzip.compress(parquet()),
}


@pytest.mark.parametrize("name", DIALECTS)
def test_every_dialect_gives_the_same_numbers(tmp_path, name):
    (tmp_path / name).write_bytes(DIALECTS[name])
    table = load(tmp_path / name)
    made = runs()
    tolerance = 1e-14 if name == "records.json" else 0  # what pandas writes
    found = table.runs.head(len(made))
    np.testing.assert_array_equal(found.params, made.N)
    np.testing.assert_array_equal(found.tokens, made.D)
    losses = table.readings.loss
    np.testing.assert_allclose(losses, made.loss, rtol=tolerance, atol=0)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("continental.csv", "columns are separated by semicolons"),
        ("latin.csv", "it is not UTF-8 and is read as Windows-1252"),
        ("utf16_without_mark.csv", "read as UTF-16-LE"),
        ("nested.jsonl", "lists are left out: config.betas"),
        ("nested.parquet", "lists are left out: config.betas"),
        ("cells.csv", "lists are left out: betas"),
        ("under.json", "the rows are what stands under 'runs'"),
    ],
)
def test_what_was_read_how_is_said(tmp_path, name, said):
    (tmp_path / name).write_bytes(DIALECTS[name])
    assert any(said in text for text in files.read(str(tmp_path / name))[1])


def test_a_point_that_may_group_is_not_a_decimal_one(tmp_path):
    """In a table with decimal commas 350.000 is 350000, or a point was mixed in."""
    (tmp_path / "t.csv").write_text("N;D;loss\n350.000;1,5e9;3,25\n700.000;2e9;3,15\n")
    with pytest.raises(UserError, match=r"'350.000' is 350000 or 350.000"):
        load(tmp_path / "t.csv")


def test_packed_by_zstd_without_its_reader_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "zstandard", None)
    (tmp_path / "t.csv.zst").write_bytes(DIALECTS["zst.csv.zst"])
    with pytest.raises(UserError, match=r"pip install 'datalaw\[zstd\]'"):
        load(tmp_path / "t.csv.zst")


@pytest.mark.parametrize("name", [n for n in DIALECTS if n.count(".") > 1])
def test_packed_files_that_are_cut_are_refused(tmp_path, name):
    (tmp_path / name).write_bytes(DIALECTS[name][:-9])
    with pytest.raises(UserError, match=r"it is (cut short|damaged)"):
        load(tmp_path / name)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"PK\x03\x04rest", "a spreadsheet; save its table as .csv"),
        (b"\xd0\xcf\x11\xe0rest", "save its table as .csv"),
        (b"\x89HDF\r\n", "an HDF5 file"),
        (b"SQLite format 3\x00", "a database"),
        (
            b"N,D,loss\n1,2\n",
            "in each line; line 2 has 2",
        ),
        (b'N,D,loss\n1,"2\n3,4\n', "line|EOF"),
    ],
)
def test_what_is_no_table_says_what_it_is(tmp_path, content, expected):
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(UserError, match=expected) as refused:
        load(tmp_path / "t.csv")
    assert "\n" not in str(refused.value)
