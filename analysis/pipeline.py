"""From a table of runs to everything a report shows: one pass, one typed result.

`Analysis` (results.py) is the hand-over between the numbers and their presentation
(analysis/report/): frames and notes. A frame that a design cannot give is empty and its
reason stands in `notes`.
"""

from __future__ import annotations

import functools
import multiprocessing as mp
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pandas as pd

from analysis import progress, schema
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
from analysis.design.settings import APART
from analysis.fitting.fit import DELTA
from analysis.inference import intervals, seeds
from analysis.laws import Array
from analysis.predictions.groups import comparison
from analysis.questions import (
    effects_of_target,
    frontier,
    holdout,
    isolines,
    known_floor,
    leading_law,
    loss_to_loss,
    matched_cells,
    sensitivity,
    variance,
)
from analysis.questions._question import Answer, questions
from analysis.questions.effects import Described
from analysis.report import notes
from analysis.results import Analysis, Note
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

DRAWS = 300


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
      table: from `analysis.load` or `analysis.from_frame`.
      draws: bootstrap draws behind every interval.
      seed: keys the draws and the random starts; the same seed gives the same result.
      delta: Huber's threshold in log loss; infinity is least squares.
      hold_out: set the largest cell of each family and corpus aside before fitting.
      bootstrap: "wild" or "pairs"; see analysis/intervals.py.
      processes: targets analysed at a time, each in a process of its own; the result
        is the same.
      shown: say on standard error which stage the work is at.

    Returns:
      All frames of all questions, and notes on how far to believe them.

    Raises:
      UserError: draws, delta or bootstrap out of range.

    >>> result = analysis.analyse(table, draws=40)  # doctest: +SKIP
    >>> result.targets
    ('loss',)
    """
    intervals.check_draws(draws)
    if not delta > 0:
        raise UserError("delta", delta, "give a number above zero, or inf")
    frames: dict[str, list[pd.DataFrame]] = {name: [] for name in schema.frames()}
    frames["exclusions"].append(table.exclusions)
    frames["estimates"].append(table.estimates)
    found: list[Note] = []
    every = table.runs.run_id
    table, described = factors.fold(exclusions.brief(table))
    one_target = functools.partial(
        _target, table, described, draws, seed, delta, hold_out, bootstrap, shown
    )
    for several, told in _each(one_target, table.targets, processes):
        found += told
        for name, some in several.items():
            frames[name] += some
    for parts, said in _of_predictions(table, described, draws, seed):
        found += said
        for name, part in parts.items():
            frames[name].append(part)
    gone = every[~exclusions.among(every, table.runs.run_id)]
    excluded = pd.concat(frames["exclusions"], ignore_index=True)
    frames["excluded"] = [exclusions.counted(excluded, gone)]
    frames["exclusions"] = [exclusions.listed(excluded)]
    known = schema.frames()
    made = {name: known[name].join(parts) for name, parts in frames.items()}
    beside = known_floor.frame(
        table.truth, table.parts, made["cells"], made["fits"], made["joint"]
    )
    made["truth"] = known["truth"].join([beside])
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
    every_run = _runs(table, excluded)
    made |= {"runs": every_run, "paths": table.paths}
    lines = loss_to_loss.frame(every_run, table.targets, seed)
    made["lines"] = known["lines"].join([lines])
    whole = Analysis(
        title=table.title,
        unit=table.unit,
        targets=table.targets,
        frames=made,
        notes=tuple(dict.fromkeys(found)),
    )
    return _concluded(table, whole)


def _concluded(table: Table, whole: Analysis) -> Analysis:
    """With the frames of the questions that stand on those of all others."""
    known = schema.frames()
    frames: dict[str, pd.DataFrame] = {}
    found: list[Note] = []
    for question in questions():
        if question.concludes is not None:
            parts, said = question.concludes(table, whole)
            frames |= {name: known[name].join([part]) for name, part in parts.items()}
            found += said
    return whole.replace(notes=tuple(dict.fromkeys([*whole.notes, *found])), **frames)


def _of_predictions(
    table: Table, described: Described, draws: int, seed: int
) -> Iterator[Answer]:
    """What the questions that are about predictions answer, at each probe set."""
    for probed in table.predictions:
        asked = comparison(table, described, probed, draws, seed)
        for question in questions():
            if question.compares is not None:
                yield question.compares(asked)


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
    frames: dict[str, list[pd.DataFrame]] = {name: [] for name in schema.frames()}
    found: list[Note] = []
    frame = target_frame(table, target)
    if frame.empty:
        text = f"No run has a usable loss on target {target}."
        found.append(Note("undetermined", "table", text))
        return frames, found
    again = repeated(frame)
    withheld = frame.run_id.isin(_withheld(table)).to_numpy()
    largest = _aside(frame, ~again) if hold_out and not withheld.any() else False
    aside = ~again & (withheld | largest)
    why = "withheld by the study" if withheld.any() else "largest cell"
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
        frames["exclusions"].append(
            _left_out(frame, again, aside, why, frame[:0], target)
        )
        return frames, found
    data = intervals.sample(frame[~again & ~aside])
    drawn = intervals.draw(data, draws, seed, bootstrap)
    begin(next(stage))
    surfaces = fit_all(drawn, delta, seed)
    best = data.frame.assign(cell=data.cell)[drawn.chosen > 0]
    counts = counts_frame(frame, best.run_id, again, aside, target)
    frames["counts"].append(counts)
    frames["exclusions"].append(_left_out(frame, again, aside, why, best, target))
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
    doubts = leading_law.frames(chosen, delta, seed, target)
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
    matched = _matched_cells(fresh, target)
    asked = effects_of_target.Asked(
        target=target,
        surfaces=surfaces,
        leading=leading,
        frame=fresh,
        cells=_one_a_place(matched),
        matched=matched,
        runs=table.runs,
        noise=seeds.of(noise, seed),
        document_se=lambda one, two: document_se(table, target, one, two),
        described=described,
        delta=delta,
        seed=seed,
    )
    begin(next(stage))
    for name, part in effects_of_target.answers(asked).items():
        frames[name].append(part)
    for question in questions():
        if question.compute is not None:
            for name, part in question.compute(asked).items():
                frames[name].append(part)
    return frames, found


def _withheld(table: Table) -> set[str]:
    """Runs of cells that a study withholds from its fits until they are predicted."""
    cells = (cell for promise in table.promises for cell in promise.withheld)
    return {run for _, runs in cells for run in runs}


def _aside(frame: pd.DataFrame, fresh: Array) -> Array:
    out = np.zeros(len(frame), bool)
    out[fresh] = holdout.largest(frame[fresh])
    return out


def _left_out(
    frame: pd.DataFrame,
    again: Array,
    aside: Array,
    why: str,
    best: pd.DataFrame,
    target: str,
) -> pd.DataFrame:
    """Usable runs that the point fits did not see, and why.

    Args:
      why: some of them are set aside.
    """
    epochs = frame.tokens / frame.unique_tokens
    repeats = "repeats its data: " + epochs.map("{:.3g} epochs".format)
    reason = np.where(again, repeats + ", and the laws here are of one epoch", "")
    reason = np.where(aside, f"{why}: set aside to be predicted", reason)
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
    level = seeds.of(noise).sd
    row: dict[str, object] = {
        "target": target,
        "lack_of_fit": spread,
        "seed_noise": level,
    }
    row |= {"law": surfaces.joint.law.name, "runs": len(left)}
    row |= {"box": variance.box_text(variance.box_of(left))}
    return pd.DataFrame([row | {"ratio": spread / level if level > 0 else np.nan}])


def _matched_cells(frame: pd.DataFrame, target: str) -> pd.DataFrame:
    """One-epoch cells, one for each family, corpus, size level, budget and experiment.

    The column `experiment` codes what the table keeps apart, so that no two experiments
    are compared. Where no two families or corpora share one at a place, the best cell
    of each stands there, as of one experiment.
    """
    cells = cells_frame(intervals.sample(frame), target).sort_values("loss")
    cells = cells.assign(experiment=0)
    names = [c for c in frame if str(c).startswith(APART)]
    if names:
        code = frame.groupby(names, dropna=False).ngroup().set_axis(frame.run_id)
        cells["experiment"] = _shared_experiments(cells, cells.run_id.map(code))
    return cells.drop_duplicates([*FACTORS, *MATCHED_PLACE, "experiment"])


FACTORS, MATCHED_PLACE = ("family", "corpus"), ("level", "budget")


def _shared_experiments(cells: pd.DataFrame, experiment: pd.Series) -> pd.Series:
    """Codes of experiments, -1 at places where no two factors have one in common."""
    place = list(MATCHED_PLACE)
    coded = cells.assign(experiment=experiment)
    different = coded.drop_duplicates([*FACTORS, *place, "experiment"])
    sharing = different.groupby([*place, "experiment"]).size()
    most = sharing.groupby(place).max().rename("most").reset_index()
    at_place = coded[place].merge(most, on=place, how="left").most.to_numpy()
    return experiment.where(at_place > 1, -1)


def _one_a_place(cells: pd.DataFrame) -> pd.DataFrame:
    """Of each place the cells of the experiment that most factors were run in."""
    place = list(MATCHED_PLACE)
    sharing = cells.groupby([*place, "experiment"]).size().rename("sharing")
    best = sharing.reset_index().sort_values("sharing", ascending=False, kind="stable")
    best = best.drop_duplicates(place)[[*place, "experiment"]]
    return cells.merge(best, on=[*place, "experiment"])


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
