"""Small tables as people have them, through the commands; `make soak` tries 2,000."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from tests.support import any_report, any_table

SMALL = {"families": (1, 2, 2, 3), "sizes": (1, 2, 3), "budgets": (1, 2, 3)}
SMALL |= {"seeds": (1, 1, 2)}
CHOSEN = some.fixed_dictionaries(
    {name: some.sampled_from(v) for name, v in (any_table.CHOICES | SMALL).items()}
)


@settings(
    max_examples=40,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(CHOSEN, some.integers(0, 9))
def test_any_table_ends_in_a_report_or_in_one_line(chosen: dict[str, Any], seed: int):
    with tempfile.TemporaryDirectory() as folder:
        found = any_report.judged(chosen, seed, Path(folder))
    assert not found.wrong, "\n".join(found.wrong)
