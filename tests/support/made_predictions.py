"""Predictors that are planted, in memory or as a workdir that a study could have left.

Every predictor is the truth's logits plus what it gets wrong, drawn once for each
position and token with standard deviation 1:

    truth + s(tokens) * (shared * A + family * F[family] + corpus * C[corpus]
                         + seed * Z[run])

with s(tokens) = floor + (tokens / 1000) ** -rate, in which a fraction of a run's
training counts as so many tokens. Where runs `stop` on their way, at their best
scoring, the scale rises again by `worse` a training. Families that are `same`
share F: they are one family under two names. Sizes of what is planted are the fields of
`Plan`.

    plan = Plan(families=("lstm", "twin", "ngram"), same=(("lstm", "twin"),), seeds=3)
    predictions = plan.predictions()     # an analysis.predictions.load.Predictions
    plan.write(tmp_path)                 # a workdir; analysis.load(tmp_path) reads it
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import json
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from analysis.predictions.load import BEST, Predictions, held
from scaling import probe_file
from scaling.probe_file import ProbeSet
from scaling.record import Reading, Record
from scaling.run import Data, EvaluationSet, Model, Optimiser, Part, Probes, Run
from scaling.store import Store

Array = np.ndarray


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is planted.

    Attributes:
      families, corpora: names; the probes lie in the first corpus.
      same: pairs of families that are one family.
      sizes, budgets: parameters and training tokens.
      unique: unique tokens of every run; None for runs of one epoch.
      stop: the fraction of the training at which the best scoring is; None for none.
      worse: how much the scale of errors rises after it, over a whole training.
      seeds: runs of each family, corpus, size and budget.
      fractions: of the training, after which predictions are kept.
      positions, vocab: of the probe set; a document has `per_document` positions.
      sharpness: standard deviation of the true logits; 2 gives 1.3 nats of 32 tokens.
      shared, family, corpus, seed: standard deviations of what predictors get wrong.
      uneven: relative standard deviation of `seed` between runs, so that some seeds lie
        farther out than others.
      floor, rate: of the scale of all errors, as above.
      draw: keys everything drawn.
    """

    families: tuple[str, ...] = ("lstm", "transformer")
    corpora: tuple[str, ...] = ("docstrings",)
    same: tuple[tuple[str, str], ...] = ()
    sizes: tuple[int, ...] = (8000,)
    budgets: tuple[int, ...] = (8192,)
    unique: int | None = None
    stop: float | None = None
    worse: float = 0.0
    seeds: int = 3
    fractions: tuple[float, ...] = (1.0,)
    positions: int = 256
    vocab: int = 32
    per_document: int = 1
    sharpness: float = 2.0
    shared: float = 0.3
    family: float = 0.3
    corpus: float = 0.5
    seed: float = 0.2
    uneven: float = 0.0
    floor: float = 1.0
    rate: float = 0.5
    draw: int = 0

    # What is drawn

    def _normal(self, *names: str) -> Array:
        """Standard normal [positions, vocab], the same for the same names."""
        key = hashlib.sha256("/".join((str(self.draw), *names)).encode()).digest()
        rng = np.random.default_rng(int.from_bytes(key[:8], "big"))
        return rng.standard_normal((self.positions, self.vocab), np.float32)

    @functools.cached_property
    def truth(self) -> Array:
        """Natural logs of the true chances [positions, vocab]."""
        return _log_softmax(self.sharpness * self._normal("truth"))

    def _one_name(self, family: str) -> str:
        names = {second: first for first, second in self.same}
        return names.get(family, family)

    def scale(self, tokens: float, fraction: float = 1.0) -> float:
        """What all errors are multiplied by after a fraction of so many tokens."""
        stop = 1.0 if self.stop is None else self.stop
        fraction = stop if fraction == BEST else fraction
        again = self.worse * max(0.0, fraction - stop)
        return (
            self.floor + (min(fraction, stop) * tokens / 1000.0) ** -self.rate + again
        )

    @property
    def moments(self) -> tuple[float, ...]:
        """When predictions are kept: the best scoring first, where there is one."""
        return self.fractions if self.stop is None else (BEST, *self.fractions)

    def log_probabilities(
        self, family: str, corpus: str, size: int, tokens: int, seed: int, fraction=1.0
    ) -> Array:
        """What one run predicts after a fraction of its training."""
        run = (family, corpus, str(size), str(tokens), str(seed))
        wrong = self.shared * self._normal("shared")
        wrong = wrong + self.family * self._normal("family", self._one_name(family))
        wrong = wrong + self.corpus * self._normal("corpus", corpus)
        own = self.seed
        if self.uneven:
            key = hashlib.sha256("/".join((str(self.draw), *run)).encode()).digest()
            rng = np.random.default_rng(int.from_bytes(key[:8], "little"))
            own = own * max(0.0, 1.0 + self.uneven * rng.standard_normal())
        wrong = wrong + own * self._normal("seed", *run)
        return _log_softmax(self.truth + self.scale(tokens, fraction) * wrong)

    # As files are

    @functools.cached_property
    def probes(self) -> ProbeSet:
        """Positions whose tokens are drawn from the truth."""
        rng = np.random.default_rng(self.draw)
        length, here = 16, self.positions
        chances = np.exp(self.truth).cumsum(axis=1)
        target = (rng.random((here, 1)) > chances[:, :-1]).sum(axis=1)
        tokens = rng.integers(0, self.vocab, (here, length))
        at = rng.integers(0, length, here)
        tokens[np.arange(here), at] = target
        unigram = np.exp(self.truth).mean(axis=0)
        kinds = ("letter", "digit")
        return ProbeSet(
            tokens=tokens.astype(np.int32),
            at=at.astype(np.int32),
            document=(np.arange(here) // self.per_document).astype(np.uint64),
            offset=np.zeros(here, np.int64),
            weight=np.ones(here),
            unigram=unigram / unigram.sum(),
            bytes_per_token=1.0,
            classes={"kind": ((target % 2).astype(np.int8), kinds)},
            facts={
                **{"name": self.corpora[0], "corpus": self.corpora[0]},
                **{"corpus_digest": _digest(self.corpora[0]), "tokenizer": "bytes"},
                **{"vocab": self.vocab, "length": length, "positions": here},
                **{"documents": -(-here // self.per_document), "rule": 1},
            },
        )

    def runs(self) -> Iterator[tuple[str, str, int, int, int]]:
        """Family, corpus, size, tokens and seed of every run."""
        yield from itertools.product(
            self.families, self.corpora, self.sizes, self.budgets, range(self.seeds)
        )

    def predictions(self) -> Predictions:
        """All predictions in memory, by run ids `run_id(...)`, with the truth."""
        arrays = {
            (run_id(*run), fraction): self.log_probabilities(*run, fraction)
            for run in self.runs()
            for fraction in self.moments
        }
        runs = {name for name, _ in arrays} if self.stop else ()
        stopped = {name: self.stop or 1.0 for name in runs}
        return held(self.probes, arrays, self.truth, stopped)

    def write(self, workdir: str | os.PathLike[str]) -> Store:
        """Writes the workdir of a study whose runs predict this; the truth too."""
        store = Store(workdir)
        digest = probe_file.write(store, self.probes)
        probe_file.write_truth(store, digest, self.truth)
        ids = []
        for run in self.runs():
            record = self.record(store, run)
            store.write(record)
            ids.append(record.run_id)
        store.write_study("made", {"runs": ids})
        return store

    def record(self, store: Store, run: tuple[str, str, int, int, int]) -> Record:
        """One run's record; its predictions are written."""
        family, corpus, size, tokens, seed = run
        name, wrote, here = self.corpora[0], self.probes, self.positions
        kept = {
            probe_file.key(name, fraction): self.log_probabilities(
                *run, fraction
            ).astype(np.float16)
            for fraction in self.fractions
        }
        best = 1.0 if self.stop is None else BEST
        step = round((self.stop or 1.0) * (tokens // 16))
        if self.stop is not None:
            logs = self.log_probabilities(*run, BEST).astype(np.float16)
            kept[probe_file.key(name, probe_file.BEST)] = logs
            kept[probe_file.best_step_key(name)] = np.array(step, np.int64)
        body = probe_file.predictions(kept, {name: wrote.digest})
        artifact = store.write_artifact(run_id(*run), probe_file.PREDICTIONS, body)
        readings = tuple(
            self._reading(run, moment, kind, at)
            for moment, kind, at in ((1.0, "final", tokens // 16), (best, "best", step))
        )
        made = Run(
            model=Model(family, size),
            data=Data(corpus=(Part(corpus),), tokens=tokens, unique_tokens=self.unique),
            optimiser=Optimiser(1e-3),
            batch=1,
            length=16,
            evaluation=(EvaluationSet(name, (Part(name),), tokens=4096),),
            init_seed=seed,
            probes=(
                Probes(
                    name,
                    (Part(name),),
                    here,
                    self.fractions,
                    self.per_document,
                    self.stop is not None,
                ),
            ),
        )
        return Record(
            run_id=run_id(*run),
            status="done",
            run=json.loads(json.dumps(made.flat())),
            digests={corpus: _digest(corpus), name: _digest(name)},
            trajectory=run_id(*run),
            params_total=size + 1000,
            params_active=size + 1000,
            params_embedding=1000,
            steps=made.steps,
            tokens=made.tokens,
            unique_tokens=made.unique_tokens,
            epochs=made.tokens / made.unique_tokens,
            flops=6.0 * size * tokens,
            flops_xla=None,
            flops_xla_reason="made",
            readings=readings,
            artifacts=(artifact,),
            attempt=1,
            layout={},
            wall_seconds=1.0,
            finished="2026-01-01T00:00:00",
            host="",
            device="",
            versions={},
            commit="",
        )

    def _reading(self, run: Any, moment: float, kind: Any, step: int) -> Reading:
        """What a run loses at the probes, as a reading of their evaluation set."""
        logs = self.log_probabilities(*run, moment)
        loss = -logs[np.arange(self.positions), self.probes.target]
        se = float(loss.std(ddof=1) / np.sqrt(loss.size))
        mean, unit = float(loss.mean()), "nats/token"
        return Reading(self.corpora[0], "loss", kind, mean, se, unit, 4096, step)


def run_id(family: str, corpus: str, size: int, tokens: int, seed: int) -> str:
    """A name that people can read in a failing test."""
    return f"{family}-{corpus}-{size}-{tokens}-{seed}"


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def _log_softmax(logits: Array) -> Array:
    logits = logits - logits.max(axis=1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
