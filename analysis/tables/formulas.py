"""Columns that a reader makes of others: tokens=steps*batch_size*seq_len.

A product or a quotient of columns and numbers, and no more than that; nothing is
evaluated. Its result is a column under the formula's own text.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd

from analysis.tables import numbers
from scaling.errors import unknown

NUMBER = re.compile(r"\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")
POWER = re.compile(r"\s*(?:\^|\*\*)\s*(\d)")
SIGN = re.compile(r"\s*([*/×])\s*")
# name, power, whether it divides
Factor = tuple[str, int, bool]


def added(
    frame: pd.DataFrame, mapping: Mapping[str, str | None]
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The frame with a column for each formula in a mapping, and the columns in these.

    Raises UserError for a formula with a name that is no column.
    """
    new, used = {}, []
    for ours, theirs in mapping.items():
        text = theirs or ""
        if not text or text in frame.columns or not SIGN.search(text):
            continue
        factors = _parsed(text, list(frame.columns), ours)
        new[text] = _value(frame, factors)
        used += [name for name, _, _ in factors if name in frame.columns]
    return (frame.assign(**new) if new else frame), tuple(used)


def _parsed(text: str, columns: Sequence[str], ours: str) -> list[Factor]:
    """Factors of a formula; a name is the longest column that begins there."""
    out: list[Factor] = []
    place, divides = 0, False
    by_length = sorted(columns, key=len, reverse=True)
    while True:
        place += len(text[place:]) - len(text[place:].lstrip())
        rest = text[place:]
        name = next((c for c in by_length if _begins(rest, c)), "")
        number = NUMBER.match(rest)
        if not name and not (number and _ends(rest[number.end() :])):
            wrong = re.split(r"[*/×^]", rest)[0].strip()
            raise unknown(f"map {ours}", wrong, columns)
        name = name or number[0]  # type: ignore[index]
        place += len(name)
        power = POWER.match(text, place)
        place = power.end() if power else place
        out.append((name, int(power[1]) if power else 1, divides))
        sign = SIGN.match(text, place)
        if not sign:
            return out
        divides, place = sign[1] == "/", sign.end()


def _begins(text: str, column: str) -> bool:
    return bool(column) and text.startswith(column) and _ends(text[len(column) :])


def _ends(rest: str) -> bool:
    return not rest.strip() or bool(re.match(r"\s*[*/×^]", rest))


def _value(frame: pd.DataFrame, factors: list[Factor]) -> np.ndarray:
    """The formula's value [n], NaN where a factor is none."""
    out = np.ones(len(frame))
    with np.errstate(all="ignore"):
        for name, power, divides in factors:
            values = (
                numbers.read(frame, name, count=True).values
                if name in frame.columns
                else float(name)
            )
            out = out / values**power if divides else out * values**power
    return out


STEPS = (
    *("steps", "step", "train_steps", "training_steps", "num_steps", "n_steps"),
    *("total_steps", "max_steps", "num_train_steps", "iterations", "iters", "updates"),
)
PER_STEP = ("tokens_per_batch", "batch_tokens", "tokens_per_step", "batch_size_tokens")
LENGTH = (
    *("seq_len", "sequence_length", "seq_length", "max_seq_len", "max_seq_length"),
    *("context_length", "context", "ctx_len", "n_ctx", "block_size", "length"),
)
RATIO = (
    *("tokens_per_param", "tokens_per_parameter", "token_multiplier", "tpp", "d_n"),
    *("tokens_params", "tokens_param"),
)
LAYERS = ("n_layers", "num_layers", "layers", "n_layer", "depth")
WIDTH = ("d_model", "width", "n_embd", "hidden_size", "d_hidden", "hidden_dim")


def proposed(
    ours: str, known_as: Mapping[str, str], aliases: Mapping[str, Collection[str]]
) -> str:
    """A formula of the table's columns that may be what is missing; "" for none.

    Args:
      known_as: the table's columns, by header, as they are known.
      aliases: what our columns are called.
    """
    batch = tuple(name for name in aliases["batch"] if name not in PER_STEP)
    flops, params, tokens = (
        tuple(aliases[name]) for name in ("flops", "params", "tokens")
    )
    ways = {
        "tokens": (
            ((STEPS, PER_STEP), "{}*{}"),
            ((STEPS, batch, LENGTH), "{}*{}*{}"),
            ((params, RATIO), "{}*{}"),
            ((flops, params), "{}/6/{}"),
        ),
        "params": (
            ((flops, tokens), "{}/6/{}"),
            ((tokens, RATIO), "{}/{}"),
            ((LAYERS, WIDTH), "12*{}*{}^2"),
        ),
    }
    by_name = {name: header for header, name in known_as.items()}
    for needed, text in ways.get(ours, ()):
        found = [
            next((by_name[n] for n in names if n in by_name), "") for names in needed
        ]
        if all(found):
            return text.format(*found)
    return ""
