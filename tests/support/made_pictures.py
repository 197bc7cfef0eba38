"""Samples that are planted, in memory of a workdir that a study could have left.

A run's sample of a noise is a linear part and what lies beyond it, in pixels over 255:

    0.5 + linear * (L + own * M[half])
        + beyond * (shared * S + family * F[family] + half * H[half] + seed * Z[run]
                    + start * I[family, seed])

each drawn once for every noise and value with standard deviation 1; H counts as
(unique / 64) ** -rate. Families that are `same` share F: twins. With shared = 0 two
families of one another's `strangers` have nothing in common. A `copier`'s samples are
its training pictures. What a run says of a noisy picture is the picture and an error
made up in the same way; the exact denoiser errs by S alone.

    plan = Plan(families=("unet", "twin"), same=(("unet", "twin"),))
    plan.write(tmp_path)        # a workdir; analysis.load(tmp_path) reads it
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

import analysis
from analysis import schema
from analysis.design import factors
from analysis.design.swaps import Described
from analysis.pictures.groups import Pictured, pictured
from analysis.questions import captions
from analysis.questions._asked import Measured
from analysis.questions._question import questions
from analysis.results import Note
from analysis.tables.table import Table
from scaling.corpora._samples import SampleSet
from scaling.record import Reading, Record
from scaling.run import (
    Data,
    EvaluationSet,
    Model,
    Optimiser,
    Part,
    Run,
    Samples,
    options,
)
from scaling.store import Store
from scaling.writing import npz

Array = np.ndarray
SHAPE = (4, 4, 1)
PART = Part("templates", options=options(size=4))
SIGMAS = (0.1, 0.8)
NAME = "shapes"


class One(NamedTuple):
    """What tells one run from the others."""

    family: str
    half: int
    size: int
    tokens: int
    unique: int
    seed: int


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is planted; see above.

    Attributes:
      halves: that are read; 0 for a corpus that has none.
      copiers: families whose samples are training pictures.
      readers: families of pixels in order; their samples are of the distribution of
        the real pictures, but for a spread that is `wide` times theirs.
      noises: how many; each held-out picture has a group of `per_group`.
      bare: nothing stands beside the samples.
      hidden: of how many pictures the lower half is hidden; what a run expects of it
        is the picture's own, drawn halfway to grey, and what lies beyond, both with
        normal noise of deviation `chance`, which the run states.
      captions: what the right caption saves of the loss over none and over a wrong one,
        where pictures have some.
      shown: share of the samples that show the subject of their caption, by family; of
        the held-out pictures 0.8 do, and by chance 0.1 would.
    """

    families: tuple[str, ...] = ("unet", "dit")
    same: tuple[tuple[str, str], ...] = ()
    copiers: tuple[str, ...] = ()
    readers: tuple[str, ...] = ()
    wide: float = 1.0
    halves: tuple[int, ...] = (1, 2)
    sizes: tuple[int, ...] = (8_000,)
    budgets: tuple[int, ...] = (16_384,)
    unique: tuple[int, ...] = (4096,)
    seeds: int = 2
    fractions: tuple[float, ...] = (1.0,)
    noises: int = 40
    per_group: int = 2
    linear: float = 0.2
    own: float = 0.1
    beyond: float = 0.05
    shared: float = 1.0
    family: float = 0.3
    half: float = 0.2
    seed: float = 0.2
    start: float = 0.0
    rate: float = 0.5
    draw: int = 0
    bare: bool = False
    hidden: int = 0
    chance: float = 0.01
    captions: tuple[float, ...] = ()
    shown: tuple[tuple[str, float], ...] = ()

    def runs(self) -> Iterator[One]:
        every = itertools.product(
            (*self.families, *self.readers),
            self.halves,
            self.sizes,
            self.budgets,
            self.unique,
            range(self.seeds),
        )
        yield from (One(*values) for values in every)

    def normal(self, *names: Any) -> Array:
        """Standard normal [noises, 4, 4, 1], the same for the same names."""
        text = "/".join(map(str, (self.draw, *names)))
        key = hashlib.sha256(text.encode()).digest()
        rng = np.random.default_rng(int.from_bytes(key[:8], "big"))
        return rng.standard_normal((self.noises, *SHAPE))

    def _beyond(self, one: One, what: str, fraction: float) -> Array:
        family = dict((b, a) for a, b in self.same).get(one.family, one.family)
        less = (one.unique / 64) ** -self.rate
        return self.beyond * (
            self.shared * self.normal(what, "shared")
            + self.family * self.normal(what, "family", family) / np.sqrt(fraction)
            + self.half * less * self.normal(what, "half", one.half)
            + self.seed * self.normal(what, "seed", *one)
            + self.start * self.normal(what, "start", family, one.seed)
        )

    def linear_of(self, half: int) -> Array:
        both = self.normal("linear") + self.own * self.normal("linear", half)
        return 0.5 + self.linear * both

    @property
    def real(self) -> Array:
        return np.round(127.5 + 50 * self.normal("real")).clip(0, 255) / 255.0

    def read_by(self, half: int) -> Array:
        """The training pictures that copiers of a half make."""
        return np.round(127.5 + 50 * self.normal("read", half)).clip(0, 255) / 255.0

    def pictures(self, one: One, fraction: float = 1.0) -> Array:
        if one.family in self.copiers:
            return self.read_by(one.half)
        if one.family in self.readers:
            return 0.5 + self.wide * self.normal("pixels", *one) * 50 / 255
        return self.linear_of(one.half) + self._beyond(one, "made", fraction)

    def denoised(self, one: One, level: int, fraction: float = 1.0) -> Array:
        return self.real + SIGMAS[level] * self._beyond(one, f"seen{level}", fraction)

    def exact(self, level: int) -> Array:
        shared = self.beyond * self.shared * self.normal(f"seen{level}", "shared")
        return self.real + SIGMAS[level] * shared

    def lower(self, one: One) -> dict[str, Array]:
        """What the run expects of lower halves, and what lies beside it."""
        numbers = np.arange(self.hidden) * self.noises // self.hidden
        own = self._beyond(one, "hidden", 1.0) + self.chance * self.normal("by", *one)
        line = 0.25 + 0.5 * self.real
        cut = lambda x: x[numbers][:, SHAPE[0] // 2 :]
        out = {
            "hidden": cut(line + own),
            "hidden_numbers": numbers,
            "hidden_variance": np.full(self.hidden, self.chance**2, np.float32),
        }
        if one.family not in self.readers:
            out["hidden_effective"] = np.full(self.hidden, 12.0, np.float32)
        if self.bare:
            return out
        shared = self.beyond * self.shared * self.normal("hidden", "shared")
        known = {"linear_hidden": cut(line), "exact_hidden": cut(line + shared)}
        return out | known

    def named(self, one: One) -> dict[str, Array]:
        """Whether samples show their captions, by groups of a picture of each seed."""
        share = dict(self.shown).get(one.family)
        if share is None:
            return {}
        first = (np.arange(self.noises) + one.seed) % self.noises
        return {
            "1:right_subject": first < share * self.noises,
            "1:chance_subject": np.full(self.noises, 0.1, np.float32),
            "real_subject": np.arange(self.noises) < 0.8 * self.noises,
        }

    def arrays(self, one: One) -> dict[str, Array]:
        """The run's file, by names without the set's."""
        out = (self.lower(one) if self.hidden else {}) | self.named(one)
        reads = one.family in self.readers
        for fraction in self.fractions:
            at = f"{fraction:g}"
            out[f"{at}:pictures"] = self.pictures(one, fraction)
            if not reads:
                said = [self.denoised(one, k, fraction) for k in range(len(SIGMAS))]
                out[f"{at}:denoised"] = np.stack(said)
            if self.bare:
                continue
            near = np.tile([0.1, 0.11], (self.noises, 1))
            if one.family in self.copiers:
                near = np.tile([1e-4, 0.1], (self.noises, 1))
            out[f"{at}:near"] = near
            nearest = np.rint(255 * self.read_by(one.half)).astype(np.uint8)
            out[f"{at}:nearest"] = nearest
            if one.half:
                out[f"{at}:near_other"] = np.tile([0.1, 0.11], (self.noises, 1))
        if self.bare:
            return out
        out["read"] = np.array([one.unique, one.unique if one.half else 0])
        if not reads:
            out["linear"] = self.linear_of(one.half)
            out["copies"] = self.read_by(one.half)
            linear = [self.real + s * 0.1 * self.normal("line", s) for s in SIGMAS]
            out["linear_denoised"] = np.stack(linear)
            out["exact_denoised"] = np.stack(
                [self.exact(k) for k in range(len(SIGMAS))]
            )
        return out

    @property
    def set(self) -> SampleSet:
        rows = np.rint(255 * self.real).astype(np.int32).reshape(self.noises, -1)
        if self.shown:  # captions of eight bytes
            texts = [f"sign-{i}".ljust(8, "\0").encode() for i in range(self.noises)]
            captions = np.array([list(text) for text in texts], np.int32)
            captions[captions == 0] = 256
            rows = np.concatenate([rows, captions], axis=1)
        return SampleSet(
            noise=self.normal("noise").astype(np.float32),
            uniform=np.zeros((self.noises, 16), np.float32),
            rows=rows,
            seen=self.normal("seen").astype(np.float32),
            sigmas=np.array(SIGMAS, np.float32),
            groups=(np.arange(self.noises) // self.per_group).astype(np.uint64),
            corpus_digest="made",
        )

    def write(self, workdir: str | os.PathLike[str]) -> Store:
        """Writes the workdir of a study whose runs made this."""
        store, made = Store(workdir), self.set
        path = store.path("samples", f"{made.digest}.npz")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(made.to_bytes())
        ids = []
        for one in self.runs():
            record = self.record(store, one, made.digest)
            store.write(record)
            ids.append(record.run_id)
        store.write_study("made", {"runs": ids})
        return store

    def scores(self, one: One) -> dict[str, Array]:
        """Sums of each of 64 groups of held-out pictures: nats.npz."""
        rng = np.random.default_rng(hash_of(run_id(one)))
        tokens = np.repeat([4.0, 12.0], 32)
        sums = {"nats": 0.5 + 0.2 * rng.random(64), "tokens": np.ones(64)}
        names = ("no_caption", "wrong_caption")
        for name, saved in zip(names, self.captions, strict=True):
            noise = 0.05 * rng.standard_normal(64)
            sums[name] = sums["nats"] + saved + 0.01 * one.seed + noise
        return {f"{PART.key}:512:{name}": tokens * x for name, x in sums.items()}

    def record(self, store: Store, one: One, digest: str) -> Record:
        body = file_of(self.arrays(one), digest)
        kept = [store.write_artifact(run_id(one), "samples.npz", body)]
        if self.captions:
            scores = npz(self.scores(one))
            kept.append(store.write_artifact(run_id(one), "nats.npz", scores))
        reads = one.family in self.readers
        made = Run(
            model=Model(one.family, one.size),
            data=Data((PART,), one.tokens, one.unique, half=one.half),
            optimiser=Optimiser(1e-3),
            batch=64,
            length=1,
            evaluation=(EvaluationSet("held out", (PART,), tokens=512),),
            init_seed=one.seed,
            objective="next_token" if reads else "denoise",
            samples=(Samples(NAME, (PART,), self.noises, self.fractions, SIGMAS),),
        )
        return Record(
            run_id=run_id(one),
            status="done",
            run=json.loads(json.dumps(made.flat())),
            digests={PART.key: "made"},
            trajectory=run_id(one),
            params_total=one.size + 1000,
            params_active=one.size + 1000,
            params_embedding=1000,
            steps=made.steps,
            tokens=made.tokens,
            unique_tokens=made.unique_tokens,
            epochs=made.tokens / made.unique_tokens,
            flops=6.0 * one.size * one.tokens,
            flops_xla=None,
            flops_xla_reason="made",
            readings=self._readings(one, made.steps),
            artifacts=tuple(kept),
            attempt=1,
            layout={},
            wall_seconds=1.0,
            finished="2026-01-01T00:00:00",
            host="",
            device="",
            versions={},
            commit="",
        )

    def _readings(self, one: One, steps: int) -> tuple[Reading, ...]:
        wave = 0.01 * np.sin(hash_of(run_id(one)))
        loss = 0.3 + (one.size / 1000) ** -0.5 + (one.unique / 64) ** -0.5 + wave
        if one.family in self.readers:
            each = (
                ("loss", loss, "nats/dim"),
                ("bits_per_dim", 1.4 * loss, "bits/dim"),
            )
        else:
            unit = "weighed squared error"
            bits = ("bits_per_dim_bound", 1.5 * loss, "bits/dim")
            each = (("loss", loss, unit), bits)
        return tuple(
            Reading("held out", name, "final", value, 0.01, unit, 512, steps)
            for name, value, unit in each
        )


def file_of(arrays: Mapping[str, Array], digest: str) -> bytes:
    """A run's samples.npz."""
    kept = {
        f"{NAME}:{name}": a.astype(np.float16) if a.dtype == np.float64 else a
        for name, a in arrays.items()
    }
    return npz(kept | {f"{NAME}:digest": np.array(digest)})


def hash_of(text: str) -> int:
    return int(hashlib.sha256(text.encode()).hexdigest()[:4], 16)


def run_id(one: One) -> str:
    """A name that people can read in a failing test."""
    return "-".join(map(str, one))


# --- What an analysis makes of it ----------------------------------------------------

PLAN = Plan(
    families=("unet", "twin", "dit", "copier"),
    same=(("unet", "twin"),),
    copiers=("copier",),
    readers=("lstm",),
    unique=(64, 4096),
    noises=24,
    hidden=16,
    captions=(0.1, 0.3),
    shown=(("unet", 0.6), ("dit", 0.12)),
)


def asked(plan: Plan, folder: str | os.PathLike[str], draws: int = 40) -> Pictured:
    """The comparison that an analysis of the planted workdir makes."""
    plan.write(folder)
    return of_workdir(folder, bool(plan.readers), draws)


def of_workdir(
    folder: str | os.PathLike[str], mixed: bool = False, draws: int = 40
) -> Pictured:
    """The same of a workdir as it is; `mixed` where readers are in it, too."""
    table, described = loaded(folder, mixed)
    return pictured(table, described, table.pictures[0], draws)


def loaded(folder: str | os.PathLike[str], mixed: bool) -> tuple[Table, Described]:
    """The table of the runs that denoise."""
    chosen = ["objective == denoise"] if mixed else []
    return factors.fold(analysis.load(str(folder), where=chosen))


def saved(folder: str | os.PathLike[str], mixed: bool = False) -> pd.DataFrame:
    """What captions save, of a workdir's runs that denoise."""
    table, described = loaded(folder, mixed)
    rows = captions.measures(Measured(table, described, "held out", False, 0))
    return schema.frames()["captions"].join(list(rows.values()))


def answered(made: Pictured, *names: str) -> tuple[dict[str, pd.DataFrame], list[Note]]:
    """Frames and notes of the questions of these names, or of all about pictures."""
    frames: dict[str, pd.DataFrame] = {}
    notes: list[Note] = []
    known = schema.frames()
    for question in questions():
        if question.pictures is None or (names and question.name not in names):
            continue
        parts, said = question.pictures(made)
        frames |= {name: known[name].join([part]) for name, part in parts.items()}
        notes += said
    return frames, notes


@functools.cache
def planted() -> tuple[Pictured, dict[str, pd.DataFrame], list[Note]]:
    """PLAN's comparison and all that is answered of it, made once."""
    with tempfile.TemporaryDirectory() as folder:
        made = asked(PLAN, folder)
        frames, notes = answered(made)
        return made, frames | {"captions": saved(folder, mixed=True)}, notes


def frames() -> Mapping[str, pd.DataFrame]:
    """All frames of PLAN."""
    return planted()[1]
