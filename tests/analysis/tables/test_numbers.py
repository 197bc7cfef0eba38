"""Numbers as people write them are read in one way a column, or not at all."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.tables import headers, numbers
from analysis.tables.load import from_frame
from scaling.errors import UserError

BRIEF = settings(deadline=None, max_examples=60, database=None)


def read(cells, name="N", count=True, **more) -> numbers.Numbers:
    column = pd.Series(cells, dtype=object)
    return numbers.read(pd.DataFrame({name: column, **more}), name, count)


@pytest.mark.parametrize(
    ("cells", "values", "said"),
    [
        (
            ["6.7B", "190M", "1.2T", "350k", "1e9"],
            [6.7e9, 1.9e8, 1.2e12, 3.5e5, 1e9],
            1,
        ),
        ([" 12 ", "1E3", "+5", "−1.5"], [12, 1000, 5, -1.5], ""),
        (["1,000,000", "350,000"], [1e6, 3.5e5], "1,000,000 is 1e6"),
        (["12,34,567"], [1234567], 1),
        (
            ["1 000 000", "1\u00a0000", "1\u202f000", "1\u2009000"],
            [1e6, 1e3, 1e3, 1e3],
            1,
        ),
        (["1_000_000", "1'000", "1’000"], [1e6, 1e3, 1e3], 1),
        (["1,5", "2,25"], [1.5, 2.25], "1,5 is 1.5"),
        (["1,5", "1.234"], [1.5, 1234], 1),
        (["1.234.567", "1.234"], [1234567, 1234], 1),
        (["1,234.5", "1,234"], [1234.5, 1234], 1),
        (["0,123", "1,234"], [0.123, 1.234], 1),
        (
            ["1.91B tokens", "3B tokens", "5e9"],
            [1.91e9, 3e9, 5e9],
            "1.91B tokens is 1.91e9",
        ),
        (["3.2e18 FLOPs", "2 PFLOPs"], [3.2e18, 2e15], 1),
        (["1.5x10^18", "1.5·10¹⁸", "10^9"], [1.5e18, 1.5e18, 1e9], 1),
        (["2.5 million", "3 billion"], [2.5e6, 3e9], 1),
        (["12.5%", "3%"], [0.125, 0.03], "12.5% is 0.125"),
        (["2.5", "inf", "-inf", "∞"], [2.5, np.inf, -np.inf, np.inf], ""),
        (["1.234", "2.345"], [1.234, 2.345], ""),
        ([1, 2.5, "3"], [1, 2.5, 3], ""),
        (['"1,5"', "'2,5'"], [1.5, 2.5], 1),
        (["2^20", "3 x 2**10", "7"], [1 << 20, 3072, 7], "2^20 is 1.04858e6"),
        (["4.83 ± 0.01", "4.7+/-.02", "5"], [4.83, 4.7, 5], "4.83 ± 0.01 is 4.83"),
        (["4.83(2)", "4.7 (0.01)", "4.6 [4.5, 4.7]"], [4.83, 4.7, 4.6], 1),
        (["4.83*", "**4.7**", "4.6 †", "$4.5$"], [4.83, 4.7, 4.6, 4.5], 1),
        (["~20M", "≈ 1.5B", "ca. 3k"], [2e7, 1.5e9, 3e3], "~20M is 2e7"),
        (["400Mtok", "0.3BT", "7 Bparams"], [4e8, 3e8, 7e9], 1),
        ([r"$1.5\times10^{9}$", r"\textbf{2M}"], [1.5e9, 2e6], 1),
    ],
)
def test_columns_of_one_reading(cells, values, said):
    found = read(cells)
    assert found.values.tolist() == values
    assert not found.wrong.any() and not found.refused
    assert said in found.said if isinstance(said, str) else found.said.startswith("N: ")


@pytest.mark.parametrize(
    ("cells", "why"),
    [
        (["350,000", "1,234"], "'350,000' is 350000 or 350.000"),
        (["1,234", "2.345"], "nothing else in the table tells which"),
        (["1,5", "2.5"], "'1,5' has a decimal comma and '2.5' a decimal point"),
        (["1,000,000", "1,5"], "decimal comma"),
        (["12.5%", "3"], "it mixes '12.5%' and '3'"),
        (["1.9B tokens", "3B params"], "give all of them in one unit"),
        (["8x7B", "small"], "it holds text, such as '8x7B'"),
        ([True, False], "it holds text"),
    ],
)
def test_columns_of_two_readings_or_none_are_refused(cells, why):
    found = read(cells)
    assert why in found.refused
    assert found.wrong.all() and np.isnan(found.values).all()


def test_other_columns_tell_what_a_comma_is():
    cells = ["1,234", "2,345"]
    assert read(cells, x=["1,5", "2,5"]).values.tolist() == [1.234, 2.345]
    assert read(cells, x=["1,000,000", "5"]).values.tolist() == [1234, 2345]
    assert read(cells, x=["a, b", "1,5 or so"]).refused
    assert read(["1.234", "2.345"], x=["1,5", "2,5"]).refused


def test_a_cell_that_is_no_number_is_marked_alone():
    found = read(["1.5B", "about 3", "", "N/A", "-", None, True, [1], 10**400, "1.2.3"])
    assert found.values[0] == 1.5e9 and np.isnan(found.values[1:]).all()
    assert found.wrong.tolist() == [*[False, True], *[False] * 4, *[True] * 4]


def test_m_is_million_only_where_something_is_counted():
    assert read(["70m", "1b"]).values.tolist() == [7e7, 1e9]
    assert read(["70m", "1.5"], count=False).wrong.tolist() == [True, False]


@pytest.mark.parametrize(
    ("header", "cells", "values", "said"),
    [
        ("tokens [B]", [1.9, 2.5], [1.9e9, 2.5e9], "1.9 is 1.9e9"),
        ("params (M)", ["1,5", "20"], [1.5e6, 2e7], "is 1.5e6"),
        ("D (1e9 tokens)", [2], [2e9], "2 is 2e9"),
        ("tokens [B]", ["1.9B"], [1.9e9], "not counted again"),
        ("loss (nats)", [2.5], [2.5], ""),
        ("loss (val)", [2.5], [2.5], ""),
    ],
)
def test_a_unit_in_a_header_multiplies_and_is_said(header, cells, values, said):
    found = read(cells, header)
    assert found.values.tolist() == values and said in found.said
    assert bool(found.said) == bool(said)


def test_a_header_that_contradicts_its_numbers_is_refused():
    assert "take B out of the header" in read([1.9e9, 2e9], "tokens [B]").refused


def test_names_by_which_columns_are_found():
    found = headers.known_as([" loss (nats)", "#N", "config.lr", "a.x", "b.x", "D [B]"])
    assert list(found.values()) == ["loss", "n", "lr", "a.x", "b.x", "d"]


COUNT = st.integers(1, 10**13)
DIALECTS = {
    "plain": str,
    "thousands": lambda n: f"{n:,}",
    "spaces": lambda n: f"{n:,}".replace(",", "\u202f"),
    "underscores": lambda n: f"{n:_}",
    "points": lambda n: f"{n:,}".replace(",", "."),
    "millions": lambda n: f"{n // 10**6}.{n % 10**6:06d}M",
    "billions of": lambda n: f"{n // 10**9}.{n % 10**9:09d}B tokens",
    "power": lambda n: f"{n}e0",
    "times": lambda n: f"{n} × 10^0",
}


@given(st.lists(COUNT, min_size=1, max_size=6), st.sampled_from(sorted(DIALECTS)))
@BRIEF
def test_counts_are_the_same_to_the_last_bit_in_every_dialect(counts, dialect):
    # One of them is long enough to tell what a comma is.
    counts = [1_234_567, *counts]
    found = read([DIALECTS[dialect](n) for n in counts])
    assert found.values.tolist() == [float(n) for n in counts]


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=6))
@BRIEF
def test_losses_are_the_same_to_the_last_bit_with_a_decimal_comma(losses):
    found = read(["0,5", *(repr(x).replace(".", ",") for x in losses)], "loss", False)
    assert found.values.tolist() == [0.5, *losses]


def runs() -> pd.DataFrame:
    sizes, budgets = np.geomspace(1e6, 1e9, 4), np.geomspace(1e8, 1e11, 4)
    frame = pd.DataFrame([(n, d) for n in sizes for d in budgets], columns=["N", "D"])
    return frame.assign(loss=1.7 + 400 * frame.N**-0.34 + 400 * frame.D**-0.28)


def test_a_table_says_how_its_numbers_were_read():
    made = runs()
    table = from_frame(
        made.assign(
            N=[f"{n / 1e6:g}M" for n in made.N],
            D=[f"{d:,.0f}" for d in made.D],
            lr="3e-4 to 3e-5",
        )
    )
    np.testing.assert_allclose(table.runs.params, made.N, rtol=1e-5)
    assert table.said[:2] == ("N: 1M is 1e6", "D: 100,000,000 is 1e8")
    (warned,) = table.warnings
    assert warned.startswith("lr is not taken for the learning_rate: it holds text")
    assert "learning_rate" not in table.mapping


def test_a_column_that_is_needed_is_refused_in_one_line():
    with pytest.raises(UserError, match="invalid map params 'N': '350,000' is"):
        from_frame(runs().assign(N="350,000"))
    with pytest.raises(UserError, match="invalid map learning_rate 'lr'"):
        from_frame(runs().assign(lr="low"), {"learning_rate": "lr"})
