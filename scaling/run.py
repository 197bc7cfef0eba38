"""Run: what one training run computes, and never where.

A Run is data: nested frozen dataclasses that a study file builds and that every later
stage reads. Its identity is the hash of what it computes; its static part (`program`)
decides what is compiled, its dynamic part (`values`) is arrays, so that runs which
differ in rate, budget or seed share one compiled program.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import numpy as np

from scaling.canonical import Scalar, built, canonical, flat
from scaling.errors import UserError

Options = tuple[tuple[str, Scalar], ...]


def options(**values: Scalar) -> Options:
    """Options of a family, corpus or optimiser, in canonical (sorted) order.

    Raises:
      UserError: a value that is no text, number or truth value.
    """
    for name, value in values.items():
        if not isinstance(value, Scalar):
            raise UserError(
                f"option {name}", value, "give text, a number, True or False"
            )
    return tuple(sorted(values.items()))


@dataclasses.dataclass(frozen=True)
class Part:
    """One corpus of a mixture, with its weight (share of the training windows)."""

    name: str
    weight: float = 1.0
    options: Options = ()

    @property
    def key(self) -> str:
        """Name and options in one string: what identifies the text, not its weight."""
        if not self.options:
            return self.name
        return f"{self.name}[{','.join(f'{k}={v}' for k, v in self.options)}]"


Mixture = tuple[Part, ...]
Kept = TypeVar("Kept", "Probes", "Samples")


def label(mixture: Mixture) -> str:
    """A short readable name: `code`, or `0.5 code + 0.5 kjv`."""
    if len(mixture) == 1:
        return mixture[0].key
    return " + ".join(f"{part.weight:g} {part.key}" for part in mixture)


@dataclasses.dataclass(frozen=True)
class EvaluationSet:
    """Held-out text that every run of a study is scored on.

    Attributes:
      name: what tables and figures call it.
      parts: the corpora in it; a reading is the weighted mean over the parts.
      tokens: tokens cut from each part's held-out split (whole documents, by hash).

    >>> from scaling import mixture
    >>> EvaluationSet("both", mixture(code=1, kjv=1)).tokens  # of each of the two
    65536
    """

    name: str
    parts: Mixture
    tokens: int = 65_536


@dataclasses.dataclass(frozen=True)
class Probes:
    """Positions of held-out text at which every run's predictions are kept.

    Attributes:
      name: what tables and figures call them.
      parts: the corpus they lie in, as `corpus("docstrings")` gives it: one.
      positions: how many.
      at: fractions of the run's training after which predictions are kept, rising; the
        last is 1.
      per_document: positions that one document may have at most, one in each of as many
        stretches of it.
      best: whether predictions are kept at the run's best scoring too (the first of the
        lowest loss on held-out text of what the run reads), where early stopping would
        have ended it.

    >>> from scaling import corpus
    >>> Probes("probes", corpus("kjv"), positions=512, at=(0.5, 1.0)).part.key
    'kjv'
    """

    name: str
    parts: Mixture
    positions: int = 1024
    at: tuple[float, ...] = (1.0,)
    per_document: int = 1
    best: bool = False

    @property
    def part(self) -> Part:
        return self.parts[0]


@dataclasses.dataclass(frozen=True)
class Samples:
    """Pictures that every run makes from the same noises, and denoises.

    Attributes:
      name: what tables and figures call them.
      parts: the corpus of pictures, as `corpus("glyphs")` gives it: one.
      count: of the noises, and of held-out pictures that are denoised; a sample is
        conditioned on the label and caption of the held-out picture of its number.
      at: fractions of the run's training after which they are made, rising; the last
        is 1.
      sigmas: noise levels at which the pictures are denoised.
      hidden: of how many of the held-out pictures the lower half is hidden; what the
        model expects of it, given the upper half, is kept when the run ends.

    >>> from scaling import corpus
    >>> Samples("glyphs", corpus("glyphs")).count
    256
    """

    name: str
    parts: Mixture
    count: int = 256
    at: tuple[float, ...] = (1.0,)
    sigmas: tuple[float, ...] = (0.1, 0.4, 1.6)
    hidden: int = 0


@dataclasses.dataclass(frozen=True)
class Model:
    """The architecture.

    Attributes:
      family: a file of scaling/families, or one of your own given by `--include`.
      size: the target; the member of the family that is nearest is trained.
      size_by: what `size` counts: "params" (non-embedding parameters), "active" (those
        that work on one token) or "flops" (forward, per example).
      options: of the family, as `scaling.run.options` makes them.

    >>> from scaling.run import options
    >>> Model("moe", 200_000, size_by="active", options=options(experts=16)).options
    (('experts', 16),)
    """

    family: str
    size: int
    size_by: str = "params"
    options: Options = ()


@dataclasses.dataclass(frozen=True)
class Data:
    """What is read: the corpus, how much of it is unique, how much is seen.

    Attributes:
      corpus: a mixture of one or more corpora.
      tokens: training tokens seen, D; of a corpus of pictures, pictures, as in all
        budgets and sizes of evaluation sets.
      unique_tokens: tokens of the prefix that is repeated, U; None means one epoch.
      quality: kind of damage done to the training text (corpora/_quality.py), "" for
        none.
      quality_level: how much of it, in [0, 1].
      tokenizer: "bytes", or "sentencepiece:SIZE" of text, "levels:16" of pictures.
      seed: keys the order of the training windows.
      half: 1 or 2 for either half of a corpus of pictures, which share no group (no
        character of glyphs); 0 for all of it.
      caption_dropout: share of the pictures that are read without their caption, other
        ones in each epoch, so that a model knows what to make of one without.

    >>> from scaling import corpus
    >>> data = Data(corpus("kjv"), 400_000, unique_tokens=100_000)  # four epochs
    >>> data.label
    'kjv'
    >>> Data(corpus("kjv"), 400_000, quality="truncation", quality_level=0.5).label
    'kjv, truncation 0.5'
    """

    corpus: Mixture
    tokens: int
    unique_tokens: int | None = None
    quality: str = ""
    quality_level: float = 0.0
    tokenizer: str = "bytes"
    seed: int = 0
    half: int = 0
    caption_dropout: float = 0.0

    @property
    def label(self) -> str:
        """The corpus and what was done to it: `kjv`, or `kjv, truncation 0.5`."""
        named = label(self.corpus)
        if self.half:
            named += f", half {self.half}"
        if self.caption_dropout:
            named += f", {self.caption_dropout:.3g} of captions dropped"
        if not self.quality:
            return named
        return f"{named}, {self.quality} {self.quality_level:g}"


@dataclasses.dataclass(frozen=True)
class Optimiser:
    """The update rule and its scalars.

    Attributes:
      learning_rate: peak of the schedule, for a layer with as many inputs as
        `scaling.families._layers.BASE`; the rule of width gives other layers theirs.
      name: "adamw", "lion", "adafactor", "sgd" or "muon".
      weight_decay: decoupled; of matrices and embeddings alone.
      clip_norm: largest norm of the gradient.
      options: arguments of the rule by name, as `scaling.run.options` makes them.

    >>> from scaling.run import options
    >>> Optimiser(1e-3, "adamw", options=options(b2=0.99)).weight_decay
    0.1
    """

    learning_rate: float
    name: str = "adamw"
    weight_decay: float = 0.1
    clip_norm: float = 1.0
    options: Options = ()


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Learning-rate schedule.

    Attributes:
      name: "wsd" (flat, then linear to zero), "cosine" (to a tenth) or "constant".
      warmup_tokens: tokens over which the rate rises from zero, whatever the budget.
      decay_fraction: share of the run that decays; of "wsd" alone.

    >>> Schedule(warmup_tokens=20_000)
    Schedule(name='wsd', warmup_tokens=20000, decay_fraction=0.2)
    """

    name: str = "wsd"
    warmup_tokens: int = 0
    decay_fraction: float = 0.2


def _shares(mixture: Mixture) -> dict[str, float]:
    """The share of each corpus, by its key."""
    total = sum(part.weight for part in mixture)
    return {part.key: part.weight / total for part in mixture}


# The dtype of each of a run's values, so that a program can be compiled without a run.
VALUES: dict[str, type[np.generic]] = {
    "learning_rate": np.float32,
    "weight_decay": np.float32,
    "clip_norm": np.float32,
    "warmup": np.float32,
    "decay": np.float32,
    "steps": np.int32,
    "init_seed": np.uint32,
    "data_seed": np.uint32,
}


@dataclasses.dataclass(frozen=True)
class Program:
    """The static part of a Run: runs with equal programs share one compiled step.

    pictures: the corpus of a run that reads pictures, whose size is static; else "".
    """

    model: Model
    objective: str
    optimiser: str
    optimiser_options: Options
    schedule: str
    batch: int
    length: int
    tokenizer: str
    precision: str
    pictures: str = ""


@dataclasses.dataclass(frozen=True)
class Run:
    """One training run: what it computes, and not where.

    Attributes:
      model, data, optimiser, schedule: see `Model`, `Data`, `Optimiser`, `Schedule`.
      batch: sequences per step.
      length: tokens per sequence; 1 where pictures are read.
      init_seed: keys the initial weights.
      evaluation: the sets that the run is scored on.
      objective: what the loss is; "next_token", or "denoise" of pictures.
      evaluations: evenly spaced scorings during the run, the last one at its end;
        the best of them is recorded beside the final one.
      precision: "auto" (float32 on CPU, bfloat16 compute elsewhere) or a dtype's name.
      probes: positions at which its predictions are kept.
      samples: pictures that it makes and denoises, kept beside its record.
      provisional: the run copies a choice (such as a learning rate) that tuning runs
        have yet to make. It is planned, never trained; not part of the identity.

    >>> from scaling import corpus
    >>> run = Run(
    ...     model=Model("lstm", 24_000),
    ...     data=Data(corpus("kjv"), tokens=100_000, unique_tokens=50_000),
    ...     optimiser=Optimiser(5e-3),
    ...     batch=8,
    ...     length=64,
    ...     evaluation=(EvaluationSet("kjv", corpus("kjv")),),
    ... )
    >>> run.steps, run.tokens, run.unique_tokens  # budgets round to whole steps
    (195, 99840, 50176)
    >>> run.run_id({"kjv": "digest of its text"}) == run.run_id({"kjv": "another"})
    False
    >>> Run.from_json(run.to_json()) == run
    True
    """

    model: Model
    data: Data
    optimiser: Optimiser
    batch: int
    length: int
    evaluation: tuple[EvaluationSet, ...]
    schedule: Schedule = Schedule()
    objective: str = "next_token"
    init_seed: int = 0
    evaluations: int = 1
    precision: str = "auto"
    probes: tuple[Probes, ...] = ()
    samples: tuple[Samples, ...] = ()
    provisional: bool = dataclasses.field(default=False, compare=False)

    # Budgets round to whole steps here and nowhere else.

    @property
    def tokens_per_step(self) -> int:
        return self.batch * self.length

    @property
    def steps(self) -> int:
        return max(1, round(self.data.tokens / self.tokens_per_step))

    @property
    def tokens(self) -> int:
        """Tokens really seen."""
        return self.steps * self.tokens_per_step

    @property
    def decay_step(self) -> np.generic:
        """From which on the rate falls, in the precision in which it is compiled."""
        step = self.steps * (1.0 - self.schedule.decay_fraction)
        return VALUES["decay"](step)

    @property
    def unique_steps(self) -> int:
        """Steps of one epoch."""
        wanted = self.data.unique_tokens
        if wanted is None:
            return self.steps
        return min(self.steps, max(1, round(wanted / self.tokens_per_step)))

    @property
    def unique_tokens(self) -> int:
        """Tokens of the prefix really repeated."""
        return self.unique_steps * self.tokens_per_step

    def probe_marks(self) -> dict[int, list[tuple[Probes, float]]]:
        """By step: the probes at which predictions are kept after it, and the fraction
        of the training that this is of each."""
        return self._marks(self.probes)

    def sample_marks(self) -> dict[int, list[tuple[Samples, float]]]:
        """By step: the samples that are made after it, as `probe_marks`."""
        return self._marks(self.samples)

    def _marks(self, kept: Iterable[Kept]) -> dict[int, list[tuple[Kept, float]]]:
        marks: dict[int, list[tuple[Kept, float]]] = {}
        for entry in kept:
            for fraction in entry.at:
                step = max(1, round(fraction * self.steps))
                marks.setdefault(step, []).append((entry, fraction))
        return marks

    @property
    def own_evaluation(self) -> EvaluationSet | None:
        """The set of held-out text of what the run reads: early stopping goes by it."""
        read = _shares(self.data.corpus)
        sets = (entry for entry in self.evaluation if _shares(entry.parts) == read)
        return next(sets, None)

    @property
    def of_pictures(self) -> bool:
        """Whether it reads pictures: `corpora.check_kind` sees that they have length 1,
        and no text has."""
        return self.length == 1

    @property
    def unit(self) -> str:
        """What its budgets count."""
        return "pictures" if self.of_pictures else "tokens"

    def corpora(self) -> tuple[Part, ...]:
        """Every corpus the run touches: trained, scored or probed on, each once."""
        parts = {part.key: part for part in self.data.corpus}
        held_out = [*(entry.parts for entry in self.evaluation)]
        held_out += [entry.parts for entry in self.probes]
        held_out += [entry.parts for entry in self.samples]
        for mixture in held_out:
            parts |= {part.key: part for part in mixture}
        return tuple(parts[key] for key in sorted(parts))

    def program(self) -> Program:
        """The static part: what is compiled."""
        return Program(
            model=self.model,
            objective=self.objective,
            optimiser=self.optimiser.name,
            optimiser_options=self.optimiser.options,
            schedule=self.schedule.name,
            batch=self.batch,
            length=self.length,
            tokenizer=self.data.tokenizer,
            precision=self.precision,
            pictures=label(self.data.corpus) if self.of_pictures else "",
        )

    def values(self) -> dict[str, np.generic]:
        """The dynamic part, scalars: what the compiled step reads as arrays.

        `warmup`, `decay` and `steps` are in steps: the rate rises until `warmup`,
        falls from `decay` on, and the run ends at `steps`.
        """
        values = {
            "learning_rate": self.optimiser.learning_rate,
            "weight_decay": self.optimiser.weight_decay,
            "clip_norm": self.optimiser.clip_norm,
            "warmup": self.schedule.warmup_tokens / self.tokens_per_step,
            "decay": self.decay_step,
            "steps": self.steps,
            "init_seed": self.init_seed,
            "data_seed": self.data.seed,
        }
        return {name: VALUES[name](value) for name, value in values.items()}

    def run_id(self, digests: Mapping[str, str]) -> str:
        """Identity of what is computed: 16 hexadecimal digits.

        Args:
          digests: content digest by corpus key (`Part.key`), for `corpora()`.
        """
        content = {part.key: digests[part.key] for part in self.corpora()}
        body = {"run": canonical(self), "corpora": content}
        text = json.dumps(body, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def to_json(self) -> dict[str, Any]:
        """Every field, defaults too, nested, ready for `json.dumps`."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Run:
        """The inverse of `to_json`."""
        return built(cls, body)

    def flat(self) -> dict[str, Any]:
        """Every field with dotted names, as records keep it."""
        body = self.to_json()
        body.pop("provisional")
        return flat(body)
