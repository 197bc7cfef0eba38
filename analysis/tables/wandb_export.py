"""Tables of runs as Weights & Biases exports them, by its page or its API.

The page gives the columns Name and State, then settings and summaries under their own
names; a table made from the API has the columns name, config and summary, of which the
last two hold whole records.
"""

from __future__ import annotations

import pandas as pd

# What W&B says of a run; only the first is a run that came to its end.
STATES = (
    *("finished", "running", "crashed", "failed", "killed"),
    *("pending", "preempting", "preempted"),
)


def adapted(frame: pd.DataFrame) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The table with W&B's names and states as ours, where it is one of W&B's."""
    by_name = {str(column).strip().lower(): column for column in frame.columns}
    nested = any(str(c).startswith(("config.", "summary.")) for c in frame.columns)
    state, name = by_name.get("state"), by_name.get("name")
    states = _states(frame[state]) if state is not None else None
    if name is None or (states is None and not nested):
        return frame, ()
    said, new = [], {}
    if not {"run_id", "run", "id"} & set(by_name):
        new["run_id"] = frame[name]
    if states is not None and "status" not in by_name:
        new["status"] = states
        said.append(f"{state} is the status: finished is done, and no other is used")
    return frame.assign(**new), tuple(said)


def _states(column: pd.Series) -> pd.Series | None:
    """The states as statuses; None where the column has anything else."""
    text = column.astype("string").str.strip().str.lower()
    if not text.notna().any() or not text.dropna().isin(STATES).all():
        return None
    return text.replace("finished", "done").astype(object)
