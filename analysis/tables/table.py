"""The table of runs that everything else reads: one typed thing, whatever came in.

A row per run, a row per run and target with its final loss, and every row that was left
out with the reason.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analysis.design import settings
from analysis.formatting import TOKENS
from analysis.tables import truth as true_losses

if TYPE_CHECKING:
    from analysis.pictures.load import Pictures
    from analysis.predictions.load import Predictions
    from analysis.tables.promises import Promise

# Nats and tokens of each held-out document, by corpus key; with no caption and with a
# wrong one by CORPUS:no_caption and CORPUS:wrong_caption.
Documents = Mapping[str, tuple[np.ndarray, np.ndarray]]

COLUMNS = (
    "run_id",
    "family",
    "corpus",
    "size",
    "params",
    "params_total",
    "tokens",
    "unique_tokens",
    "epochs",
    "quality",
    "damage",
    "flops",
    "optimiser",
    "learning_rate",
    "batch",
    "seed",
    "data_seed",
    "status",
    "trajectory",
    "trained",
    "wall_seconds",
)


# Columns of `Table.paths`.
PATH = ["run_id", "step", "tokens", "loss"]
# Columns of `Table.best`.
BEST = ["run_id", "target", "loss", "se", "tokens", "step"]


@dataclasses.dataclass(frozen=True)
class Table:
    """Runs that somebody trained, ready for fitting.

    Attributes:
      unit: of every loss.
      counted: what the counts of data are of: "tokens", or "pictures".
      sources: of a corpus that is a half of another, as runs name it, the other.
      targets: evaluation sets; with a foreign table, its loss columns.
      runs: one row a run, columns `COLUMNS` and `loss:TARGET` for each target. quality
        is the share of the training text that is sound; damage names what was done to
        the rest, "" for nothing or for what a foreign table does not say; trained is
        false of what is fitted at once, without gradient steps (n-grams). Columns
        setting:NAME are settings beside learning_rate, batch and optimiser, of all of
        which the best is taken in each cell; columns apart:NAME make cells of their
        own. See design/settings.py.
      readings: run_id, target, loss, se: final losses that are fit for fitting.
      best: run_id, target, loss, se, tokens, step: of the runs in `readings` the best
        reading on the way, with when it was taken; a run that was scored at its end
        alone has that. None for tables that are no workdir.
      exclusions: run_id, target ("" for all of them), reason.
      counting: how `params` were counted.
      mapping: our column -> the table's, as used; empty for a workdir.
      warnings: one sentence each.
      asked: what the reader must say before something can be answered.
      said: how columns and files were read that are not plain, one line each.
      paths: run_id, step, tokens, loss: training-loss curves, thinned.
      documents: by run_id, nats and tokens of each held-out document.
      parts: by target, the keys in it (CORPUS:TOKENS) and their weights.
      estimates: measured over estimated times, as in analysis/tables/run_times.py.
      truth: the targets whose true loss is known, columns `truth.FACTS`.
      predictions: what runs predicted at a study's probe positions, one a probe set;
        none for tables that are no workdir.
      pictures: what runs made of a study's noises, one a set of samples and tokenizer,
        of runs of any objective; none for tables that are no workdir.
      promises: what studies said before they trained; none for other tables.
    """

    title: str
    unit: str
    targets: tuple[str, ...]
    runs: pd.DataFrame
    readings: pd.DataFrame
    exclusions: pd.DataFrame
    counting: str
    mapping: Mapping[str, str] = dataclasses.field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    said: tuple[str, ...] = ()
    asked: tuple[str, ...] = ()
    paths: pd.DataFrame = dataclasses.field(
        default_factory=lambda: pd.DataFrame(columns=PATH)
    )
    documents: Mapping[str, Documents] = dataclasses.field(default_factory=dict)
    parts: Mapping[str, Mapping[str, float]] = dataclasses.field(default_factory=dict)
    estimates: pd.DataFrame = dataclasses.field(default_factory=pd.DataFrame)
    truth: pd.DataFrame = dataclasses.field(
        default_factory=lambda: true_losses.facts(())
    )

    best: pd.DataFrame = dataclasses.field(
        default_factory=lambda: pd.DataFrame(columns=BEST)
    )
    predictions: tuple[Predictions, ...] = ()
    pictures: tuple[Pictures, ...] = ()
    promises: tuple[Promise, ...] = ()
    counted: str = TOKENS
    sources: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def text(self, target: str) -> str:
        """The corpus that a target is held-out text of.

        Args:
          target: one of `targets`.

        Returns:
          The corpus as `runs` names it; the target's own name where the table does not
          say.

        >>> table.text("loss")
        'loss'
        """
        parts = self.parts.get(target, {})
        keys = [key.rpartition(":")[0] for key in parts]
        if len(keys) == 1:
            return keys[0]
        weighted = zip(parts.values(), keys, strict=True)
        return " + ".join(f"{w:g} {key}" for w, key in weighted) or target

    @property
    def settings(self) -> tuple[str, ...]:
        """The columns of settings that vary; in each cell the best of all is taken.

        Returns:
          Names of columns of `runs`.

        >>> table.settings
        ()
        """
        every = settings.names(self.runs)
        return tuple(c for c in every if self.runs[c].nunique() > 1)
