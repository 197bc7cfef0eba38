"""Which column of a foreign table is which of ours, and its values as ours."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from analysis.design.settings import SETTING
from analysis.tables import exclusions, files, headers
from analysis.tables import numbers as numbers_
from analysis.tables.numbers import Numbers
from scaling.errors import UserError, unknown

# What others call our columns, in the order of preference; matched without case.
ALIASES = {
    "params": ("params", "n", "n_params", "parameters", "num_params", "model_size"),
    "params_total": ("params_total", "total_params"),
    "tokens": ("tokens", "d", "n_tokens", "tokens_seen", "num_tokens", "train_tokens"),
    "unique_tokens": ("unique_tokens", "u"),
    "quality": ("quality", "data_quality"),
    "optimiser": ("optimiser", "optimizer"),
    "loss": ("loss", "final_loss", "val_loss", "validation_loss", "eval_loss"),
    "family": ("family", "architecture", "arch", "model"),
    "corpus": ("corpus", "dataset", "data"),
    "size": ("size",),
    "flops": ("flops", "c", "compute"),
    "learning_rate": (
        *("learning_rate", "lr", "peak_lr", "max_lr"),
        *("peak_learning_rate", "max_learning_rate", "base_lr"),
    ),
    "batch": ("batch", "batch_size", "bs", "global_batch_size", "train_batch_size"),
    "seed": ("seed", "init_seed"),
    "data_seed": ("data_seed",),
    "status": ("status",),
    "trajectory": ("trajectory", "cluster"),
    "run_id": ("run_id", "run", "id"),
    "wall_seconds": ("wall_seconds",),
}
# What others call settings that this table has no column for: each is tuned over.
TUNED = (
    *("weight_decay", "wd", "warmup", "warmup_steps", "warmup_tokens", "warmup_frac"),
    *("warmup_ratio", "schedule", "scheduler", "lr_schedule", "lr_scheduler"),
    *("decay", "decay_fraction", "cooldown", "cooldown_fraction", "min_lr", "end_lr"),
    *("dropout", "beta1", "beta2", "adam_beta1", "adam_beta2", "epsilon", "momentum"),
    *("clip_norm", "grad_clip", "gradient_clipping", "z_loss", "init_std"),
)
NUMBERS = (
    "size",
    "params",
    "params_total",
    "tokens",
    "unique_tokens",
    "quality",
    "flops",
    "learning_rate",
    "batch",
    "wall_seconds",
)
# Of these m is million, never milli, and a unit in the header multiplies.
COUNTS = ("size", "params", "params_total", "tokens", "unique_tokens", "flops", "batch")


def guess_mapping(
    columns: list[str], given: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Our columns -> the table's: what is given, and the rest by usual names.

    Raises:
      UserError: an unknown column on either side, a doubled one, or no params, tokens
        or loss.
    """
    given = dict(given or {})
    files.check_doubled(columns)
    for ours, theirs in given.items():
        if ours.split(":")[0] != "loss" and ours not in ALIASES:
            raise unknown("map", ours, ALIASES)
        if theirs not in columns:
            raise unknown(f"map {ours}", theirs, columns)
        if list(given.values()).count(theirs) > 1:
            raise UserError(f"map {ours}", theirs, "each column for one thing only")
    out = dict(given)
    for column in columns:
        if column.startswith("loss:") and not any(k.startswith("loss") for k in given):
            out[column] = column
    known = headers.known_as(columns)
    by_name: dict[str, list[str]] = {}
    for column in columns:
        by_name.setdefault(known[column], []).append(column)
    for ours, names in ALIASES.items():
        if ours in out or (ours == "loss" and any(k[:4] == "loss" for k in out)):
            continue
        free = [c for n in names for c in by_name.get(n, ()) if c not in out.values()]
        alike = [column for column in free if known[column] == known[free[0]]]
        if len(alike) > 1:
            expected = f"name one: {ours}={alike[0]} or {ours}={alike[1]}"
            raise UserError(f"map {ours}", ", ".join(alike), expected)
        if free:
            out[ours] = free[0]
    for ours in ("params", "tokens", "loss"):
        if not any(key.split(":")[0] == ours for key in out):
            first = ", ".join(columns[:20])
            expected = f"name its column; the table has {first}"
            raise UserError(f"map {ours}", "", expected)
    return out


# More families or corpora than this have more pairs than anyone compares.
MOST_LEVELS = 40


def without_names(
    frame: pd.DataFrame, mapping: Mapping[str, str], given: Mapping[str, str]
) -> tuple[dict[str, str], tuple[str, ...]]:
    """The mapping less what was guessed for a factor and has the names of runs.

    Returns it and a warning for each. Raises UserError where the column was given.
    """
    out, warned = dict(mapping), []
    for ours in ("family", "corpus"):
        theirs = mapping.get(ours)
        if theirs is None:
            continue
        levels = len(set(frame[theirs].dropna().map(str)))
        if levels <= MOST_LEVELS:
            continue
        said = f"{theirs} has {levels} different values, more than {MOST_LEVELS}"
        if ours in given:
            expected = f"{said}; give a column with the {ours} and not the run"
            raise UserError(f"map {ours}", theirs, expected)
        warned.append(f"{said}, and is not taken for the {ours}: name it with --map")
        del out[ours]
    return out, tuple(warned)


def target_of(key: str) -> str:
    return key.removeprefix("loss:")


def numbers(
    frame: pd.DataFrame, mapping: Mapping[str, str], given: Mapping[str, str]
) -> tuple[dict[str, Numbers], tuple[str, ...], tuple[str, ...]]:
    """The columns of numbers by our names, with a line for each that is not plain.

    Returns them, how they were read, and a warning for each column that was guessed, is
    not needed and cannot be read: it is not used. Raises UserError for any other.
    """
    found: dict[str, Numbers] = {}
    said, warned = [], []
    losses = [ours for ours in mapping if ours.startswith("loss")]
    for ours, theirs in mapping.items():
        if ours not in NUMBERS and ours not in losses:
            continue
        column = numbers_.read(frame, theirs, ours in COUNTS)
        if not column.refused:
            found[ours] = column
            said += [column.said] if column.said else []
        elif (
            ours in given
            or ours in ("params", "tokens")
            or (len(losses) == 1 and (ours in losses))
        ):
            raise UserError(f"map {ours}", theirs, column.refused)
        else:
            warned.append(f"{theirs} is not taken for the {ours}: {column.refused}")
    if losses and not any(ours in found for ours in losses):
        raise UserError("map loss", mapping[losses[0]], "no loss column has numbers")
    return found, tuple(said), tuple(warned)


def text_rows(
    run_ids: pd.Series, name: str, column: pd.Series, text: np.ndarray, target: str = ""
) -> pd.DataFrame:
    """Exclusions of the rows whose number is something else, which is quoted."""
    said = column.reset_index(drop=True)[text].map(lambda value: repr(value)[:60])
    reasons = [f"{name} is not a number: {value}" for value in said]
    return exclusions.excluded(run_ids[text].to_numpy(), reasons, target)


def standard(
    frame: pd.DataFrame, mapping: Mapping[str, str], found: Mapping[str, Numbers]
) -> tuple[pd.DataFrame, list[pd.DataFrame]]:
    """The table under our column names, with what it does not say filled in."""
    out = pd.DataFrame(index=range(len(frame)))
    if "run_id" in mapping:
        out["run_id"] = frame[mapping["run_id"]].astype(str).to_numpy()
    if "run_id" not in mapping or out.run_id.duplicated().any():
        out["run_id"] = [f"row {i + 1}" for i in range(len(frame))]
    excluded = []
    for name in NUMBERS:
        if name not in found:
            continue
        out[name], text = found[name].values, found[name].wrong
        excluded.append(text_rows(out.run_id, name, frame[mapping[name]], text))
    texts = {"family": "all", "corpus": "all", "seed": "", "data_seed": ""}
    for name, default in (texts | {"optimiser": "", "status": "done"}).items():
        if name not in mapping:
            out[name] = default
            continue
        column = frame[mapping[name]].reset_index(drop=True)
        out[name] = column.astype(str).where(column.notna(), "")
        if name in ("family", "corpus", "status"):
            gone = out.run_id[out[name] == ""]
            excluded.append(exclusions.excluded(gone.to_numpy(), f"{name} is missing"))
    out["damage"] = ""
    out["trajectory"] = out.run_id
    if "trajectory" in mapping:
        column = frame[mapping["trajectory"]].reset_index(drop=True)
        out["trajectory"] = column.astype(str).where(column.notna(), out.run_id)
    fill = {"params_total": out.params, "unique_tokens": out.tokens}
    fill |= {"quality": 1.0, "size": out.params, "flops": 6.0 * out.params * out.tokens}
    for name, values in fill.items():
        out[name] = out[name].fillna(values) if name in out else values
    for name in ("learning_rate", "batch", "wall_seconds"):
        if name not in out:
            out[name] = np.nan
    with np.errstate(divide="ignore", invalid="ignore"):
        out["epochs"] = out.tokens / out.unique_tokens
    return out.join(_settings(frame, mapping)), excluded


def _settings(frame: pd.DataFrame, mapping: Mapping[str, str]) -> pd.DataFrame:
    """The settings that vary and have no column of ours, as numbers where all are."""
    out = {}
    for column in frame.columns:
        if column.strip().lower() not in TUNED or column in mapping.values():
            continue
        if frame[column].nunique(dropna=False) > 1:
            found = numbers_.read(frame, column)
            out[SETTING + column] = (
                frame[column].astype(str).to_numpy()
                if found.wrong.any()
                else found.values
            )
    return pd.DataFrame(out, index=range(len(frame)))
