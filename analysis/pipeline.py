"""From a table of runs to everything a report shows: one pass, one typed result.

`Analysis` is the hand-over between the numbers (this file and what it calls) and their
presentation (analysis/report/): plain frames, no functions, no wording. A frame that
a design cannot give is empty and its reason stands in `notes`.
"""

from __future__ import annotations

import dataclasses
import functools
import multiprocessing as mp
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import field

import numpy as np
import pandas as pd

from analysis import progress
from analysis.design import factors
from analysis.design.cells import (
    cells_frame,
    counts_frame,
    optima_frame,
    repeated,
    settings_frame,
    target_frame,
    tuning_frame,
)
from analysis.fitting.fit import DELTA
from analysis.inference import intervals
from analysis.laws import Array
from analysis.questions import (
    effects_of_target,
    frontier,
    holdout,
    isolines,
    known_floor,
    leading_law,
    matched_cells,
    ranking,
    run_times,
    sensitivity,
    variance,
)
from analysis.questions.effects import Described
from analysis.report import notes
from analysis.report.notes import Note
from analysis.surfaces.surfaces import (
    Surfaces,
    curves_frame,
    determined_frame,
    fit_all,
    fits_frame,
    joint_frame,
    quality_frame,
    residuals,
)
from analysis.tables import exclusions
from analysis.tables.table import Table
from scaling.errors import UserError

__all__ = ["Analysis", "Note", "analyse"]

DRAWS = 300


@dataclasses.dataclass(frozen=True, kw_only=True)
class Analysis:
    """All results for one study or table. Loss in nats/token unless `unit` says else.

    `low` and `high` are 95% intervals everywhere. `target` is the evaluation set that
    losses are read on; effects are per target and never mix targets.

    Frames (columns):
      runs: run_id, family, corpus, size, params (non-embedding), params_total, tokens,
        unique_tokens, epochs, quality (share of the training text that is sound),
        damage (what was done to it), flops, optimiser, learning_rate, batch, seed,
        data_seed, status, trajectory, wall_seconds, used (bool), and a `loss:TARGET`
        column per target. Those that some fit may see, and those of `exclusions`.
      exclusions: run_id, target, reason. Every row of the table that no fit saw, up to
        `listing.LISTED` rows for each reason and target.
      excluded: target ("" for all), reason (without what it quotes), rows (how many it
        left out), listed (how many of them `exclusions` has), unnamed (how many are not
        in `runs` either, each counted under its first reason alone).
      counts: of the rows with a usable loss, one row a target: usable, repeated (they
        repeat data, for which these laws are not), aside (of a largest cell that is set
        aside), other_settings (not at their cell's best setting), fitted (the rest).
      cells: family, corpus, target, params, params_total, tokens, unique_tokens,
        epochs, flops, loss, se, learning_rate, batch, rates (how many were tried),
        settings (how many, batch and all others beside the rate), edge ("", "low",
        "high": where the best rate sits in a grid of two or more), seeds (runs of the
        best setting), run_id.
      settings: a row for each cell and each setting that varied in it: family, corpus,
        target, params, tokens, unique_tokens, setting, value (of the best, as text),
        tried (how many values), edge (as in `cells`; "" for what is no number).
      tuning: family, corpus, target, params, tokens, learning_rate, loss, best (bool).
      fits: family, corpus, target, law, parameter, value, low, high, bound (bool:
        the estimate or an end of its interval lies on a bound that the fit was given),
        params (the size, for a law at one size; else NaN).
      quality: one row a fit: family, corpus, target, law, runs, objective,
        gradient_norm, gap (to the best of all starts), agree (share of starts),
        condition, r2, rmse_log, identified (share of draws that could identify the
        law), flag (doubts about it, or ""), params as in `fits`. family and corpus are
        "*" for the joint law.
      curves: family, corpus, target, params, tokens, loss, low, high: the fitted law on
        a fine grid of tokens for each size, for drawing; law says which one it is.
      residuals: family, corpus, target, params, tokens, observed, predicted, residual
        (log observed - log predicted), law.
      truth: fitted floors beside the truth, where a target's is known: family ("*" for
        all), corpus, target, law, length (of the windows), floor (the law's E), low,
        high, bound, truth (loss of the true chances on the target), se (of it as an
        estimate of entropy), entropy, entropy_se (0: exact), lowest (measured loss),
        own (bool: trained on what the target is made of), interval ("below", "above",
        "holds it": where low to high lies about the truth).
      joint: target, law, parameter, kind ("shared", "family", "corpus"), level, value,
        low, high, bound (as in `fits`), reference (bool).
      equivalents: data-equivalents M_D. kind ("architecture", "corpus", and "optimiser"
        or "quality" where they vary; see analysis/factors.py), source, to,
        held (the level of the other factor), target, params, tokens, factor, low, high,
        p_infinite (share of draws in which no amount of data does it), method
        ("preferred": by a law that widens the joint one, where the fitted runs prefer
        it by more than 4 AICc; see `models`; "joint", "family", "paired": NaN where
        nothing was measured that far), log_ratio (ln loss of `to` - ln loss of source;
        "paired" alone), fitted (bool: every family and corpus has fitted runs at least
        as large, so that the row is no extrapolation; it is so over all points). The
        first of these methods that there is leads, here and in `decisions`. params
        and tokens are NaN in the row over all points, held "*" in the row over all held
        levels too. Each swap stands in one direction, that in which it helps overall by
        the first. flag:
        "no difference shown", "infinite in ... of draws", "varies with ..." (a main
        effect that depends on scale or on what is held: read it per cell only).
      multipliers: the same swaps in other currencies. kind, source, to, held, target,
        currency ("params": at the same N and D; "compute": along the compute-optimal
        path of both, at `compute` FLOPs), params, tokens, compute, factor, low, high,
        p_infinite.
      crossovers: kind, source, to, held, target, compute (FLOPs from which `to` is the
        better; 0 where it always is, infinite where it never is), low, high, p_none
        (share of draws without a crossing in range_low to range_high).
      interactions: kind, source, to, held ("*" where held levels are compared), target,
        by ("held", "params", "tokens"), first, second (the levels compared), quantity
        ("ln M_D", "log loss ratio"), difference (at second less at first), low, high,
        differs (bool), method ("family", "paired").
      agreement: kind, source, to, held, target, cells, measured (mean log loss ratio
        over matched cells), low, high, modelled (by the first method), model_low,
        model_high, agrees (bool).
      measured: each swap over its matched cells, whatever is held, without a law: kind,
        source, to, target, cells, log_ratio (mean log loss of `to` less that of
        source), low, high, params_low, params_high, tokens_low, tokens_high (of the
        cells).
      costs: kind, source, to, target, cells, flops_ratio (of `to` over source on
        matched cells), flops_low, flops_high, wall_ratio, wall_low, wall_high, factor,
        low, high, p_infinite (the overall M_D beside it).
      standings: each family at the largest cell that all share. family, corpus, target,
        params, tokens, flops, learning_rate, edge, seeds, loss (as in `cells`), rank,
        against (the family of rank 1), above (that one's measured loss), above_low,
        above_high (by seed noise and documents), factor, low, high, p_infinite (the
        data it needs for the loss of that one, over its own, by the law of all that
        leads), fit_params, fit_tokens (where that is read: the largest point to which
        no law is extrapolated).
      decisions: family, corpus, target, compute, loss, low, high (compute-optimal),
        rank, p_best (share of draws in which it is the best family on the corpus),
        regret (mean nats above the best), small_rank (in the smallest cell that all
        share, at small_params and small_tokens), method.
      doubling: family, corpus, target, params, tokens, gain (nats saved by doubling the
        data), low, high, fitted (as above).
      ratios: target, params, tokens, architecture ("a -> b"), corpus ("d -> e"),
        lambda (ln M_D architecture / ln M_D corpus, of draws in which the latter is
        finite), low, high, p_architecture (share of draws with |architecture| >
        |corpus|), p_architecture_infinite, p_corpus_infinite, doublings (of the data
        that the architecture is worth), doublings_low, doublings_high, p_doubling
        (share of draws in which the architecture is worth more than one), fitted (as
        above), law (of `models`, that it is by).
      variance: target, factor, share, low, high, box (the range of N and D meant).
      shares: of the variance of the measured losses. target, factor ("architecture",
        "architecture x corpus", ..., "unexplained"), share, low, high, method ("type
        II, omega squared" or "Shapley R2"), cells, box.
      nested: is a parameter shared? target, parameter, across ("families", "corpora",
        "cells"), held, freed (names of models), statistic (likelihood ratio), threshold
        (its 95% quantile where the parameter is shared), p, draws, delta_aicc,
        delta_bic (freed less held), held_error, freed_error (as holdout_error), differs
        (bool).
      models: target, model, log_likelihood, scale, parameters, runs, trajectories,
        aicc, delta_aicc, weight, bic, holdout_error (RMS log error on the largest scale
        left out), refused (why, where it was), preferred (bool: effects lead with it).
      model_multipliers: the overall rows of `equivalents` under every model within 4
        AICc of the best; model, delta_aicc, weight, draws.
      verdicts: the overall effects under other choices. target, question
        ("architecture", "corpus", "architecture or corpus"), source, to, setting ("as
        reported", ...), draws, value (M_D or lambda), low, high, p (p_infinite or
        p_architecture), verdict ("gain", "loss", "architecture", "corpus",
        "undetermined"), moves (bool: another verdict than reported).
      noise: family, corpus, target, params, tokens, seeds, sd_log.
      fitness: target, lack_of_fit (sd of log residuals), seed_noise (pooled sd), ratio,
        law (the one that leads), runs (that it saw), box (their range of N and D).
      profiles: profile likelihoods of the leading law's exponents and multipliers of
        data. target, law, parameter, value, drop (twice the log likelihood below the
        best, per trajectory), threshold, rule ("parametric bootstrap" or "F": where
        the threshold is from), best (the fit's value), low and high (where the drop
        passes the threshold; NaN where it never does). See profiles.profile.
      influence: each run left out of the leading law's fit. target, law, run_id,
        family, corpus, params, tokens, score (robust standard deviations from the
        curve), flagged (bool: an outlier), objective (by how much it falls), parameter
        (the one that moves furthest), change (of it), spreads (that in bootstrap
        standard deviations).
      sweeps: the leading law at other deltas. target, law, delta, parameter, value, own
        (bool: the delta of the analysis).
      seed_checks: target, law, sd_density (of the leading law's fitted density),
        sd_seeds, freedom, ratio, low, high. See likelihood.seed_check.
      optima: compute-optimal sizes without a law. family, corpus, target, law (that
        they stand beside), method ("parabola", "interpolation", "envelope"), compute,
        params (NaN where the budget shows none), params_low, params_high, tokens, loss,
        sizes (how many the budget has), warning. See analysis/optima.py.
      powers: family, corpus, target, law, method, of ("params", "tokens"), exponent (of
        compute), low, high, r2, budgets.
      holdout: family, corpus, target, params, tokens, observed, predicted, low, high,
        inside (bool), law, curve_low, curve_high. The largest cells, set aside before
        fitting. low and high are of a new run, curve_low and curve_high of the curve
        alone; the law "mixture" stands for all of `extrapolation`.
      rate_optima: one row a cell of two rates or more: family, corpus, target, params,
        tokens, rates, learning_rate and loss (at the optimum of a quadratic in the log
        rate, or at the best tried rate under a warning), tried_loss, warning.
      extrapolation: family, corpus, target, law, error (RMS log error on the largest
        of the runs that were fitted, of the law fitted to the rest), weight (in the
        mixture), widening (of the mixture's interval; see holdout.widening).
      frontier: family, corpus, target, compute, and of the compute-optimal split there
        params, tokens and loss, each with _low and _high; no row where the split lies
        more than a factor 10 beyond the sizes that were run.
      isolosses: family, corpus, target, loss, params, tokens: lines of equal loss by
        the fit.
      isoflops: family, corpus, target, compute, params, tokens, loss, low, high: the
        fit along lines of equal compute.
      estimates: family, target (machine), how, runs, ratio (measured over estimated
        seconds, median), low, high (least and greatest).
      paths: run_id, step, tokens, loss: training-loss curves, thinned.
    """

    title: str
    unit: str
    targets: tuple[str, ...]
    runs: pd.DataFrame
    exclusions: pd.DataFrame
    excluded: pd.DataFrame = field(default_factory=lambda: _join((), "excluded"))
    counts: pd.DataFrame = field(default_factory=lambda: _join((), "counts"))
    cells: pd.DataFrame
    settings: pd.DataFrame = field(default_factory=lambda: _join((), "settings"))
    tuning: pd.DataFrame
    fits: pd.DataFrame
    quality: pd.DataFrame
    curves: pd.DataFrame
    residuals: pd.DataFrame
    joint: pd.DataFrame
    equivalents: pd.DataFrame
    multipliers: pd.DataFrame = field(default_factory=lambda: _join((), "multipliers"))
    crossovers: pd.DataFrame = field(default_factory=lambda: _join((), "crossovers"))
    interactions: pd.DataFrame = field(
        default_factory=lambda: _join((), "interactions")
    )
    agreement: pd.DataFrame = field(default_factory=lambda: _join((), "agreement"))
    measured: pd.DataFrame = field(default_factory=lambda: _join((), "measured"))
    costs: pd.DataFrame = field(default_factory=lambda: _join((), "costs"))
    standings: pd.DataFrame = field(default_factory=lambda: _join((), "standings"))
    decisions: pd.DataFrame = field(default_factory=lambda: _join((), "decisions"))
    doubling: pd.DataFrame
    ratios: pd.DataFrame
    variance: pd.DataFrame
    truth: pd.DataFrame = field(default_factory=lambda: _join((), "truth"))
    shares: pd.DataFrame = field(default_factory=lambda: _join((), "shares"))
    nested: pd.DataFrame = field(default_factory=lambda: _join((), "nested"))
    models: pd.DataFrame = field(default_factory=lambda: _join((), "models"))
    model_multipliers: pd.DataFrame = field(
        default_factory=lambda: _join((), "model_multipliers")
    )
    verdicts: pd.DataFrame = field(default_factory=lambda: _join((), "verdicts"))
    rate_optima: pd.DataFrame = field(default_factory=lambda: _join((), "rate_optima"))
    extrapolation: pd.DataFrame = field(
        default_factory=lambda: _join((), "extrapolation")
    )
    noise: pd.DataFrame
    fitness: pd.DataFrame
    profiles: pd.DataFrame = field(default_factory=lambda: _join((), "profiles"))
    influence: pd.DataFrame = field(default_factory=lambda: _join((), "influence"))
    sweeps: pd.DataFrame = field(default_factory=lambda: _join((), "sweeps"))
    seed_checks: pd.DataFrame = field(default_factory=lambda: _join((), "seed_checks"))
    optima: pd.DataFrame = field(default_factory=lambda: _join((), "optima"))
    powers: pd.DataFrame = field(default_factory=lambda: _join((), "powers"))
    holdout: pd.DataFrame
    frontier: pd.DataFrame = field(default_factory=lambda: _join((), "frontier"))
    isolosses: pd.DataFrame = field(default_factory=lambda: _join((), "isolosses"))
    isoflops: pd.DataFrame = field(default_factory=lambda: _join((), "isoflops"))
    estimates: pd.DataFrame = field(default_factory=lambda: _join((), "estimates"))
    paths: pd.DataFrame
    notes: tuple[Note, ...]


# Columns of the frames, so that an empty one still has them.
FRAMES = {
    "exclusions": "run_id target reason",
    "excluded": "target reason rows listed unnamed",
    "estimates": run_times.COLUMNS,
    "counts": "target usable repeated aside other_settings fitted",
    "cells": "family corpus target params params_total tokens unique_tokens epochs "
    "flops loss se learning_rate batch rates settings edge seeds run_id",
    "settings": "family corpus target params tokens unique_tokens setting value tried "
    "edge",
    "tuning": "family corpus target params tokens learning_rate loss best",
    "fits": "family corpus target law parameter value low high bound params",
    "quality": "family corpus target law runs objective gradient_norm gap agree "
    "condition r2 rmse_log identified flag params",
    "curves": "family corpus target params tokens loss low high law",
    "residuals": "family corpus target params tokens observed predicted residual law",
    "joint": "target law parameter kind level value low high bound reference",
    "equivalents": "kind source to held target params tokens factor low high "
    "p_infinite method log_ratio flag fitted",
    "multipliers": "kind source to held target currency params tokens compute factor "
    "low high p_infinite",
    "crossovers": "kind source to held target compute low high p_none range_low "
    "range_high",
    "interactions": "kind source to held target by first second quantity difference "
    "low high differs method",
    "agreement": "kind source to held target cells measured low high modelled "
    "model_low model_high agrees",
    "measured": "kind source to target cells log_ratio low high params_low params_high "
    "tokens_low tokens_high",
    "costs": "kind source to target cells flops_ratio flops_low flops_high wall_ratio "
    "wall_low wall_high factor low high p_infinite",
    "standings": ranking.COLUMNS,
    "decisions": "family corpus target compute loss low high rank p_best regret "
    "small_rank small_params small_tokens method",
    "doubling": "family corpus target params tokens gain low high fitted",
    "ratios": "target params tokens architecture corpus lambda low high p_architecture "
    "p_architecture_infinite p_corpus_infinite doublings doublings_low doublings_high "
    "p_doubling fitted law",
    "variance": "target factor share low high box",
    "truth": "family corpus target law length floor low high bound truth se entropy "
    "entropy_se lowest own interval",
    "shares": "target factor share low high method cells box",
    "nested": "target parameter across held freed statistic threshold p draws "
    "delta_aicc delta_bic held_error freed_error differs",
    "models": "target model log_likelihood scale parameters runs trajectories aicc "
    "delta_aicc weight bic holdout_error refused preferred",
    "model_multipliers": "target model delta_aicc weight draws kind source to held "
    "factor low high p_infinite",
    "verdicts": "target question source to setting draws value low high p verdict "
    "moves",
    "noise": "family corpus target params tokens seeds sd_log",
    "fitness": "target lack_of_fit seed_noise ratio law runs box",
    "profiles": "target law parameter value drop threshold rule best low high",
    "influence": "target law run_id family corpus params tokens score flagged "
    "objective parameter change spreads",
    "sweeps": "target law delta parameter value own",
    "seed_checks": "target law sd_density sd_seeds freedom ratio low high",
    "optima": "family corpus target law method compute params params_low params_high "
    "tokens loss sizes warning",
    "powers": "family corpus target law method of exponent low high r2 budgets",
    "holdout": "family corpus target params tokens observed predicted low high "
    "inside law curve_low curve_high",
    "rate_optima": "family corpus target params tokens rates learning_rate loss "
    "tried_loss warning",
    "extrapolation": "family corpus target law error weight widening",
    "frontier": "family corpus target compute params params_low params_high tokens "
    "tokens_low tokens_high loss loss_low loss_high",
    "isolosses": "family corpus target loss params tokens",
    "isoflops": "family corpus target compute params tokens loss low high",
}


# One target's frames by name, and its notes.
Part = tuple[dict[str, list[pd.DataFrame]], list[Note]]


def analyse(
    table: Table,
    draws: int = DRAWS,
    seed: int = 0,
    delta: float = DELTA,
    hold_out: bool = True,
    bootstrap: str = "wild",
    processes: int = 1,
    shown: bool = False,
) -> Analysis:
    """Fits every law to every target and says what architecture and data did.

    Args:
      draws: bootstrap draws behind every interval.
      seed: keys the draws and the random starts; the same seed gives the same result.
      delta: Huber's threshold in log loss; infinity is least squares.
      hold_out: set the largest cell of each family and corpus aside before fitting.
      bootstrap: "wild" or "pairs"; see analysis/intervals.py.
      processes: targets analysed at a time, each in a process of its own; the result
        is the same.
      shown: say on standard error which stage the work is at.

    Raises:
      UserError: draws, delta or bootstrap out of range.
    """
    if draws < 40:
        raise UserError("draws", draws, "give at least 40; a 95% interval needs them")
    if not delta > 0:
        raise UserError("delta", delta, "give a number above zero, or inf")
    frames: dict[str, list[pd.DataFrame]] = {name: [] for name in FRAMES}
    frames["exclusions"].append(table.exclusions)
    frames["estimates"].append(table.estimates)
    found: list[Note] = []
    every = table.runs.run_id
    table, described = factors.fold(exclusions.brief(table))
    one_target = functools.partial(
        _target, table, described, draws, seed, delta, hold_out, bootstrap, shown
    )
    for parts, said in _each(one_target, table.targets, processes):
        found += said
        for name, part in parts.items():
            frames[name] += part
    gone = every[~exclusions.among(every, table.runs.run_id)]
    excluded = pd.concat(frames["exclusions"], ignore_index=True)
    frames["excluded"] = [exclusions.counted(excluded, gone)]
    frames["exclusions"] = [exclusions.listed(excluded)]
    made = {name: _join(parts, name) for name, parts in frames.items()}
    beside = known_floor.frame(
        table.truth, table.parts, made["cells"], made["fits"], made["joint"]
    )
    made["truth"] = _join([beside], "truth")
    made["verdicts"] = sensitivity.across_targets(made["verdicts"], table.targets)
    made["equivalents"] = effects_of_target.flagged(
        made["equivalents"], made["interactions"]
    )
    found = [
        *notes.of_table(table, excluded),
        *notes.of_tuning(made["cells"], made["settings"]),
        *notes.of_optima(made["rate_optima"]),
        *found,
        *notes.of_equivalents(made["equivalents"]),
        *notes.of_agreement(made["agreement"]),
        *notes.of_interactions(made["interactions"]),
        *notes.of_nested(made["nested"], made["models"]),
        *notes.of_verdicts(made["verdicts"]),
        *notes.of_ratios(made["ratios"]),
        *notes.of_noise(made["fitness"]),
        *notes.of_holdout(made["holdout"], hold_out),
    ]
    return Analysis(
        title=table.title,
        unit=table.unit,
        targets=table.targets,
        runs=_runs(table, excluded),
        paths=table.paths,
        notes=tuple(dict.fromkeys(found)),
        **made,
    )


def _join(parts: Sequence[pd.DataFrame], name: str) -> pd.DataFrame:
    names = FRAMES[name].split()
    filled = [part for part in parts if not part.empty]
    if not filled:
        return pd.DataFrame(columns=names, dtype=float)
    frame = pd.concat(filled, ignore_index=True).reindex(columns=names)
    return frame.apply(_typed)


def _typed(column: pd.Series) -> pd.Series:
    """A column of numbers and None, where a fit was refused, as float64 with NaN."""
    if column.dtype != object or column.map(type).isin((str, bool, np.bool_)).any():
        return column
    return column.astype(float)


def _runs(table: Table, exclusions: pd.DataFrame) -> pd.DataFrame:
    """The table's runs, with which of them some target's fits saw."""
    seen = table.readings[["run_id", "target"]]
    both = seen.merge(exclusions[["run_id", "target"]], how="left", indicator=True)
    used = both.run_id[both["_merge"] == "left_only"]
    return table.runs.assign(used=table.runs.run_id.isin(set(used)))


def _each(
    one_target: Callable[[str], Part], targets: Sequence[str], processes: int
) -> Iterator[Part]:
    """The parts of all targets, in order."""
    # A fork shares the table as it is; where there is none, one process does it all.
    if min(processes, len(targets)) < 2 or "fork" not in mp.get_all_start_methods():
        yield from map(one_target, targets)
        return
    context = mp.get_context("fork")
    with ProcessPoolExecutor(min(processes, len(targets)), context) as pool:
        yield from pool.map(one_target, targets)


def _target(
    table: Table,
    described: Described,
    draws: int,
    seed: int,
    delta: float,
    hold_out: bool,
    bootstrap: str,
    shown: bool,
    target: str,
) -> Part:
    """One target's part of every frame, and its notes."""
    losses = int((table.readings.target == target).sum())
    title = f"{target} ({losses} losses, {draws} draws)"
    with progress.stages(title, len(STAGES), shown) as begin:
        return _part(
            table, described, draws, seed, delta, hold_out, bootstrap, target, begin
        )


# What the work on a target goes through, in order.
STAGES = (
    "cells and settings",
    "laws, with every draw",
    "nested laws, to choose the one that leads",
    "checks of the leading law",
    "laws that predict the largest cells",
    "effects, with every draw",
)


def _part(
    table: Table,
    described: Described,
    draws: int,
    seed: int,
    delta: float,
    hold_out: bool,
    bootstrap: str,
    target: str,
    begin: progress.Begin,
) -> Part:
    stage = iter(STAGES)
    begin(next(stage))
    frames: dict[str, list[pd.DataFrame]] = {name: [] for name in FRAMES}
    found: list[Note] = []
    frame = target_frame(table, target)
    if frame.empty:
        text = f"No run has a usable loss on target {target}."
        found.append(Note("undetermined", "table", text))
        return frames, found
    again = repeated(frame)
    aside = ~again & (_aside(frame, ~again) if hold_out else False)
    cells = cells_frame(intervals.sample(frame), target)
    frames["cells"].append(cells)
    frames["settings"].append(settings_frame(intervals.sample(frame), target))
    frames["tuning"].append(tuning_frame(intervals.sample(frame), target))
    frames["rate_optima"].append(optima_frame(intervals.sample(frame), target))
    if not (~again & ~aside).any():
        text = (
            f"Every run on target {target} repeats its data, and the laws here are of "
            "one epoch."
        )
        found.append(Note("refused", "fits", text))
        nothing = frame.run_id[:0]
        frames["counts"].append(counts_frame(frame, nothing, again, aside, target))
        frames["exclusions"].append(_left_out(frame, again, aside, frame[:0], target))
        return frames, found
    data = intervals.sample(frame[~again & ~aside])
    drawn = intervals.draw(data, draws, seed, bootstrap)
    begin(next(stage))
    surfaces = fit_all(drawn, delta, seed)
    best = data.frame.assign(cell=data.cell)[drawn.chosen > 0]
    counts = counts_frame(frame, best.run_id, again, aside, target)
    frames["counts"].append(counts)
    frames["exclusions"].append(_left_out(frame, again, aside, best, target))
    frames["fits"].append(fits_frame(surfaces, target))
    begin(next(stage))
    leading = effects_of_target.lead(surfaces, delta, seed)
    chosen = leading.surfaces
    frames["quality"].append(quality_frame(surfaces, target))
    if not leading.plain:
        frames["quality"].append(determined_frame([chosen.joint], target))
    frames["joint"].append(joint_frame(surfaces, target))
    frames["curves"].append(curves_frame(surfaces, target))
    frames["residuals"].append(_residuals(surfaces, leading, target))
    rate = frontier.flop_rate(frame[~again])
    drawing = isolines.frames(chosen, rate, target)
    begin(next(stage))
    doubts = leading_law.frames(chosen, delta, seed, rate, target)
    for name, part in (drawing | doubts).items():
        frames[name].append(part)
    found += notes.of_fits(surfaces, target)
    found += notes.of_design(surfaces, target)
    found += notes.of_compute(surfaces.data.frame, target)
    noise = _noise(frame[~again], target)
    frames["noise"].append(noise)
    frames["fitness"].append(_fitness(chosen, noise, target))
    held = cells[cells.run_id.isin(frame.run_id[aside])]
    begin(next(stage))
    predicted, used = holdout.predict(surfaces, held, target, delta, seed)
    frames["holdout"].append(predicted)
    frames["extrapolation"].append(used)
    fresh = frame[~again]
    asked = effects_of_target.Asked(
        target=target,
        surfaces=surfaces,
        frame=fresh,
        cells=_matched_cells(fresh, target),
        runs=table.runs,
        noise=matched_cells.pooled(noise),
        document_se=lambda one, two: document_se(table, target, one, two),
        described=described,
        delta=delta,
        seed=seed,
    )
    begin(next(stage))
    for name, part in effects_of_target.answers(asked, leading).items():
        frames[name].append(part)
    return frames, found


def _aside(frame: pd.DataFrame, fresh: Array) -> Array:
    out = np.zeros(len(frame), bool)
    out[fresh] = holdout.largest(frame[fresh])
    return out


def _left_out(
    frame: pd.DataFrame, again: Array, aside: Array, best: pd.DataFrame, target: str
) -> pd.DataFrame:
    """Usable runs that the point fits did not see, and why."""
    epochs = frame.tokens / frame.unique_tokens
    repeats = "repeats its data: " + epochs.map("{:.3g} epochs".format)
    reason = np.where(again, repeats + ", and the laws here are of one epoch", "")
    reason = np.where(aside, "largest cell: set aside to be predicted", reason)
    slower = ~again & ~aside & ~frame.run_id.isin(best.run_id)
    reason = np.where(slower, "not at its cell's best setting", reason)
    out = pd.DataFrame({"run_id": frame.run_id, "target": target, "reason": reason})
    return out[reason != ""]


def _residuals(
    surfaces: Surfaces, leading: effects_of_target.Leading, target: str
) -> pd.DataFrame:
    fitted = [surfaces.joint, *surfaces.single.values()]
    if not leading.plain:
        fitted = [leading.surfaces.joint, *fitted]
    parts = [residuals(one, surfaces.draws) for one in fitted]
    return pd.concat(parts, ignore_index=True).assign(target=target)


def _noise(frame: pd.DataFrame, target: str) -> pd.DataFrame:
    """Seeds of every one-epoch cell, those set aside included."""
    data = intervals.sample(frame)
    weights = intervals.select(data, np.ones((1, data.loss.size)))[0]
    best = data.frame.assign(cell=data.cell)[weights > 0]
    return matched_cells.noise_frame(best, target)


def _fitness(surfaces: Surfaces, noise: pd.DataFrame, target: str) -> pd.DataFrame:
    left = residuals(surfaces.joint, surfaces.draws)
    if left.empty:
        return left
    freedom = max(1, len(left) - len(surfaces.joint.law.parameters))
    spread = float(np.sqrt((left.residual**2).sum() / freedom))
    seeds = matched_cells.pooled(noise).sd
    row: dict[str, object] = {
        "target": target,
        "lack_of_fit": spread,
        "seed_noise": seeds,
    }
    row |= {"law": surfaces.joint.law.name, "runs": len(left)}
    row |= {"box": variance.box_text(variance.box_of(left))}
    return pd.DataFrame([row | {"ratio": spread / seeds if seeds > 0 else np.nan}])


def _matched_cells(frame: pd.DataFrame, target: str) -> pd.DataFrame:
    """One-epoch cells, one for each family, corpus, size level and budget."""
    cells = cells_frame(intervals.sample(frame), target).sort_values("loss")
    return cells.drop_duplicates(["family", "corpus", "level", "budget"])


def document_se(table: Table, target: str, one: str, two: str) -> float:
    """Standard error, in nats per token, of the difference of two runs' losses.

    Documents are paired and are the clusters (ratio estimator, part by part); 0 where
    the table keeps no documents of the two.
    """
    variance = 0.0
    for key, weight in table.parts.get(target, {}).items():
        first = table.documents.get(one, {}).get(key)
        second = table.documents.get(two, {}).get(key)
        if first is None or second is None or first[0].size != second[0].size:
            return 0.0
        (a, tokens), (b, _) = first, second
        count, difference = tokens.size, a - b
        if count < 2:
            return 0.0
        left = difference - difference.sum() / tokens.sum() * tokens
        part = (left**2).sum() / tokens.sum() ** 2 * count / (count - 1)
        variance += weight**2 * part
    return float(np.sqrt(variance))
