"""Which column of a foreign table is which of this package, and its values."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping

import numpy as np
import pandas as pd

from analysis.design.settings import APART, SETTING
from analysis.tables import exclusions, flags
from analysis.tables import numbers as numbers_
from analysis.tables.numbers import Numbers
from scaling.errors import UserError

# What others call our columns, in the order of preference; matched without case.
ALIASES = {
    "params": (
        *("params", "n", "n_params", "parameters", "num_params", "model_size"),
        *("param_count", "num_parameters", "n_parameters", "model_params"),
        *("parameter_count", "params_count", "model_parameters", "param"),
        *("trainable_params", "trainable_parameters", "num_trainable_params"),
        *("non_embedding_params", "params_non_embedding", "params_no_embed"),
        *("non_emb_params", "params_non_emb", "non_embedding_parameters"),
        *("n_non_embedding", "active_params", "params_active", "active_parameters"),
        *("total_params", "params_total", "total_parameters"),
    ),
    "params_total": ("params_total", "total_params", "total_parameters"),
    "tokens": (
        *("tokens", "d", "n_tokens", "tokens_seen", "num_tokens", "train_tokens"),
        *("training_tokens", "total_tokens", "token_count", "tokens_trained"),
        *("tokens_consumed", "consumed_tokens", "tokens_processed", "tokens_total"),
        *("num_train_tokens", "n_train_tokens", "num_training_tokens", "token"),
        *("pretraining_tokens", "pretrain_tokens", "total_tokens_seen"),
    ),
    "unique_tokens": (
        *("unique_tokens", "u", "num_unique_tokens", "n_unique_tokens"),
        *("tokens_unique", "distinct_tokens", "unique"),
    ),
    "quality": ("quality", "data_quality"),
    "optimiser": ("optimiser", "optimizer"),
    "loss": (
        *("val_loss", "validation_loss", "eval_loss", "test_loss", "valid_loss"),
        *("final_val_loss", "final_eval_loss", "final_validation_loss", "dev_loss"),
        *("heldout_loss", "held_out_loss", "loss_val", "loss_eval", "loss_test"),
        *("loss_validation", "loss_valid", "loss", "final_loss", "loss_final"),
        *("nll", "val_nll", "eval_nll", "test_nll", "cross_entropy", "val_ce"),
        *("val_cross_entropy", "validation_cross_entropy", "test_cross_entropy"),
        *("val_ppl", "ppl", "perplexity", "val_perplexity", "eval_ppl", "test_ppl"),
        *("valid_ppl", "eval_perplexity", "test_perplexity"),
        *("validation_perplexity", "val_bpb", "bpb", "bits_per_byte", "bits_byte"),
        *("val_bits_per_byte", "val_bpc", "bpc", "bits_per_character"),
        *("bits_per_char", "train_loss", "training_loss", "loss_train"),
    ),
    "family": (
        *("family", "architecture", "arch", "model_family", "model_architecture"),
        *("model_arch", "model_type", "model", "backbone"),
    ),
    "corpus": (
        *("corpus", "dataset", "data", "train_dataset", "training_dataset"),
        *("training_data", "train_data", "training_corpus", "train_corpus"),
        *("dataset_name", "pretraining_data", "data_mix", "data_mixture"),
    ),
    "target": (
        *("eval_set", "evaluation_set", "eval_corpus", "eval_dataset", "evaluation"),
        *("val_set", "validation_set", "test_set"),
    ),
    "size": ("size",),
    "flops": (
        *("flops", "c", "compute", "train_flops", "training_flops", "total_flops"),
        *("train_compute", "training_compute", "compute_flops", "total_compute"),
    ),
    "learning_rate": (
        *("learning_rate", "lr", "peak_lr", "max_lr", "lr_peak", "lr_max"),
        *("peak_learning_rate", "max_learning_rate", "base_lr", "initial_lr"),
    ),
    "batch": (
        *("batch", "batch_size", "bs", "global_batch_size", "train_batch_size"),
        *("global_batch", "effective_batch_size", "total_batch_size", "bsz"),
        *("tokens_per_batch", "batch_tokens", "batch_size_tokens", "tokens_per_step"),
    ),
    "seed": ("seed", "init_seed", "random_seed", "model_seed"),
    "data_seed": ("data_seed", "shuffle_seed"),
    "status": ("status", "diverged"),
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
# Without these a row says nothing.
NEEDED = ("params", "tokens")
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


def target_of(key: str) -> str:
    return key.removeprefix("loss:")


# 1 or 100 less a column: the error of an accuracy.
LESS = re.compile(r"(100|1)\s*-\s*(.+)")


def less(theirs: str, columns: Iterable[str]) -> tuple[float, str] | None:
    """What `1 - accuracy` is made of, where the table has such a column."""
    found = LESS.fullmatch(theirs.strip())
    if not found or theirs in columns or found[2] not in columns:
        return None
    return float(found[1]), found[2]


def numbers(
    frame: pd.DataFrame, mapping: Mapping[str, str], given: Collection[str]
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
        difference = less(theirs, frame.columns)
        theirs = difference[1] if difference else theirs
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


# Columns of text, with what stands for a table's that it has not.
TEXTS = {"family": "all", "corpus": "all", "seed": "", "data_seed": ""}


def standard(
    frame: pd.DataFrame,
    mapping: Mapping[str, str],
    found: Mapping[str, Numbers],
    given: Collection[str] = (),
) -> tuple[pd.DataFrame, list[pd.DataFrame], tuple[str, ...]]:
    """The table under our column names, with what it does not say filled in.

    Args:
      found: its columns of numbers.
      given: our columns that the reader named. A cell of another one that is not
        needed costs no row: where it cannot be used it counts as missing.

    Returns: the runs, the rows that cannot be used, and what counts as missing.
    """
    out = pd.DataFrame(index=range(len(frame)))
    if "run_id" in mapping:
        out["run_id"] = frame[mapping["run_id"]].astype(str).to_numpy()
    if "run_id" not in mapping or out.run_id.duplicated().any():
        out["run_id"] = [f"row {i + 1}" for i in range(len(frame))]
    excluded, missing = _add_numbers(out, frame, mapping, found, given)
    for name, default in (TEXTS | {"optimiser": "", "status": "done"}).items():
        if name not in mapping:
            out[name] = default
            continue
        column = frame[mapping[name]].reset_index(drop=True)
        if name == "status":
            column = pd.Series(flags.status(column, mapping[name]))
        out[name] = column.astype(str).where(column.notna(), "")
        if name in ("family", "corpus"):
            out[name], respelt = _respelt(out[name], mapping[name])
            missing += respelt
        if name in ("family", "corpus", "status"):
            gone = out.run_id[out[name] == ""]
            excluded.append(exclusions.excluded(gone.to_numpy(), f"{name} is missing"))
    out["damage"], out["trained"] = "", True
    out["trajectory"] = out.run_id
    if "trajectory" in mapping:
        column = frame[mapping["trajectory"]].reset_index(drop=True)
        out["trajectory"] = column.astype(str).where(column.notna(), out.run_id)
    return _filled(out).join(_settings(frame, mapping)), excluded, tuple(missing)


def _add_numbers(
    out: pd.DataFrame,
    frame: pd.DataFrame,
    mapping: Mapping[str, str],
    found: Mapping[str, Numbers],
    given: Collection[str],
) -> tuple[list[pd.DataFrame], list[str]]:
    """Adds the columns of numbers to `out`; returns what `standard` returns besides."""
    excluded: list[pd.DataFrame] = []
    missing: list[str] = []
    for name in NUMBERS:
        if name not in found:
            continue
        column, text = frame[mapping[name]], found[name].wrong
        out[name] = found[name].values
        if name in NEEDED or name in given:
            excluded.append(text_rows(out.run_id, name, column, text))
            continue
        bad = text | ~_plausible(out[name]) & out[name].notna().to_numpy()
        out[name] = out[name].mask(bad)
        missing += _missing(mapping[name], name, column, out.run_id, bad)
    return excluded, missing


def _filled(runs: pd.DataFrame) -> pd.DataFrame:
    """What the table does not say of its runs, as far as other columns give it."""
    fill = {"params_total": runs.params, "unique_tokens": runs.tokens}
    fill |= {
        "quality": 1.0,
        "size": runs.params,
        "flops": 6.0 * runs.params * runs.tokens,
    }
    for name, values in fill.items():
        runs[name] = runs[name].fillna(values) if name in runs else values
    for name in ("learning_rate", "batch", "wall_seconds"):
        if name not in runs:
            runs[name] = np.nan
    with np.errstate(divide="ignore", invalid="ignore"):
        runs["epochs"] = runs.tokens / runs.unique_tokens
    return runs


def _respelt(column: pd.Series, theirs: str) -> tuple[pd.Series, list[str]]:
    """Names that differ in case, spaces or hyphens alone as one, and what was read."""
    plain = column.str.lower().str.replace(r"[\s_-]+", "", regex=True)
    counts = column.value_counts()
    # The spelling of most rows; of two alike the first.
    order = counts.sort_values(ascending=False, kind="stable").index
    usual = {re.sub(r"[\s_-]+", "", name.lower()): name for name in reversed(order)}
    out = plain.map(usual).str.strip()
    changed = column[out != column.str.strip()].drop_duplicates()
    said = [
        f"{theirs}: {name!r} is read as {out[place]!r}, which differs in case, spaces "
        "or hyphens alone"
        for place, name in changed.items()
    ]
    return out, said


def _plausible(values: pd.Series) -> np.ndarray:
    """Marks the numbers [n] that an optional column may have."""
    share = values.name != "quality" or values <= 1
    return (np.isfinite(values) & (values > 0) & share).to_numpy()


def _missing(
    theirs: str, ours: str, column: pd.Series, run_ids: pd.Series, bad: np.ndarray
) -> list[str]:
    """That some cells of a guessed column count as missing."""
    if not bad.any():
        return []
    place = int(np.argmax(bad))
    first = str(column.iloc[place])[:30]
    many = f"{bad.sum()} cells of {theirs} are"
    if bad.sum() == 1:
        many = f"a cell of {theirs} is"
    return [
        f"{many} no {ours} and counted as missing, the first {first!r} "
        f"({run_ids.iloc[place]}); --map {ours}={theirs} leaves such rows out instead"
    ]


def _settings(frame: pd.DataFrame, mapping: Mapping[str, str]) -> pd.DataFrame:
    """The mapped settings and what is kept apart, as numbers where all are."""
    out = {
        ours: _values(frame, theirs)
        for ours, theirs in mapping.items()
        if ours.startswith((SETTING, APART))
    }
    return pd.DataFrame(out, index=range(len(frame)))


def _values(frame: pd.DataFrame, column: str) -> np.ndarray:
    found = numbers_.read(frame, column)
    return frame[column].astype(str).to_numpy() if found.wrong.any() else found.values


def kept_apart(frame: pd.DataFrame, names: Iterable[str]) -> pd.DataFrame:
    """Columns of the table that make cells of their own, as columns of runs."""
    return _settings(frame, {APART + name: name for name in names})
