"""Which column of a foreign table is which of this package.

What the reader says counts. The rest is found by usual names, where the column is also
of the right kind: of several the first that is. A guess never costs a row: a column of
text is taken for no number, and one that merely names a size or a run for no family.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from analysis.design.settings import APART, SETTING
from analysis.tables import files, flags, formulas, headers, losses, numbers
from analysis.tables.columns import ALIASES, COUNTS, NEEDED, NUMBERS, TUNED, less
from scaling.errors import UserError, unknown

# More families or corpora than this have more pairs than anyone compares.
MOST_LEVELS = 40
# Sizes of one name may differ by this share, by a vocabulary for instance.
ONE_SIZE = 0.02
# Of fewer runs it may be chance that each has a name of its own.
FEW_RUNS = 4
FLOPS = ALIASES["flops"]


@dataclasses.dataclass(frozen=True)
class Guess:
    """Our columns -> the table's, and what was looked at and not taken.

    Attributes:
      mapping: as used; what the reader unmapped is not in it.
      said: one sentence on each column that its name offered and that is not used.
    """

    mapping: dict[str, str]
    said: tuple[str, ...]


def guess_mapping(
    frame: pd.DataFrame, given: Mapping[str, str | None] | None = None
) -> Guess:
    """What is given, and the rest by usual names and kinds.

    Args:
      given: our column -> the table's, or "" for one that is not to be guessed.

    Raises:
      UserError: an unknown column on either side, a doubled one, or no params, tokens
        or loss.
    """
    columns = list(frame.columns)
    files.check_doubled(columns)
    asked = {ours: theirs or "" for ours, theirs in (given or {}).items()}
    _check_given(asked, columns)
    _check_levels(frame, asked)
    out = {ours: theirs for ours, theirs in asked.items() if theirs}
    if not any(key.startswith("loss") for key in out):
        for column in columns:
            if column.startswith("loss:") and column not in asked:
                out[column] = column
    known_as = headers.known_as(columns)
    by_name: dict[str, list[str]] = {}
    for column in columns:
        by_name.setdefault(known_as[column], []).append(column)
    said: list[str] = []
    for ours, names in ALIASES.items():
        mine = [key for key in out if key.startswith("loss")]
        # Several columns of losses are several targets already.
        if ours in asked or (ours == "loss" and mine):
            continue
        if ours == "target" and len(mine) > 1:
            continue
        named = [by_name[n] for n in names if n in by_name]
        free = [[c for c in alike if c not in out.values()] for alike in named]
        found, refused = _first(frame, ours, [alike for alike in free if alike], out)
        said += refused
        if found:
            out[ours] = found
    if not any(key.startswith("loss") for key in (*out, *asked)):
        out |= _only_loss(frame, out)
    if "family" in out and "family" not in asked:
        said += _sizes_alone(frame, out)
    for column in columns:
        setting = SETTING + column
        if known_as[column] not in TUNED or setting in asked or column in out.values():
            continue
        if frame[column].nunique(dropna=False) > 1:
            out[setting] = column
    for ours in (*NEEDED, "loss"):
        if not any(key.split(":")[0] == ours for key in out):
            raise UserError(f"map {ours}", "", _expected(ours, columns))
    return Guess(out, tuple(said))


# Words beside "loss" in the name of what is no loss of a run.
BESIDE = frozenset(
    (
        *("std", "stderr", "se", "sd", "err", "min", "max", "best", "diff", "delta"),
        *("gap", "aux", "z", "balance", "balancing", "router", "load", "ratio", "log"),
        *("scale", "weight", "fn", "function", "type", "lo", "hi", "low", "high"),
        *("lo95", "hi95", "lower", "upper", "count", "n"),
    )
)


def _only_loss(frame: pd.DataFrame, mapping: Mapping[str, str]) -> dict[str, str]:
    """The one column of numbers with the word loss in its name, where there is one."""
    found = []
    for column in frame.columns:
        words = set(re.split(r"[\W_]+", column.lower()))
        if "loss" not in words or words & BESIDE or column in mapping.values():
            continue
        if not _no_numbers(frame, column, "loss", mapping):
            found.append(column)
    return {"loss": found[0]} if len(found) == 1 else {}


def _sizes_alone(frame: pd.DataFrame, mapping: Mapping[str, str]) -> list[str]:
    """That each family has a single size, where all have: its column names models."""
    column = mapping["family"]
    names = frame[column].map(str, na_action="ignore")
    ends = _spans(names, numbers.read(frame, mapping["params"], count=True).values)
    if len(ends) < MANY_NAMES or not _each_one(ends):
        return []
    return [
        f"each value of {column} has one size, so that no law over sizes can be fitted "
        "to one: give a column of the architecture alone as the family, or --map "
        "family= takes all for one"
    ]


# Two families may have a size each; of more it is the names of models.
MANY_NAMES = 4


def _check_given(given: Mapping[str, str], columns: list[str]) -> None:
    """Raises UserError where a given mapping is not possible."""
    taken = list(given.values())
    for ours, theirs in given.items():
        prefixed = ours.split(":")[0] == "loss" or ours.startswith((SETTING, APART))
        if not prefixed and ours not in ALIASES:
            raise unknown("map", ours, ALIASES)
        if theirs and less(theirs, columns) is None and theirs not in columns:
            raise unknown(f"map {ours}", theirs, columns)
        if theirs and taken.count(theirs) > 1:
            raise UserError(f"map {ours}", theirs, "each column for one thing only")
        if theirs not in columns and theirs and not ours.startswith("loss"):
            raise UserError(f"map {ours}", theirs, "only a loss may be 1 - COLUMN")


def _check_levels(frame: pd.DataFrame, given: Mapping[str, str]) -> None:
    """Raises UserError where a given factor has the names of runs."""
    for ours in ("family", "corpus"):
        theirs = given.get(ours, "")
        levels = frame[theirs].dropna().map(str).nunique() if theirs else 0
        if levels > MOST_LEVELS:
            said = f"{theirs} has {levels} different values, more than {MOST_LEVELS}"
            expected = f"{said}; give a column with the {ours} and not the run"
            raise UserError(f"map {ours}", theirs, expected)


MEASURES = frozenset(("loss", "ppl", "perplexity", "bpb", "nll", "bpc"))


def _expected(ours: str, columns: list[str]) -> str:
    """What to write where no column has one of the usual names."""
    known = ", ".join(columns[:20])
    text = f"say --map {ours}=COLUMN, since no name is known to be it; the table has "
    text += known
    words = {column: set(re.split(r"[\W_]+", column.lower())) for column in columns}
    higher = [column for column in columns if losses.HIGHER & words[column]]
    if ours == "loss" and higher:
        return f"{text}; --map 'loss=1 - {higher[0]}' takes the error of an accuracy"
    several = [column for column in columns if MEASURES & words[column]]
    if ours == "loss" and len(several) > 1:
        named = ",".join(f"loss:{column}={column}" for column in several[:3])
        return f"{text}; --map {named} takes several, each as a target of its own"
    if ours == "loss" and len(several) == 1:
        return f"{text}; --map loss={several[0]} takes the one that is called so"
    known_as = headers.known_as(columns)
    formula = formulas.proposed(ours, known_as, ALIASES)
    if formula:
        return f"{text}; --map {ours}={formula} computes it, if that is what it is"
    compute = any(name in FLOPS for name in known_as.values())
    if ours == "params" and compute:
        text += "; compute alone does not tell what is due to size and what to data"
    return text


def _first(
    frame: pd.DataFrame,
    ours: str,
    candidates: list[list[str]],
    mapping: Mapping[str, str],
) -> tuple[str, list[str]]:
    """The first column of the right kind, and a sentence on each before it.

    Args:
      candidates: columns by name, in the order of preference; those in one list are
        called alike but for case.

    Where none is right and the column is needed, the first is taken: its rows are then
    listed with what is wrong in each.
    """
    check = CHECKS.get(ours)
    said: list[str] = []
    for alike in candidates:
        right = [c for c in alike if not (check and check(frame, c, ours, mapping))]
        if len(right) > 1 or (
            not right and len(alike) > 1 and ours in (*NEEDED, "loss")
        ):
            one, two = (right or alike)[:2]
            expected = f"name one: {ours}={one} or {ours}={two}"
            raise UserError(f"map {ours}", ", ".join(right or alike), expected)
        for column in alike:
            why = check(frame, column, ours, mapping) if check else ""
            if why:
                said.append(_said(column, ours, why))
        if right:
            return right[0], said
    if candidates and ours in (*NEEDED, "loss"):
        return candidates[0][0], []
    return "", said


def _said(column: str, ours: str, why: str) -> str:
    """That a column is not read, and how to have it otherwise."""
    how = f"--map {ours}= says so, --map {ours}={column} insists"
    if ours in ("family", "corpus"):
        return f"{column} {why[3:]}, and is not taken for the {ours}; {how}"
    return f"{column} is not taken for the {ours}: {why}; {how}"


def _no_numbers(
    frame: pd.DataFrame, column: str, ours: str, _: Mapping[str, str]
) -> str:
    """Why a column is no column of numbers, or ""."""
    found = numbers.read(frame, column, ours in COUNTS)
    known = int(found.wrong.sum() + np.isfinite(found.values).sum())
    if found.refused or not known:
        return found.refused or "it holds no number"
    if 2 * found.wrong.sum() <= known:
        return ""
    first = frame[column][found.wrong].iloc[0]
    return f"{found.wrong.sum()} of {known} are text, such as {str(first)[:30]!r}"


def _no_share(
    frame: pd.DataFrame, column: str, ours: str, mapping: Mapping[str, str]
) -> str:
    """Why a column is not the share of sound text, or ""."""
    why = _no_numbers(frame, column, ours, mapping)
    if why:
        return why
    values = numbers.read(frame, column).values
    good = (values > 0) & (values <= 1)
    return "" if good.any() else "it is never above 0 and at most 1"


def _no_status(
    frame: pd.DataFrame, column: str, ours: str, _: Mapping[str, str]
) -> str:
    """Why a column does not say which runs are done, or ""."""
    series = frame[column]
    if column.strip().lower() == "diverged":
        return "" if flags.is_flag(series) else "it says neither yes nor no"
    if flags.is_flag(series):
        return "it is yes or no, and which of them means done is not said"
    if flags.is_status(series):
        return ""
    return f"it has words that say neither done nor failed, such as {_odd(series)!r}"


def _odd(column: pd.Series) -> str:
    texts = column.dropna().astype(str)
    odd = texts[[not flags.is_status(texts[i : i + 1]) for i in range(len(texts))]]
    return str(odd.iloc[0])[:30]


def _no_corpus(
    frame: pd.DataFrame, column: str, ours: str, _: Mapping[str, str]
) -> str:
    """Why a column is no factor with a few levels, or ""."""
    series = frame[column]
    if pd.api.types.is_numeric_dtype(series.dtype) and series.notna().any():
        return "it holds numbers"
    names = series.dropna().map(str)
    levels = names.nunique()
    if levels > MOST_LEVELS:
        return f"it has {levels} different values, more than {MOST_LEVELS}"
    if levels == len(names) >= FEW_RUNS:
        return "it names every run"
    return ""


def _no_family(
    frame: pd.DataFrame, column: str, ours: str, mapping: Mapping[str, str]
) -> str:
    """Why a column is no architecture, or ""."""
    why = _no_corpus(frame, column, ours, mapping)
    if why:
        return why
    names = frame[column].map(str, na_action="ignore")
    if names.nunique() < 2:
        return ""
    if "params" not in mapping:
        return ""
    sizes = numbers.read(frame, mapping["params"], count=True).values
    if _names_one(names, sizes):
        return "it names the size: each value has one and no two share one"
    return ""


def _names_one(names: pd.Series, sizes: np.ndarray) -> bool:
    """Whether each name has one size and no two names the same."""
    ends = _spans(names, sizes)
    if len(ends) < 2:
        return False
    apart = ends["min"].to_numpy()[1:] > ends["max"].to_numpy()[:-1]
    return _each_one(ends) and bool(apart.all())


def _spans(names: pd.Series, sizes: np.ndarray) -> pd.DataFrame:
    """The least and greatest size, min and max, of each name."""
    known = pd.DataFrame({"name": names.to_numpy(), "size": sizes})
    known = known[known.name.notna() & (known["size"] > 0) & np.isfinite(known["size"])]
    return known.groupby("name")["size"].agg(["min", "max"]).sort_values("min")


def _each_one(ends: pd.DataFrame) -> bool:
    return bool((ends["max"] <= (1 + ONE_SIZE) * ends["min"]).all())


def _no_size(
    frame: pd.DataFrame, column: str, ours: str, mapping: Mapping[str, str]
) -> str:
    """Why a column is no size beside that of the parameters, or ""."""
    why = _no_numbers(frame, column, ours, mapping)
    text = not pd.api.types.is_numeric_dtype(frame[column].dtype)
    if why or not text or "params" not in mapping:
        return why
    return f"it is text, and {mapping['params']} has the parameters"


# Says why a column is not what its name says, or "" where it may be.
Check = Callable[[pd.DataFrame, str, str, Mapping[str, str]], str]
CHECKS: dict[str, Check] = dict.fromkeys((*NUMBERS, "loss"), _no_numbers)
CHECKS |= {"size": _no_size, "quality": _no_share, "status": _no_status}
CHECKS |= {"family": _no_family, "corpus": _no_corpus, "target": _no_corpus}
