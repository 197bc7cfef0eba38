"""The lowest loss that any model can have, for corpora whose source is known.

Corpora that are generated from a known source define two more functions:

    oracle(tokens, offset, /, **options) -> nats
        -log of the true probability of every token of evaluation windows, given the
        tokens before it in its window; see `corpora/_known.py`
    entropy(length, /, **options) -> (nats/token, standard error)
        the expectation of that over all documents of the source

Of a corpus of pictures a window is a picture as models of sequences read it: what is
not scored (a label), then its pixels in raster order. The truth is theirs alone, in
nats/dim; `offset` and `length` say nothing of pictures.

On the windows that a study's runs are scored on, a run can beat the oracle's loss only
by chance. The difference is paired, since the documents are the same.

At the positions of a probe set the oracle is evaluated for each token id in turn, which
gives the true distribution there.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping

import numpy as np

from scaling import corpora, quantities
from scaling.corpora import EvaluationWindows, Prepared, ratio, scored_windows
from scaling.errors import UserError
from scaling.probe_file import ProbeSet
from scaling.run import EvaluationSet, Part, Probes, Run

# The oracle knows the chances of bytes, or of a pixel's 256 levels.
TOKENIZER = "bytes"
OBJECTIVE = "next_token"


@dataclasses.dataclass(frozen=True)
class Truth:
    """The truth of one evaluation set in windows of one length.

    Attributes:
      evaluation: its name.
      unit: of the losses, nats/token or nats/dim.
      length: of the windows, beyond which nothing is remembered.
      loss: the oracle's, on the very documents that runs are scored on.
      se: its standard error as an estimate of the entropy, clustered by document.
      entropy: expected loss of the oracle over all documents.
      entropy_se: its standard error; 0 where it is exact.
      count: tokens, or pixels, that were scored.
    """

    evaluation: str
    unit: str
    length: int
    loss: float
    se: float
    entropy: float
    entropy_se: float
    count: int


def known(held_out: EvaluationSet | Probes) -> bool:
    """Whether every corpus of the set has an oracle."""
    return all(hasattr(corpora.load(part.name), "oracle") for part in held_out.parts)


def sets(runs: Iterable[Run]) -> dict[tuple[EvaluationSet, int], Run]:
    """Evaluation sets whose truth is known, with the windows' length; a run of each."""
    found = {
        (held_out, run.length): run
        for run in runs
        if run.data.tokenizer == TOKENIZER and run.objective == OBJECTIVE
        for held_out in run.evaluation
    }
    ordered = sorted(found, key=lambda pair: (pair[0].name, pair[1]))
    return {pair: found[pair] for pair in ordered if known(pair[0])}


def of_set(
    held_out: EvaluationSet, run: Run, prepared: Mapping[str, Prepared]
) -> Truth:
    """The weighted mean over the set's parts, as the readings of a run are.

    Args:
      prepared: of the byte tokenizer, by `Part.key`.
    """
    total = sum(part.weight for part in held_out.parts)
    loss = variance = entropy = entropy_variance = 0.0
    count = 0
    for part in held_out.parts:
        share = part.weight / total
        windows = scored_windows(part, held_out.tokens, run, prepared)
        nats, tokens = by_document(part, windows)
        mean, own = ratio(nats, tokens)
        options = dict(part.options)
        expected, se = corpora.load(part.name).entropy(run.length, **options)
        loss += share * mean
        variance += share**2 * own
        entropy += share * expected
        entropy_variance += (share * se) ** 2
        count += windows.count
    return Truth(
        evaluation=held_out.name,
        unit=quantities.loss_unit(run),
        length=run.length,
        loss=loss,
        se=math.sqrt(variance),
        entropy=entropy,
        entropy_se=math.sqrt(entropy_variance),
        count=count,
    )


def by_document(
    part: Part, windows: EvaluationWindows
) -> tuple[np.ndarray, np.ndarray]:
    """The oracle's nats and the tokens of each document; float64 [documents]."""
    # A document's windows stand one after the other.
    first = np.searchsorted(windows.document, windows.document)
    offset = (np.arange(len(first)) - first) * windows.tokens.shape[1]
    oracle = corpora.load(part.name).oracle
    nats = oracle(windows.tokens, offset, **dict(part.options)) * windows.weight
    documents = len(windows.bytes)
    return (
        np.bincount(windows.document, nats.sum(1), documents),
        np.bincount(windows.document, windows.weight.sum(1), documents),
    )


# Positions whose chances are worked out together, and how far chances may miss one.
_ROWS, _MISSED = 32, 1e-6


def predictive(part: Part, probes: ProbeSet) -> np.ndarray:
    """float64 [positions, vocab]: logs of the true chances at a probe set's positions.

    The oracle is asked of every token that may stand there, with the window's tokens
    before it: those that the text has, and the rest where these leave something over.

    Raises:
      UserError: the oracle's chances do not add up to one.
    """
    logs = np.full((len(probes.at), probes.vocab), -np.inf)
    # One was added to each count: what is above the least share was seen.
    seen = probes.unigram > probes.unigram.min()
    seen[-1] = True
    order = np.argsort(probes.at, kind="stable")  # so that windows can end early
    for first in range(0, len(order), _ROWS):
        rows = order[first : first + _ROWS]
        logs[np.ix_(rows, seen)] = _asked(part, probes, rows, np.flatnonzero(seen))
        short = rows[np.exp(logs[rows]).sum(1) < 1.0 - _MISSED]
        if len(short) and not seen.all():
            rest = _asked(part, probes, short, np.flatnonzero(~seen))
            logs[np.ix_(short, ~seen)] = rest
    missed = np.abs(np.exp(logs).sum(1) - 1.0).max()
    if not missed < _MISSED:
        raise UserError(
            "data.corpus oracle",
            part.key,
            f"its chances of all tokens miss a sum of one by {missed:.2g}; they must "
            "add up",
        )
    return logs


def _asked(
    part: Part, probes: ProbeSet, rows: np.ndarray, ids: np.ndarray
) -> np.ndarray:
    """float64 [rows, ids]: logs of the chance of each token at each position."""
    at = np.repeat(probes.at[rows], len(ids))
    windows = np.repeat(probes.tokens[rows, : at.max() + 1], len(ids), axis=0)
    windows[np.arange(len(at)), at] = np.tile(ids, len(rows))
    after = np.arange(windows.shape[1]) > at[:, None]
    windows[after] = probes.vocab - 1
    offset = np.repeat(probes.offset[rows], len(ids))
    oracle = corpora.load(part.name).oracle
    nats = oracle(windows, offset, **dict(part.options))
    return -nats[np.arange(len(at)), at].reshape(len(rows), len(ids))
