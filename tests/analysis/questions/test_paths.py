"""Loss curves are of the runs that a report is about."""

from __future__ import annotations

import dataclasses

import pandas as pd
from matplotlib.figure import Figure

import analysis
from analysis.questions import loss, paths
from analysis.questions._asked import Whole
from analysis.report import answer, canvas, style
from tests.support.made_analysis import made_analysis


def test_curves_of_runs_that_a_condition_left_out_are_not_shown():
    """As those of the other objective, whose losses have another unit."""
    sizes = [1e3, 2e3, 4e3, 8e3]
    frame = pd.DataFrame(
        {
            "params": sizes * 2,
            "tokens": [1e4] * 8,
            "loss": [4.0, 3.5, 3.2, 3.0, 0.5, 0.45, 0.4, 0.35],
            "family": ["reader"] * 4 + ["denoiser"] * 4,
        }
    )
    table = analysis.from_frame(frame, where=["family == reader"])
    table.runs.loc[0, "status"] = "diverged"
    names = table.runs.run_id
    curves = pd.DataFrame({"run_id": names, "step": 1, "tokens": 10.0, "loss": 1.0})
    table = dataclasses.replace(
        table, paths=curves, readings=table.readings[table.readings.run_id != names[0]]
    )
    frames, _ = paths.concludes(Whole(table, made_analysis()))
    # One that diverged is shown, too.
    assert frames["paths"].run_id.tolist() == names[:4].tolist()


def test_figures_have_no_panels_of_what_is_left_out():
    study = made_analysis()
    other = study.runs.assign(
        family="other", corpus="elsewhere", usable=False, used=False
    )
    runs = pd.concat([study.runs.assign(usable=True), other], ignore_index=True)
    more = study.replace(runs=runs)
    assert style.families_of(more) == style.families_of(study)
    assert style.corpora_of(more) == style.corpora_of(study)
    assert "3 families" in answer.extent(more)
    cells = study.cells[study.cells.corpus != study.cells.corpus.iloc[0]]
    figure = Figure()
    loss.draw_design(
        figure, study.replace(cells=cells, holdout=study.holdout[:0]), "mixture"
    )
    assert len(figure.axes) == study.cells.corpus.nunique() - 1


def test_labels_of_rows_speak_of_pictures():
    study = made_analysis().replace(counted="pictures")

    def draw(figure, *_):
        axes = figure.subplots()
        axes.plot([1, 2], [0, 1])
        axes.set_yticks([0, 1], ["text trained on", "amount of tokens"])

    drawn = canvas.figure(draw, study, "mixture")
    drawn.draw_without_rendering()
    texts = [label.get_text() for label in drawn.axes[0].get_yticklabels()]
    assert texts == ["data trained on", "amount of pictures"]
