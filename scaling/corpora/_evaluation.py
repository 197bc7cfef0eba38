"""Evaluation windows: the held-out text that every run of a study is scored on."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping

import numpy as np

from scaling.corpora._pictures import arranged
from scaling.corpora._prepared import Prepared
from scaling.corpora._tokens import DOCUMENT, TokenFile
from scaling.errors import UserError
from scaling.families import Tokens
from scaling.run import Part, Run

# A held-out split that fills less of the stated size is too small for it.
FILLED = 0.8


@dataclasses.dataclass(frozen=True)
class EvaluationWindows:
    """One corpus's part of an evaluation set.

    As in training, windows hold the targets (a document's tokens, then the separator)
    and the objective shifts in the separator at the front of each.

    Attributes:
      tokens: int32 [n, row], padded at a document's end with the separator.
      weight: float32 [n, row], 1 on a token that counts and 0 on padding; [n, 1] where
        a picture is read as one thing.
      document: int32 [n], which document a window belongs to.
      bytes: int64 [documents], bytes of each document's text, or values of a group's
        pictures.
      names: hash of each document's text, 16 hexadecimal digits.
    """

    tokens: np.ndarray
    weight: np.ndarray
    document: np.ndarray
    bytes: np.ndarray
    names: tuple[str, ...]

    @property
    def count(self) -> int:
        """Tokens scored."""
        return int(self.weight.sum(dtype=np.float64))


def scored_windows(
    part: Part, tokens: int, run: Run, prepared: Mapping[str, Prepared]
) -> EvaluationWindows:
    """What a run is scored on of a part of an evaluation set, be it text or pictures.

    Raises:
      UserError: as `evaluation_windows`.
    """
    if prepared[part.key].images is None:
        return evaluation_windows(part, tokens, run.length, prepared)
    return evaluation_rows(part, tokens, run, prepared)


def evaluation_windows(
    part: Part, tokens: int, length: int, prepared: Mapping[str, Prepared]
) -> EvaluationWindows:
    """Whole held-out documents of a corpus, by hash, up to `tokens` tokens.

    A document that would exceed the stated size is skipped, so the set comes close to
    that size from below. It depends on no seed, budget or epoch.

    Args:
      tokens: size of the set, with one separator a document.
      length: tokens of a window; a document's last window is padded.
      prepared: the prepared corpora, by `Part.key`.

    Raises:
      UserError: the held-out split fills less than 80% of `tokens`.
    """
    corpus = prepared[part.key]
    index, sizes, chosen = _chosen(part, tokens, corpus)
    file = TokenFile(corpus.folder / "held_out.tokens")
    windows = -(-sizes[chosen] // length)
    cut = np.full((windows.sum(), length), corpus.separator, np.int32)
    weight = np.zeros((windows.sum(), length), np.float32)
    first = np.cumsum(windows) - windows
    for row, document in zip(first, chosen, strict=True):
        start, size = index["start"][document], sizes[document]
        cut[row:].reshape(-1)[:size] = file.slice(start, start + size)
        weight[row:].reshape(-1)[:size] = 1.0
    return EvaluationWindows(
        tokens=cut,
        weight=weight,
        document=np.repeat(np.arange(len(chosen), dtype=np.int32), windows),
        bytes=index["bytes"][chosen],
        names=tuple(f"{digest:016x}" for digest in index["hash"][chosen]),
    )


def evaluation_rows(
    part: Part, pictures: int, run: Run, prepared: Mapping[str, Prepared]
) -> EvaluationWindows:
    """Whole held-out groups of a corpus of pictures, by hash, up to `pictures` of them.

    As `evaluation_windows`, with a group for a document and a picture for a window.
    """
    corpus = prepared[part.key]
    assert corpus.images is not None
    spec = corpus.spec(run)
    index, sizes, chosen = _chosen(part, pictures, corpus)
    file = TokenFile(corpus.folder / "held_out.tokens")
    numbers = np.concatenate(
        [np.arange(index["start"][g], index["start"][g] + sizes[g]) for g in chosen]
    )
    rows = arranged(file.windows(corpus.images.row, numbers), corpus, spec)
    weight = np.ones((len(rows), 1), np.float32)
    if isinstance(spec, Tokens):
        scored = np.arange(spec.row) >= spec.prefix
        weight = weight * scored.astype(np.float32)
    return EvaluationWindows(
        tokens=rows,
        weight=weight,
        document=np.repeat(np.arange(len(chosen), dtype=np.int32), sizes[chosen]),
        bytes=index["bytes"][chosen],
        names=tuple(f"{digest:016x}" for digest in index["hash"][chosen]),
    )


def check_evaluation(runs: Iterable[Run], prepared: Mapping[str, Prepared]) -> None:
    """Refuses evaluation sets that are larger than what their corpora hold out.

    Args:
      prepared: by `Part.key`.

    Raises:
      UserError: as `evaluation_windows`.
    """
    sets = {held_out for run in runs for held_out in run.evaluation}
    for part, tokens in {(part, held.tokens) for held in sets for part in held.parts}:
        _chosen(part, tokens, prepared[part.key])


def _chosen(
    part: Part, tokens: int, corpus: Prepared
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The held-out documents, the size of each, and which of them make the set.

    Raises:
      UserError: as `evaluation_windows`.
    """
    index = np.fromfile(corpus.folder / "held_out.documents", DOCUMENT)
    sizes = np.diff(index["start"], append=corpus.held_out_tokens)
    chosen = _fill(sizes, np.argsort(index["hash"], kind="stable"), tokens)
    if sizes[chosen].sum() < FILLED * tokens:
        groups = "documents" if corpus.images is None else "groups"
        raise UserError(
            "evaluation.tokens",
            tokens,
            f"{part.key} holds out {corpus.held_out_tokens:,} {corpus.unit} in "
            f"{corpus.held_out_documents:,} {groups}, of which whole {groups} give "
            f"{sizes[chosen].sum():,}; give no more than that",
        )
    return index, sizes, chosen


def ratio(total: np.ndarray, per: np.ndarray) -> tuple[float, float]:
    """(mean, variance) of sum(total) / sum(per), documents drawn independently.

    The linearised ratio estimator (Cochran 1977, eq. 6.13), which clusters tokens by
    document; the variance is infinite for a single document.

    Args:
      total, per: float64 [documents].
    """
    n, mean = len(total), float(total.sum() / per.sum())
    if n < 2:
        return mean, math.inf
    residual = total - mean * per
    return mean, float(n / (n - 1) * (residual**2).sum() / per.sum() ** 2)


def _fill(sizes: np.ndarray, order: np.ndarray, tokens: int) -> np.ndarray:
    """int64 [documents]: those of `order` that fit, one after the other."""
    chosen, left = [], tokens
    for document in order.tolist():
        if sizes[document] <= left:
            chosen.append(document)
            left -= sizes[document]
    return np.asarray(chosen, np.int64)
