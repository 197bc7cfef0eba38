"""What text the losses of a table were read on, where it has one column of losses.

Runs on several corpora may all have been scored on one text, or each on its own corpus.
Only the first lets corpora be compared. The reader says which; until then each corpus
is a target of its own, so that nothing is said about one corpus against another.
"""

from __future__ import annotations

import pandas as pd

from scaling.errors import UserError

OWN, SHARED = "own", "shared"
MOST_NAMED = 4


def check(target: str | None) -> None:
    """Raises UserError for anything but own, shared or nothing."""
    if target not in (OWN, SHARED, None):
        raise UserError("target", target, f"give {OWN} or {SHARED}")


def targets(
    runs: pd.DataFrame, usable: pd.Series, target: str | None
) -> tuple[pd.Series | None, tuple[str, ...]]:
    """The target [n] of each run where corpora have one each, and what is asked.

    Args:
      usable: marks the runs [n] that are not left out already.
      target: what the reader says.
    """
    corpora = sorted(runs.corpus[usable & (runs.corpus != "")].unique())
    if len(corpora) < 2 or target == SHARED:
        return None, ()
    if target == OWN:
        return runs.corpus, ()
    more = len(corpora) - MOST_NAMED
    named = ", ".join(corpora[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
    text = (
        f"Whether the runs on {named} were all scored on the same text is not known, "
        "so no effect of the corpus is stated and each corpus is a target of its own: "
        f"say --target {SHARED} if they were, --target {OWN} if each was scored on its "
        "own corpus."
    )
    return runs.corpus, (text,)
