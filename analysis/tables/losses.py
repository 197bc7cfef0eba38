"""What a column of losses measures: its unit, and whether lower is better.

Read from the header's unit and the column's name, then from how the numbers behave.
Perplexities become nats. What would be fitted for something that it is not is refused,
with the option that says what it is.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

import numpy as np
import pandas as pd

from scaling.errors import UserError

# What losses are taken to be in, where nothing says.
UNIT = "nats/token"
PERPLEXITY = "perplexity"
# Words in a name or a header's brackets, and what they say.
UNITS = {
    **dict.fromkeys(("ppl", "perplexity", "perplexities"), PERPLEXITY),
    **dict.fromkeys(("nats", "nat", "nats/token", "nats/tok"), "nats/token"),
    **dict.fromkeys(("bpb", "bits/byte", "bits per byte"), "bits/byte"),
    **dict.fromkeys(("bpc", "bits/char", "bits/character"), "bits/character"),
    **dict.fromkeys(("bits per char", "bits per character"), "bits/character"),
    **dict.fromkeys(("bpt", "bits/token", "bits per token"), "bits/token"),
    **dict.fromkeys(("bits per dim", "bits/dim", "bpd"), "bits/dim"),
    **dict.fromkeys(("nats/byte", "nats per byte"), "nats/byte"),
    **dict.fromkeys(("nats/char", "nats per char"), "nats/character"),
}
ERROR = "error rate"
HIGHER = frozenset(("acc", "accuracy", "f1", "bleu", "rouge", "auc", "em", "score"))
# No model does worse than guessing, and ln of a vocabulary of millions is 15.
MOST_NATS = 20.0
# Of so many rows, ordered by compute, losses do not rise by chance.
LEAST_ROWS, RISES = 8, 0.6


@dataclasses.dataclass(frozen=True)
class Column:
    """One column of losses.

    Attributes:
      target: what it is called.
      name: of the table's column.
      header: the unit in the header's brackets or cells, or "".
      error: whether it is 1 less an accuracy.
    """

    target: str
    name: str
    header: str
    error: bool


def unit_of(column: Column) -> str:
    """What a column says that it is in; "" where it says nothing.

    Raises UserError for an accuracy.
    """
    if column.error:
        return ERROR
    words = [w for w in re.split(r"[\W_]+", column.name.lower()) if w]
    if HIGHER & set(words) and not {"error", "err", "loss"} & set(words):
        expected = (
            "higher is better there, and a loss falls: --map 'loss=1 - "
            f"{column.name}' takes the error (100 - for percents)"
        )
        raise UserError("map loss", column.name, expected)
    said = " ".join(words)
    known = [unit for word, unit in UNITS.items() if f" {word} " in f" {said} "]
    if column.header.lower() in UNITS:
        return UNITS[column.header.lower()]
    return known[0] if known else ERROR if {"error", "err"} & set(words) else ""


def read(
    readings: pd.DataFrame, columns: list[Column], unit: str | None
) -> tuple[pd.DataFrame, str, tuple[str, ...]]:
    """The readings in one unit, that unit, and what was converted.

    Args:
      readings: target and loss.
      unit: what the reader says that all are in; "perplexity" is converted.

    Raises:
      UserError: an accuracy, or columns of several units.
    """
    given = UNITS.get(unit.lower(), unit) if unit else ""
    units = {c.target: given or unit_of(c) or UNIT for c in columns}
    said = []
    loss = readings.loss.copy()
    for column in columns:
        if units[column.target] != PERPLEXITY:
            continue
        mine = readings.target == column.target
        with np.errstate(divide="ignore", invalid="ignore"):
            loss[mine] = np.log(loss[mine])
        units[column.target] = UNIT
        said.append(f"{column.name} is a perplexity: its natural logarithm is the loss")
    if len(set(units.values())) > 1:
        each = ", ".join(f"{target} in {u}" for target, u in units.items())
        expected = "losses of one unit only: map those, or say with --unit what all are"
        raise UserError("map loss", each, expected)
    return readings.assign(loss=loss), next(iter(units.values())), tuple(said)


def check(
    readings: pd.DataFrame, runs: pd.DataFrame, names: Mapping[str, str]
) -> tuple[str, ...]:
    """What is odd about losses in no known unit.

    Args:
      readings: the usable ones: run_id, target, loss.
      runs: run_id, params, tokens.
      names: by target, of the table's column.

    Raises UserError where they behave like something else.
    """
    place = runs.set_index("run_id")
    compute = (place.params * place.tokens).reindex(readings.run_id).to_numpy()
    said = []
    for target, part in readings.assign(compute=compute).groupby("target"):
        name, middle = names.get(str(target), str(target)), part.loss.median()
        rises = _rises(part)
        whole = 1 if part.loss.max() <= 1.0 else 100
        if rises and (whole == 1 or middle > MOST_NATS):
            expected = (
                "it rises with size and data as an accuracy does: --map "
                f"'loss={whole} - {name}' takes the error, --unit UNIT keeps it as "
                "it is"
            )
            raise UserError("loss", name, expected)
        if middle > MOST_NATS:
            expected = (
                f"a loss in {UNIT} below {MOST_NATS:g}: say --unit perplexity to have "
                "the logarithm fitted, or name the unit with --unit"
            )
            said_ = f"{name} with a median of {middle:g}"
            raise UserError("loss", said_, expected)
        if rises:
            said.append(
                f"{name} rises with size and data, where a loss falls: a score, or "
                "runs that are not comparable, would look so"
            )
    return tuple(said)


def _rises(part: pd.DataFrame) -> bool:
    """Whether losses rise with compute, by their ranks."""
    if len(part) < LEAST_ROWS:
        return False
    rank = part[["loss", "compute"]].rank()
    return bool(rank.nunique().min() > 1 and rank.corr().iloc[0, 1] > RISES)
