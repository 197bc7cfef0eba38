"""References: families that stand beside the laws and are not fitted by them.

A joint law learns what a family is worth from how its loss moves with size and data: of
each family it has a multiplier on either. Two kinds of family cannot tell these:

- one that is fitted at once and not trained (n-grams, say), without the ladder of sizes
  and of data that a law needs: it is there to be compared with, as one point a corpus;
- one with a single size and a single amount of data, among several that have ladders:
  any pair of multipliers that meets that point will do, so that the whole law would
  have to be refused.

Read from what runs are, never from a family's name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from analysis.design import levels
from analysis.laws import Array

# What stands before the reason of each family, and names what was left out.
REFERENCE = "reference beside the laws"


def references(runs: pd.DataFrame, needs: Mapping[str, int]) -> dict[str, str]:
    """The families that are references, each with the reason.

    Args:
      runs: one a row, of one target: family, trained, and the columns of `needs`.
      needs: distinct levels of columns that a law needs: params and tokens.
    """
    counts = {
        str(family): {name: levels.count(rows[name].to_numpy()) for name in needs}
        for family, rows in runs.groupby("family")
    }
    trained = runs.groupby("family").trained.any()
    laddered = {
        family
        for family, design in counts.items()
        if all(design[name] >= least for name, least in needs.items())
    }
    fitted = {f for f in counts if not trained[f] and f not in laddered}
    if len(fitted) == len(counts):
        return {}
    out = {family: f"fitted at once, with {_text(counts[family])}" for family in fitted}
    if len(laddered - fitted) > 1:
        for family, design in counts.items():
            if family not in out and max(design.values()) == 1:
                out[family] = f"{_text(design)} alone"
    return {family: f"{REFERENCE}: {why}" for family, why in sorted(out.items())}


def beside(frame: pd.DataFrame, again: Array, needs: Mapping[str, int]) -> Array:
    """Marks the runs [n] of references.

    Args:
      frame: runs of one target, as in `references`.
      again: marks those [n] that repeat data, which say nothing here.
    """
    return frame.family.isin(references(frame[~again], needs)).to_numpy()


def _text(design: Mapping[str, Any]) -> str:
    sizes, amounts = design["params"], design["tokens"]
    return (
        f"{sizes} size{'s' * (sizes != 1)} and {amounts} amount{'s' * (amounts != 1)} "
        "of data"
    )
