"""A question of one's own: do straight lines fit as well as Chinchilla's law?

    scaling-analysis report runs/little --include examples/straight_line.py \
        --include examples/log_linear.py
"""

import pandas as pd

from analysis.fitting.fit import Refusal
from analysis.formatting import on, percent_error
from analysis.questions._question import Absent, Drawing, Question, Table
from analysis.report.style import PALETTE, Nothing, rows_of
from analysis.schema import Column, declare
from analysis.surfaces.surfaces import fit_law

LAWS = ("log_linear", "chinchilla")
FRAMES = (
    declare(
        "straightness",
        "How far two laws miss the losses that they were fitted to.",
        "target family corpus law",
        Column("runs", "runs that were fitted"),
        Column("error", "root mean square residual of the log loss"),
    ),
)


def compute(asked):
    """Both laws, fitted to the same runs: a row for each family, corpus and law."""
    rows = []
    for law in LAWS:
        for fitted in fit_law(law, asked.surfaces.draws, asked.delta, asked.seed):
            fit = fitted.outcome
            if not isinstance(fit, Refusal):
                errors = {"runs": fit.rows, "error": fit.rmse_log}
                rows.append(fitted.head(asked.target) | errors)
    return {"straightness": pd.DataFrame(rows)}


def sentences(view):
    rows = view.rows("straightness")
    for (family, corpus), both in rows.groupby(["family", "corpus"]):
        errors = both.set_index("law").error
        if set(LAWS) <= set(errors.index):
            line, law = (percent_error(errors[name]) for name in LAWS)
            yield (
                f"Straight lines miss the losses of {family}{on(corpus)} by {line}, "
                f"Chinchilla's law by {law}."
            )


def draw(figure, analysis, target):
    """Errors of both laws, side by side."""
    rows = rows_of(analysis.straightness, target)
    if rows.empty:
        raise Nothing
    axes = figure.subplots()
    names = [f"{row.family}{on(row.corpus)}" for row in rows.itertuples()]
    percents = rows.assign(name=names, error=100 * rows.error)
    wide = percents.pivot_table("error", "name", "law")
    wide.plot.barh(ax=axes, color=PALETTE[: wide.shape[1]], ylabel="")
    axes.set_xlabel("RMS error of the loss, %")


QUESTION = Question(
    name="straight_line",
    title="Straight lines against Chinchilla's law",
    place=35.5,
    absent=Absent("comparison of the two laws", ("straightness",), ("fits",)),
    said=lambda view: list(sentences(view)),
    figures={"straightness": Drawing(draw, "Errors of the two laws, by family.")},
    tables=(Table("Errors of both laws", "straightness"),),
    compute=compute,
)
