"""Seed noise and lack of fit."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.design.levels import SIZE, level_codes
from analysis.formatting import (
    UNDETERMINED,
    count,
    interval_text,
    joined,
    law_text,
    levels_text,
    number,
    percent_error,
    scored,
)
from analysis.inference import quantiles, seeds
from analysis.inference.likelihood import seed_check
from analysis.inference.verdict import ENDS, verdict
from analysis.questions._question import (
    LIMIT,
    Answer,
    Drawing,
    Placed,
    Question,
    Sentence,
)
from analysis.questions._view import View, of_target
from analysis.questions.variance import box_of, box_text
from analysis.report import markup
from analysis.report.style import (
    INK,
    Nothing,
    corpora_of,
    families_of,
    forest_axis,
    key,
    legend,
    log_axis,
    looks,
    plain,
    reach,
    resize,
    rows_of,
    side_note,
    span,
    tint,
)
from analysis.results import Analysis, Note
from analysis.schema import Column, declare
from analysis.surfaces.surfaces import residuals

if TYPE_CHECKING:
    from analysis.questions._asked import Asked, Whole

FRAMES = (
    declare(
        "noise",
        "The spread between seeds of a cell.",
        "family corpus target params tokens",
        Column("seeds", "how many there are"),
        Column("sd_log", "standard deviation of log loss between them"),
    ),
    declare(
        "noise_levels",
        "The spread between seeds for each corpus and size, pooled over its cells.",
        "corpus target params",
        Column("cells", "how many cells of several seeds"),
        Column("freedom", "their degrees of freedom"),
        Column("sd_log", "standard deviation of log loss between seeds"),
        "low high",
    ),
    declare(
        "noise_trends",
        "Whether the spread between seeds varies from cell to cell.",
        "target",
        Column("cells", "how many cells of several seeds"),
        Column("p", "share of draws with one spread that vary as much; NaN: too few"),
        Column("varies", "whether it does, and intervals follow it"),
        Column("by_params", "power of the size that the spread follows; NaN: not told"),
        Column("by_tokens", "power of the tokens that it follows; NaN: not told"),
    ),
    declare(
        "fitness",
        "How far the runs lie from the leading law, beside the noise of seeds.",
        "target",
        Column("lack_of_fit", "standard deviation of the log residuals"),
        Column("seed_noise", "pooled standard deviation of log loss between seeds"),
        Column("ratio", "the first over the second"),
        "law",
        Column("runs", "how many runs the law saw"),
        Column("box", "the range of their N and D"),
    ),
    declare(
        "seed_checks",
        "The leading law's fitted density beside the seeds.",
        "target law",
        Column("sd_density", "standard deviation of the fitted density"),
        Column("sd_seeds", "standard deviation between seeds"),
        Column("freedom", "degrees of freedom of the seeds"),
        Column("ratio", "the first over the second"),
        "low high",
    ),
)


def compute(asked: Asked) -> dict[str, pd.DataFrame]:
    found = {"noise": asked.measured.seeds, "fitness": _fitness(asked)}
    if asked.likelihood is not None:
        chosen = asked.chosen
        cells = chosen.data.cell[chosen.draws.chosen > 0]
        head = {"target": asked.target, "law": chosen.joint.law.name}
        found["seed_checks"] = seed_check(asked.likelihood, cells).assign(**head)
    return found


def _fitness(asked: Asked) -> pd.DataFrame:
    """The scatter about the law that leads, beside the noise of seeds."""
    law = asked.chosen.joint.law
    left = residuals(asked.chosen.joint, asked.chosen.draws)
    if left.empty:
        return left
    freedom = max(1, len(left) - len(law.parameters))
    spread = float(np.sqrt((left.residual**2).sum() / freedom))
    level = asked.measured.noise.sd
    row: dict[str, object] = {"target": asked.target, "law": law.name}
    row |= {"lack_of_fit": spread, "seed_noise": level, "runs": len(left)}
    row |= {"ratio": spread / level if level > 0 else np.nan}
    return pd.DataFrame([row | {"box": box_text(box_of(left))}])


def fitness(row: Any) -> str:
    """Lack of fit beside seed noise, both as relative error, and of which runs."""
    miss, noise = percent_error(row.lack_of_fit), percent_error(row.seed_noise)
    text = f"The {law_text(row.law)} misses the {row.runs:.0f} runs that it is fitted "
    text += f"to ({row.box}) by {miss} (standard deviation)"
    if math.isnan(row.ratio):
        return f"{text}; seed noise was not measured."
    return f"{text}, {number(row.ratio, 2)} times the seed noise of {noise}."


def density(row: Any) -> str:
    """The fitted density's spread beside that of the seeds."""
    lie = verdict(row.low, row.high, 1.0)
    meaning = {
        "above": "the law misses a trend that the seeds repeat",
        "below": "the residuals are fitted as narrower than the seeds scatter",
        "undetermined": f"whether the law misses a trend {UNDETERMINED}",
    }[lie]
    return (
        f"The fitted scale of the residuals of the {law_text(row.law)} is "
        f"{number(row.ratio)} times the scatter of the seeds "
        f"({interval_text(row.low, row.high)}): {meaning}."
    )


def levels(noise: pd.DataFrame) -> pd.DataFrame:
    """`noise_levels` from `noise`: chi-squared intervals of pooled variances."""
    if noise.empty:
        return pd.DataFrame()
    rows = []
    sizes = noise.assign(level=level_codes(noise.params.to_numpy(float), SIZE))
    for (target, corpus, _), part in sizes.groupby(["target", "corpus", "level"]):
        freedom = int((part.seeds - 1).sum())
        square = float(((part.seeds - 1) * part.sd_log**2).sum())
        ends = quantiles.chi_squared(ENDS[::-1], freedom)
        row = {"corpus": corpus, "target": target}
        row |= {"params": float(np.exp(np.log(part.params).mean()))}
        row |= {"cells": len(part), "freedom": freedom}
        row |= {"sd_log": math.sqrt(square / freedom)}
        low, high = np.sqrt(square / ends)
        rows.append(row | {"low": float(low), "high": float(high)})
    return pd.DataFrame(rows)


def trends(noise: pd.DataFrame) -> pd.DataFrame:
    """`noise_trends` from `noise`; see inference/seeds.py."""
    rows = []
    for target, part in noise.groupby("target") if len(noise) else ():
        found = seeds.of(part)
        row = {"target": target, "cells": len(part), "p": found.p}
        row |= {"varies": found.trend is not None}
        powers = found.trend.powers if found.trend is not None else {}
        row |= {f"by_{name}": powers.get(name, math.nan) for name in seeds.SIZES}
        rows.append(row)
    return pd.DataFrame(rows)


def concludes(whole: Whole) -> Answer:
    noise = whole.analysis.noise
    return {"noise_levels": levels(noise), "noise_trends": trends(noise)}, []


def trend_sentence(row: Any) -> str:
    """Whether the noise is one for all cells, and what intervals use."""
    cells = f"the {row.cells} cells with several seeds"
    if math.isnan(row.p):
        return (
            f"Whether seed noise varies with size and tokens {UNDETERMINED}: "
            f"{row.cells} cells with several seeds are too few. Intervals of measured "
            "cells use one noise level for all."
        )
    if not row.varies:
        return (
            f"The same seed noise in {cells} is not refuted (p {number(row.p, 2)}), "
            "and intervals of measured cells use one level for all."
        )
    powers = joined(
        f"the power {number(value, 2)} of the {name}"
        for name, value in (("size", row.by_params), ("tokens", row.by_tokens))
        if not math.isnan(value)
    )
    along = f", with {powers}" if powers else ""
    return (
        f"Seed noise varies between {cells} (p {number(row.p, 2)}){along}. Intervals "
        "of measured cells use the level of their own place. Intervals of laws include "
        "it in any case, since a bootstrap draw keeps each run's own residual."
    )


def draw_levels(figure: Figure, analysis: Analysis, target: str) -> None:
    """Spread between seeds against size, a line a corpus."""
    frame = rows_of(analysis.noise_levels, target)
    frame = frame[frame.sd_log > 0]
    if frame.empty:
        raise Nothing
    corpora = corpora_of(analysis)
    resize(figure, 2.8, 5.0)
    axes = figure.subplots()
    percent = frame.assign(value=100 * frame.sd_log)
    log_axis(axes.xaxis, count, span(frame.params, pad=0.1))
    # An interval of one degree of freedom has an end thirty times its value.
    ends = (100 * frame.low, (100 * frame.high).clip(upper=5 * percent.value.max()))
    log_axis(axes.yaxis, plain, span(percent.value, *ends))
    for corpus in corpora:
        mine = percent[percent.corpus == corpus].sort_values("params")
        colour, marker, line = looks(corpora, corpus)
        # Corpora of one size stand beside each other.
        at = mine.params * 1.03 ** (corpora.index(corpus) - (len(corpora) - 1) / 2)
        axes.vlines(at, 100 * mine.low, 100 * mine.high, color=colour, lw=1)
        axes.plot(at, mine.value, color=colour, marker=marker, ls=line)
    axes.set_xlabel("parameters")
    axes.set_ylabel("seed noise (% of the loss)")
    drawn = [c for c in corpora if c in set(percent.corpus)]
    legend(figure, [key(str(c), *looks(corpora, c)) for c in drawn])


def draw_noise(figure: Figure, analysis: Analysis, target: str) -> None:
    """Spread between seeds of the same cell, next to the residuals of the laws."""
    frame = rows_of(analysis.noise, target)
    fitness = analysis.fitness[analysis.fitness.target == target]
    families = families_of(analysis)
    resize(figure, 1.2 + 0.24 * len(frame))
    axes = figure.subplots()
    labels = []
    for y, row in enumerate(frame.itertuples()):
        colour, marker, _ = looks(families, row.family)
        axes.plot([0, 100 * row.sd_log], [y, y], color=tint(colour, 0.4), lw=1)
        axes.plot(100 * row.sd_log, y, color=colour, marker=marker)
        side_note(axes, y, f"{row.seeds} seeds")
        where = f"{count(row.params)}, {count(row.tokens)} tokens"
        labels.append(levels_text(row.family, row.corpus, where))
    forest_axis(axes, labels, range(len(frame)))
    for row in fitness.itertuples():
        for name, value, line in (
            ("seed noise, pooled", row.seed_noise, "-"),
            ("lack of fit", row.lack_of_fit, "--"),
        ):
            if math.isfinite(value):
                axes.axvline(100 * value, color=INK, lw=1, ls=line, label=name)
    axes.set_xlim(0, reach(100 * frame.sd_log, 100 * fitness.seed_noise, [0.0])[1])
    axes.set_xlabel("standard deviation of the loss (%)")
    axes.grid(True, axis="x")
    if len(fitness):
        figure.legend(
            *axes.get_legend_handles_labels(), loc="outside upper left", ncols=2
        )


def said(view: View) -> list[str]:
    lead = [fitness(row) for row in view.rows("fitness").itertuples()]
    lead += [trend_sentence(row) for row in view.rows("noise_trends").itertuples()]
    return lead + [density(row) for row in view.rows("seed_checks").itertuples()]


def _built(view: View, figure: Placed) -> str:
    analysis, lead = view.analysis, markup.paragraph(*said(view))
    if analysis.noise.empty:
        what = "noise level: no cell has two seeds"
        return markup.absent(analysis, what, "noise") + lead
    return "".join(
        [
            lead,
            figure("noise_levels"),
            figure("noise"),
            markup.about(analysis, "noise"),
            markup.fold("Seed noise for each corpus and size", analysis.noise_levels),
            markup.fold("Lack of fit beside the seeds", analysis.fitness),
            markup.fold("Fitted scale of residuals beside seeds", analysis.seed_checks),
            markup.fold("Seeds of every cell", analysis.noise),
        ]
    )


def answers(view: View) -> list[Sentence]:
    found = of_target(view.reported.fitness, view.target).dropna(subset="lack_of_fit")
    said = [Sentence(fitness(row), 40) for row in found.itertuples()]
    cells = of_target(view.analysis.cells, view.target)
    several = int((cells.seeds > 1).sum()) if len(cells) else 0
    if view.analysis.noise.empty:
        which = "cell that reads its data once" if several else "cell"
        text = f"No {which} has two seeds, so whether the laws miss more than noise "
        return [*said, Sentence(f"{text}{UNDETERMINED}.", 75, LIMIT)]
    noise = of_target(view.analysis.noise, view.target)
    if len(noise):
        spread = percent_error(math.sqrt((noise.sd_log**2).mean()))
        # Laws are fitted to what is read once, and so is the noise that they meet.
        once = f" in the {len(noise)} that read no data twice"
        text = f"{several} of {len(cells)} cells have more than one seed (standard "
        text += f"deviation {spread} of the loss{once if len(noise) < several else ''}"
        said.append(Sentence(f"{text}); the others have one.", 75, LIMIT))
    return said


def notes(view: View) -> Iterator[Note]:
    """Lack of fit against the noise of seeds."""
    for row in view.analysis.fitness.itertuples():
        if np.isnan(row.seed_noise):
            text = (
                f"No cell has two seeds{scored(row.target)}: the noise of a run is "
                "unknown, and lack of fit cannot be compared with it."
            )
            yield Note("undetermined", "noise", text)
        elif row.ratio > 2.0:
            text = (
                f"Residuals of the {law_text(row.law)} (standard deviation "
                f"{row.lack_of_fit:.2%}) are {row.ratio:.1f} times the noise of seeds "
                f"({row.seed_noise:.2%}){scored(row.target)}: the law misses a trend "
                "that the runs show."
            )
            yield Note("disagree", "noise", text)


QUESTION = Question(
    name="noise",
    title="Seed noise and lack of fit",
    place=140,
    said=said,
    answers=answers,
    concludes=concludes,
    figures={
        "noise_levels": Drawing(
            draw_levels,
            "Standard deviation between seeds for each corpus and size, pooled over "
            "budgets and families. Lines: 95% chi-squared intervals.",
        ),
        "noise": Drawing(
            draw_noise,
            "Standard deviation between seeds of the same cell. A lack of fit well "
            "above this noise is a trend that the law does not have.",
        ),
    },
    build=_built,
    compute=compute,
    notes=notes,
)
