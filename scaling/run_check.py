"""Refuses runs whose values no code could train, before anything is prepared."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scaling.errors import UserError
from scaling.run import Probes, Run, Samples, label
from scaling.run_types import check_types


def check(run: Run) -> Run:
    """The run itself, where all of its values can be trained.

    Raises:
      UserError: names the field, the value and what would be right.
    """
    check_types(run)
    _check_numbers(run)
    _check_choices(run)
    _check_budget(run)
    _check_evaluation(run)
    _check_probes(run.probes)
    _check_samples(run.samples)
    if any(entry.best for entry in run.probes) and run.own_evaluation is None:
        raise UserError(
            "probes.best",
            True,
            "the best step is the best on held-out text of what the run reads; name an "
            f"evaluation set of {label(run.data.corpus)}",
        )
    return run


def _check_numbers(run: Run) -> None:
    positive = {
        "model.size": run.model.size,
        "data.tokens": run.data.tokens,
        "batch": run.batch,
        "length": run.length,
        "evaluations": run.evaluations,
        "optimiser.learning_rate": run.optimiser.learning_rate,
        "optimiser.clip_norm": run.optimiser.clip_norm,
    }
    if run.data.unique_tokens is not None:
        positive["data.unique_tokens"] = run.data.unique_tokens
    for entry in run.evaluation:
        positive["evaluation.tokens"] = entry.tokens
    for field, value in positive.items():
        if not (np.isfinite(value) and value > 0):
            raise UserError(field, value, "give a number above zero")
    least = {
        "schedule.warmup_tokens": run.schedule.warmup_tokens,
        "optimiser.weight_decay": run.optimiser.weight_decay,
    }
    for field, value in least.items():
        if not (np.isfinite(value) and value >= 0):
            raise UserError(field, value, "give 0 or more")
    most = int(np.iinfo(np.uint32).max)  # as VALUES keeps them
    for field, value in (("init_seed", run.init_seed), ("data.seed", run.data.seed)):
        if not 0 <= value <= most:
            raise UserError(field, value, f"give a whole number from 0 to {most}")
    if not 0.0 <= run.schedule.decay_fraction <= 1.0:
        raise UserError(
            "schedule.decay_fraction",
            run.schedule.decay_fraction,
            "give the share of the run that decays, between 0 and 1",
        )


def _check_choices(run: Run) -> None:
    if not 0.0 <= run.data.caption_dropout < 1.0:
        raise UserError(
            "data.caption_dropout",
            run.data.caption_dropout,
            "give the share of captions that are left out: 0 or more, below 1",
        )
    if run.data.half not in (0, 1, 2):
        raise UserError("data.half", run.data.half, "give 1 or 2, or 0 for all")
    if run.precision not in ("auto", "float32", "bfloat16"):
        raise UserError("precision", run.precision, "auto, float32 or bfloat16")
    if run.model.size_by not in ("params", "active", "flops"):
        raise UserError("model.size_by", run.model.size_by, "params, active or flops")


def _check_budget(run: Run) -> None:
    """A run makes at least a step, and outlasts its warm-up."""
    if run.data.tokens < run.tokens_per_step:
        raise UserError(
            "data.tokens",
            run.data.tokens,
            f"one step reads batch x length = {run.tokens_per_step} tokens; "
            "give at least that",
        )
    if run.schedule.warmup_tokens >= run.tokens:
        raise UserError(
            "schedule.warmup_tokens",
            run.schedule.warmup_tokens,
            f"a run of {run.tokens} tokens ends before it reaches its rate; give less",
        )
    if not run.data.corpus or any(part.weight <= 0 for part in run.data.corpus):
        raise UserError("data.corpus", label(run.data.corpus), "weights above zero")


def _check_evaluation(run: Run) -> None:
    if not run.evaluation:
        raise UserError("evaluation", (), "name at least one evaluation set")
    names = [entry.name for entry in run.evaluation]
    if len(set(names)) < len(names):
        expected = "give each evaluation set its own name"
        raise UserError("evaluation.name", names, expected)


def _check_names(field: str, entries: Sequence[Probes | Samples], apart: str) -> None:
    """Refuses names that occur twice, or that no artifact's array can have."""
    names = [entry.name for entry in entries]
    if len(set(names)) < len(names):
        raise UserError(f"{field}.name", names, apart)
    for name in names:
        if not name or ":" in name:
            raise UserError(f"{field}.name", name, "give a name without a colon")


def _check_probes(probes: tuple[Probes, ...]) -> None:
    _check_names("probes", probes, "give each probe set its own name")
    for entry in probes:
        if len(entry.parts) != 1:
            raise UserError(
                "probes.parts",
                label(entry.parts),
                f"probes lie in one corpus; give corpus(...), and {entry.name!r} once "
                "more for each other corpus",
            )
        for field in ("positions", "per_document"):
            if getattr(entry, field) < 1:
                expected = "give a whole number above zero"
                raise UserError(f"probes.{field}", getattr(entry, field), expected)
        _check_fractions("probes.at", entry.at)


def _check_samples(samples: tuple[Samples, ...]) -> None:
    _check_names("samples", samples, "give each set of samples its own name")
    for entry in samples:
        if len(entry.parts) != 1:
            expected = "samples are of one corpus; give corpus(...)"
            raise UserError("samples.parts", label(entry.parts), expected)
        if entry.count < 1:
            raise UserError("samples.count", entry.count, "give 1 or more")
        if not entry.sigmas or not all(0.0 < s <= 80.0 for s in entry.sigmas):
            expected = "give noise levels above 0 and up to 80"
            raise UserError("samples.sigmas", entry.sigmas, expected)
        if not 0 <= entry.hidden <= entry.count:
            expected = f"give 0 to {entry.count}, of the pictures that it counts"
            raise UserError("samples.hidden", entry.hidden, expected)
        _check_fractions("samples.at", entry.at)


def _check_fractions(field: str, at: tuple[float, ...]) -> None:
    within = all(0.0 < fraction <= 1.0 for fraction in at)
    labels = [f"{fraction:g}" for fraction in at]  # as files call them
    rising = list(at) == sorted(at) and len(set(labels)) == len(labels)
    if not (at and within and rising and at[-1] == 1.0):
        raise UserError(
            field,
            at,
            "give fractions of the training above 0 and up to 1, rising, the last of "
            "them 1, such as (0.25, 0.5, 1.0)",
        )
