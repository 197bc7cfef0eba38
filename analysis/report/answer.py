"""What the questions say together: the answer in full, and what was measured.

Sentences come from the questions, with their weights; which questions there are is
not known here.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.formatting import UNNAMED_LOSS, count, joined
from analysis.questions._question import ANSWER, Sentence, sentences
from analysis.report.style import usable
from analysis.results import Analysis


def summary(analysis: Analysis) -> list[str]:
    """The answer in a few sentences, on the first target."""
    asked = [note.text for note in analysis.notes if note.kind == "asked"]
    return sentences(analysis.view, ANSWER, [Sentence(text, 45) for text in asked])


def extent(analysis: Analysis) -> str:
    """One line on what was measured."""
    runs, used = analysis.runs, int(analysis.runs.used.sum())
    # A row that cannot be used may give any number for its size.
    sized = usable(runs)
    families, corpora = sized.family.nunique(), sized.corpus.nunique()
    sizes, budgets = _range(sized.params), _range(sized.tokens)
    every = len(runs) + int(analysis.excluded.unnamed.sum())
    some = f"{len(sized)} of {every}" if len(sized) < every else f"{every}"
    way = "compared without a law" if analysis.view.lawless and used else "fitted"
    texts = f" on {joined(analysis.targets)}"
    if list(analysis.targets) == [UNNAMED_LOSS]:
        texts = ""
    return (
        f"{some} runs ({used} {way}), {families} "
        f"{'family' if families == 1 else 'families'}, {corpora} "
        f"{'corpus' if corpora == 1 else 'corpora'}; {sizes} parameters, "
        f"{budgets} training {analysis.counted}; losses in {analysis.unit}{texts}."
    )


def _range(values: pd.Series) -> str:
    """From the least to the greatest amount; a cell may hold none, such as -1."""
    values = values[(values > 0) & np.isfinite(values)]
    if values.empty:
        return "an unknown number of"
    low, high = count(values.min()), count(values.max())
    return low if low == high else f"{low} to {high}"
