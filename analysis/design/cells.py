"""Cells of a design: runs that differ in their settings and seeds alone."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from analysis.design import levels, settings
from analysis.inference.intervals import Sample, sample, select
from analysis.laws import Array
from analysis.tables.table import Table

# Seen tokens may pass the unique ones by a rounding of steps without repeating any.
REPEATED = 1.001
# With more levels than this the points of interest are quantiles instead.
MOST_LEVELS = 5
# A family and corpus with fewer cells has none to spare.
LEAST_CELLS = 8

PLACE = ("family", "corpus", "params", "tokens", "unique_tokens")
CELL_FACTS = (
    *("family", "corpus", "params", "params_total", "tokens", "unique_tokens"),
    *("epochs", "flops", "level", "budget"),
)


def target_frame(table: Table, target: str) -> pd.DataFrame:
    """The runs with a usable loss on a target, a row a run.

    Columns of the table's runs, loss, se, and the codes of settings.coded.
    """
    rows = table.readings[table.readings.target == target].drop(columns="target")
    return settings.coded(table.runs.merge(rows, on="run_id", how="inner"))


def repeated(frame: pd.DataFrame) -> Array:
    """Marks runs that read some data more than once."""
    return (frame.tokens > REPEATED * frame.unique_tokens).to_numpy()


def largest(frame: pd.DataFrame) -> Array:
    """Marks the runs [n] of the largest cell, by FLOPs, of each family and corpus.

    A cell is set aside whole, with all its settings and seeds. A family and corpus with
    fewer than `LEAST_CELLS` cells, or with one budget, by which no law could predict,
    keeps all of them.
    """
    out = pd.Series(False, index=frame.index)
    for _, rows in frame.groupby(["family", "corpus"]):
        if rows.cell.nunique() < LEAST_CELLS or levels.count(rows.tokens) < 2:
            continue
        out[rows.index[rows.cell == rows.cell[rows.flops.idxmax()]]] = True
    return out.to_numpy()


def points(frame: pd.DataFrame) -> list[tuple[float, float]]:
    """The (N, D) that effects are given at: the design's own grid, or quantiles."""

    def middles(values: pd.Series, codes: Array) -> Array:
        logs = np.log(values)
        grouped = logs.groupby(codes).mean()
        if len(grouped) > MOST_LEVELS:
            grouped = logs.quantile([0.1, 0.5, 0.9])
        return np.exp(grouped.to_numpy())

    sizes = middles(frame.params, frame.level.to_numpy())
    budgets = middles(frame.tokens, frame.budget.to_numpy())
    return list(itertools.product(sizes.tolist(), budgets.tolist()))


def cells_frame(data: Sample, target: str) -> pd.DataFrame:
    """One row a cell at its best setting; as in `Analysis`, and level, budget."""
    rows = []
    frame = data.frame.assign(cell=data.cell, chosen=_best(data))
    for _, part in frame.groupby("cell", sort=False):
        best = part[part.chosen]
        first = best.loc[best.loss.idxmin()]
        rates = np.unique(part.learning_rate.dropna())
        rows.append(
            {name: first[name] for name in CELL_FACTS}
            | {
                "target": target,
                "loss": float(best.loss.mean()),
                "se": _standard_error(best),
                "learning_rate": first.learning_rate,
                "batch": first.batch,
                "rates": max(1, len(rates)),
                "settings": part.setting.nunique(),
                "edge": _edge(rates, first.learning_rate),
                "seeds": len(best),
                "run_id": first.run_id,
            }
        )
    return pd.DataFrame(rows)


def counts_frame(
    frame: pd.DataFrame,
    fitted: pd.Series,
    beside: Array,
    again: Array,
    aside: Array,
    target: str,
) -> pd.DataFrame:
    """What became of the rows with a usable loss: one row, each run counted once.

    Args:
      frame: those rows [n].
      fitted: run_id of those that the fits saw.
      beside, again, aside: [n]: of references; that repeat data and so have no law
        here; that are set aside.

    Returns target, usable, references, repeated, aside, other_settings, fitted.
    """
    seen = frame.run_id.isin(fitted).to_numpy()
    left = ~seen & ~beside
    row = {
        "target": target,
        "usable": len(frame),
        "references": int(beside.sum()),
        "repeated": int((again & left).sum()),
        "aside": int((aside & ~again & left).sum()),
        "other_settings": int((~again & ~aside & left).sum()),
        "fitted": int(seen.sum()),
    }
    return pd.DataFrame([row])


def _standard_error(best: pd.DataFrame) -> float:
    """Over seeds where there are several, else over the documents of the one run."""
    if len(best) > 1:
        return float(best.loss.std(ddof=1) / np.sqrt(len(best)))
    return float(best.se.iloc[0])


def _best(data: Sample) -> Array:
    """Marks the runs [n] at their cell's best setting."""
    return select(data, np.ones((1, data.loss.size)))[0] > 0


def _edge(values: Array, best: float) -> str:
    if len(values) < 2:
        return ""
    return "low" if best == values[0] else "high" if best == values[-1] else ""


def settings_frame(data: Sample, target: str) -> pd.DataFrame:
    """Of every cell and setting that varied in it: the best value and those tried."""
    rows = []
    frame = data.frame.assign(cell=data.cell, chosen=_best(data))
    names = settings.names(frame)
    varied = frame.groupby("cell")[names].nunique() > 1
    for cell, part in frame.groupby("cell", sort=False):
        first = part[part.chosen].iloc[0]
        for name in varied.columns[varied.loc[cell]]:
            tried = part[name].dropna()
            row = {key: first[key] for key in PLACE} | {"target": target}
            row |= {"setting": settings.plain(name), "value": str(first[name])}
            row |= {"tried": tried.nunique(), "edge": ""}
            if pd.api.types.is_numeric_dtype(tried):
                row["value"] = f"{first[name]:g}"
                row["edge"] = _edge(np.unique(tried), first[name])
            rows.append(row)
    return pd.DataFrame(rows)


def shared(cells: pd.DataFrame, families: Sequence[str], corpus: str) -> pd.DataFrame:
    """The corpus's cells at each (level, budget) that all families have; its index."""
    places = ["level", "budget"]
    mine = cells[(cells.corpus == corpus) & cells.family.isin(families)]
    full = mine.groupby(places).family.nunique() == len(families)
    return mine.set_index(places).loc[full[full].index]


def tuning_frame(data: Sample, target: str) -> pd.DataFrame:
    """Loss by rate of the cells in which two rates or more were tried.

    The mean over seeds of the best of the other settings that were tried at the rate.
    """
    frame = data.frame.assign(cell=data.cell, group=data.group, best=_best(data))
    tried = frame.groupby("cell").learning_rate.transform("nunique") > 1
    names = ["cell", "family", "corpus", "params", "tokens", "learning_rate"]
    # Tokens of one cell may differ by a rounding between batches.
    frame["tokens"] = frame.groupby("cell").tokens.transform("first")
    grouped = frame[tried].groupby(["group", *names], sort=False)
    out = grouped.agg(loss=("loss", "mean"), best=("best", "any")).reset_index()
    out = out.sort_values(["best", "loss"], ascending=[False, True], kind="stable")
    out = out.drop_duplicates(names).sort_values("group", ignore_index=True)
    return out.assign(target=target).drop(columns=["group", "cell"])


def codes(values: pd.Series, names: Sequence[str]) -> Array:
    """Integer codes [n] of names, in the order of `names`."""
    return pd.Categorical(values, categories=list(names)).codes.astype(np.int64)


def optimum(rates: Array, loss: Array) -> tuple[float, float, str]:
    """Best rate and loss of a cell by a quadratic of ln loss in ln rate.

    Least squares on all rates that were tried (McCandlish et al. 2018 and Porian et al.
    2024 choose rates so). Where it opens downward, or its lowest point lies outside the
    tried rates, the best tried rate and its loss come back with a warning.

    Args:
      rates, loss: of the tried rates [k], rates distinct.

    Returns the rate, the loss and "" or the warning.
    """
    lowest = int(np.argmin(loss))
    best = float(rates[lowest]), float(loss[lowest])
    if rates.size < 3:
        return *best, f"{rates.size} of the 3 rates that a quadratic needs"
    logs = np.log(rates)
    centre = logs.mean()
    curve, slope, level = np.polyfit(logs - centre, np.log(loss), 2)
    if curve <= 0:
        return *best, "opens downward"
    at = -0.5 * slope / curve
    if not logs.min() <= at + centre <= logs.max():
        return *best, "optimum outside the tried rates"
    return float(np.exp(at + centre)), float(np.exp(level + 0.5 * slope * at)), ""


def optima_frame(data: Sample, target: str) -> pd.DataFrame:
    """One row a cell: its loss at the optimum of a quadratic in the log rate.

    Columns: family, corpus, target, params, tokens, rates (tried), learning_rate, loss
    (both at the optimum, or at the best tried rate under a warning), tried_loss,
    warning. Cells with one rate are left out.
    """
    rows = []
    for cell, tried in _rates(data):
        first = cell.iloc[0]
        rate, loss, warning = optimum(tried.index.to_numpy(float), tried.to_numpy())
        rows.append(
            {name: first[name] for name in ("family", "corpus", "params", "tokens")}
            | {"target": target, "rates": len(tried), "learning_rate": rate}
            | {"loss": loss, "tried_loss": float(tried.min()), "warning": warning}
        )
    return pd.DataFrame(rows)


def at_optimum(frame: pd.DataFrame) -> pd.DataFrame:
    """The runs at each cell's best rate, their losses moved to the fitted optimum.

    For effects with a quadratic in the log rate: give it to the same laws. Runs of a
    cell move by one factor, so that seeds keep their spread; a cell under a warning
    keeps its losses, and where all are the frame comes back as it is.
    """
    data = sample(frame)
    best = data.frame.assign(cell=data.cell)[_best(data)]
    factor = np.ones(len(best))
    for cell, tried in _rates(data):
        _, loss, _ = optimum(tried.index.to_numpy(float), tried.to_numpy())
        factor[(best.cell == cell.cell.iloc[0]).to_numpy()] = loss / float(tried.min())
    if (factor == 1.0).all():
        return frame
    return best.assign(loss=best.loss * factor)


def _rates(data: Sample) -> Iterator[tuple[pd.DataFrame, pd.Series]]:
    """Runs and mean loss by rate of the cells with two rates or more.

    Of several other settings the cell's best alone, at which the rates are compared.
    """
    frame = data.frame.assign(cell=data.cell, chosen=_best(data))
    for _, cell in frame.groupby("cell", sort=False):
        beside = cell[cell.beside == cell.beside[cell.chosen].iloc[0]]
        tried = beside.groupby("learning_rate").loss.mean()
        if len(tried) > 1:
            yield beside, tried
