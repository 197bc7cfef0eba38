"""Figures: each one is drawn, none is blank, and nothing in them leaks into a page."""

from __future__ import annotations

import io
import itertools
import re

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from analysis import formatting
from analysis.questions import (
    _view,
    equivalents,
    fits,
    loss,
    noise,
    paths,
    ratio,
    residuals,
    tuning,
)
from analysis.questions._question import drawings
from analysis.report import canvas, style
from analysis.report.short_names import MOST, short_names, shortened
from tests.support.made_analysis import emptied, made_analysis
from tests.support.made_answers import answers

DRAWS = {name: drawing.draw for name, drawing in drawings().items()}
FRAME = {
    "same_picture_data": ("same_pictures",),
    "picture_grid_larger": ("picture_grid",),
    "loss": ("cells",),
    "scale": ("equivalents",),
    "design": ("cells",),
    "compute": ("multipliers",),
    "classes": ("class_distances",),
    "growth": ("shares", "variance", "equivalents"),
}


@pytest.fixture(scope="module")
def study():
    return made_analysis().replace(**answers())


@pytest.fixture(scope="module")
def rendered(study):
    return {name: canvas.render(draw, study, "mixture") for name, draw in DRAWS.items()}


@pytest.mark.parametrize("name", DRAWS)
def test_drawn(rendered, name):
    svg, png = rendered[name]
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("L"))
    ink = pixels < 250
    assert ink.mean() > 0.01
    # Ink in every quarter: no empty half, no figure squeezed into a corner.
    for rows in np.array_split(ink, 2, axis=0):
        for quarter in np.array_split(rows, 2, axis=1):
            assert quarter.mean() > 0.002
    assert svg.startswith("<svg") and svg.rstrip().endswith("</svg>")
    assert len(svg) < 250_000
    assert "<style" not in svg and "http" not in svg and "<metadata" not in svg
    assert "<text" in svg


def test_ids_are_apart(rendered):
    one, two = (canvas.identified(rendered["fits"][0], name) for name in "ab")
    ids = [set(re.findall(r'\sid="([^"]+)"', svg)) for svg in (one, two)]
    assert ids[0] and not ids[0] & ids[1]
    for svg, known in zip((one, two), ids, strict=True):
        used = re.findall(r'(?:href="#|url\(#)([^")]+)', svg)
        assert used and set(used) <= known


@pytest.mark.parametrize("name", DRAWS)
def test_empty_frame_is_nothing(study, name):
    bare = emptied(study, *FRAME.get(name, (name,)))
    with pytest.raises(style.Nothing):
        DRAWS[name](Figure(), bare, "mixture")


def test_rendering_leaves_no_state(study):
    import matplotlib

    before = dict(matplotlib.rcParams)
    first = canvas.render(ratio.draw_ratios, study, "mixture")[0]
    assert dict(matplotlib.rcParams) == before
    assert canvas.render(ratio.draw_ratios, study, "mixture")[0] == first


@pytest.mark.parametrize(
    ("low", "high", "wanted"),
    [
        (1e5, 3e6, [1e5, 3e5, 1e6, 3e6]),
        (1.4, 2.6, [1.5, 1.75, 2.0, 2.25, 2.5]),
        (0.5, 60, [1, 3, 10, 30]),
    ],
)
def test_ticks_are_round(low, high, wanted):
    assert [float(f"{mark:.6g}") for mark in style.ticks(low, high)] == wanted


def test_ticks_are_inside_and_enough():
    for factor in (1.1, 1.5, 3, 10, 1e3, 1e7):
        marks = style.ticks(0.7, 0.7 * factor)
        assert 3 <= len(marks) <= 10
        assert all(0.7 <= mark <= 0.7 * factor * 1.000001 for mark in marks)


def test_labels_of_a_log_axis_do_not_touch():
    figure = Figure(figsize=(7.6, 3))
    for axes in figure.subplots(1, 3):
        style.log_axis(axes.xaxis, formatting.count, (1.2e5, 3.4e5))
        figure.canvas.draw()
        boxes = [
            label.get_window_extent()
            for label in axes.get_xticklabels()
            if label.get_text()
        ]
        assert len(boxes) >= 2
        for left, right in itertools.pairwise(boxes):
            assert right.x0 - left.x1 > 1


def test_infinity_is_drawn(rendered, study):
    assert "∞" in rendered["scale"][0]
    frame = study.equivalents.copy()
    frame.loc[frame.method == "joint", "p_infinite"] = 0.4
    figure = Figure()
    known = study.replace(equivalents=frame)
    equivalents.draw_equivalents(figure, known, "mixture")
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert any("∞ in 40%" in text for text in texts)


def test_a_swap_of_which_nothing_is_known_has_no_row(study):
    frame = study.equivalents.copy()
    frame.loc[frame.kind == "architecture", ["factor", "p_infinite"]] = np.nan
    figure = Figure()
    known = study.replace(equivalents=frame)
    equivalents.draw_equivalents(figure, known, "mixture")
    titles = [axes.get_title() for axes in figure.axes]
    assert [title.split(" (")[0] for title in titles] == ["corpus"]


def test_a_corpus_without_seeds_is_not_in_the_legend(study):
    first, *_, last = style.corpora_of(study)
    levels = study.noise_levels.iloc[:1].assign(corpus=last, target="mixture")
    figure = Figure()
    noise.draw_levels(figure, study.replace(noise_levels=levels), "mixture")
    (box,) = figure.legends
    assert [text.get_text() for text in box.get_texts()] == [last] != [first]


def test_one_way_keeps_the_gain(study):
    mirrored = study.equivalents.rename(
        columns={"baseline": "alternative", "alternative": "baseline"}
    )
    mirrored = mirrored.assign(
        factor=1 / mirrored.factor, low=1 / mirrored.high, high=1 / mirrored.low
    )
    both = _view.one_way(
        pd.concat([study.equivalents, mirrored], ignore_index=True).query(
            "target == 'mixture'"
        )
    )
    swaps = set(zip(both.baseline, both.alternative, strict=True))
    assert ("convolution", "lstm") in swaps and ("lstm", "convolution") not in swaps
    assert len(swaps) == 4
    assert set(zip(both.alternative, both.baseline, strict=True)).isdisjoint(swaps)


def test_a_family_keeps_its_colour(study):
    families = style.families_of(study)
    colours = {family: style.looks(families, family)[0] for family in families}
    assert len(set(colours.values())) == len(families)
    for draw in (
        loss.draw_loss,
        tuning.draw_tuning,
        residuals.draw_residuals,
        paths.draw_paths,
    ):
        figure = Figure()
        draw(figure, study, "mixture")
        titles = {axes.get_title(loc="left"): axes for axes in figure.axes}
        titles |= {axes.get_title(): axes for axes in figure.axes}
        for family in families:
            assert family in titles
        shown = {
            text.get_text(): text.get_color()
            for axes in figure.axes
            for text in (axes.title, axes._left_title)
        }
        assert {family: shown[family] for family in families} == colours


def test_limits_are_finite_where_a_fit_left_numbers_open():
    axes = Figure().subplots()
    frame = pd.DataFrame(
        {
            "low": [1.0, -np.inf, np.nan],
            "value": [2.0, np.inf, 3.0],
            "high": [np.inf, np.inf, 4.0],
        }
    )
    fits._limit(axes, frame)
    left, right = axes.get_xlim()
    assert 0.5 < left < 1.0 and 4.0 < right < 4.5
    fits._limit(axes, frame[1:2])  # nothing to go by: as it was
    assert axes.get_xlim() == (left, right)


def test_one_wide_interval_does_not_flatten_the_others():
    axes = Figure().subplots()
    ends = {"low": [1.0, 1.0], "value": [2.0, 3.0], "high": [2.5, 900.0]}
    fits._limit(axes, pd.DataFrame(ends))
    assert axes.get_xlim()[1] < 9.0


def test_repeated_data_at_the_same_place_hides_no_edge(study):
    def alarms(analysis):
        figure = Figure()
        tuning.draw_tuning(figure, analysis, "mixture")
        lines = [line for axes in figure.axes for line in axes.lines]
        return sum(line.get_color() == style.ALARM for line in lines)

    again = study.cells.assign(unique_tokens=1.0, rates=1, edge="")
    both = pd.concat([again, study.cells], ignore_index=True)
    assert alarms(study.replace(cells=both)) == alarms(study) > 0


def test_many_panels_go_on_below():
    figure = Figure()
    panels = style.wrapped(figure, 2, 6, height=2.0, margins=(1.0, 1.5))
    assert len(panels) == 12
    assert tuple(figure.get_size_inches()) == (1.5 + 4 * 2.3, 1.0 + 4 * 2.0)
    figure.canvas.draw()
    at = {place: axes.get_position() for place, axes in panels.items()}
    # Of one block both rows, then the other block; each column under its own.
    heights = [at[0, 0].y0, at[1, 0].y0, at[0, 4].y0, at[1, 4].y0]
    assert heights == sorted(heights, reverse=True)
    assert at[0, 4].x0 == at[0, 0].x0 and at[0, 5].x0 == at[0, 1].x0
    reported = {j for (i, j), axes in panels.items() if _numbered(axes.xaxis)}
    assert reported == {2, 3, 4, 5}
    assert [_numbered(panels[0, j].yaxis) for j in range(6)] == [
        *(True, False, False, False),
        *(True, False),
    ]
    empty = [axes for axes in figure.axes if axes not in panels.values()]
    assert len(empty) == 4 and not any(axes.axison for axes in empty)


def _numbered(axis):
    return any(tick.label1.get_visible() for tick in axis.get_major_ticks())


def test_no_more_lines_are_named_than_there_is_room_for():
    figure = Figure(figsize=(4, 2.5))
    axes = figure.subplots()
    axes.set_ylim(2, 3)
    names = [str(i) for i in range(60)]
    style.line_labels(axes, 1.0, np.linspace(2, 3, 60), names, ["k"] * 60)
    shown = [text.get_text() for text in axes.texts]
    assert 2 < len(shown) < 20 and {"0", "59"} <= set(shown)


@pytest.fixture
def styled():
    with matplotlib.rc_context(style.STYLE):
        yield


def test_a_legend_stays_within_a_narrow_figure(styled):
    figure = Figure(figsize=(3.6, 2.5), layout="constrained")
    figure.subplots()
    sizes = ("parameters:", "12M", "40M", "130M", "420M", "1.3B", "4.2B")
    style.legend(figure, [style.key(size, "k", "o", "-") for size in sizes])
    figure.draw_without_rendering()
    box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.width


@pytest.mark.filterwarnings("error")
def test_a_long_legend_takes_no_height_from_the_panels(styled):
    figure = Figure(figsize=(3.6, 2.5), layout="constrained")
    figure.subplots()
    swaps = [f"gru, the long → mamba, the longer one, adam {i}" for i in range(40)]
    style.legend(figure, [style.key(swap, "k", "o", "-") for swap in swaps])
    figure.draw_without_rendering()
    assert figure.axes[0].get_window_extent().height > figure.dpi


@pytest.mark.filterwarnings("error")
@pytest.mark.filterwarnings("error")
def test_long_names_beside_each_other_squeeze_no_panel(study):
    names = {one: f"{one * 40:.24} {one}" for one in study.equivalents.baseline}
    names |= {one: f"{one * 40:.24} {one}" for one in study.equivalents.alternative}
    swaps = study.equivalents.replace({"baseline": names, "alternative": names})
    figure = canvas.figure(
        DRAWS["growth"], study.replace(equivalents=swaps), study.targets[0]
    )
    figure.canvas.draw()
    legend = figure.axes[-1].get_legend().get_window_extent()
    assert legend.x0 >= 0 and legend.x1 <= figure.bbox.width


def test_rows_with_very_long_labels_leave_room_for_their_panel(styled):
    figure = Figure(figsize=(style.WIDTH, 2.5), layout="constrained")
    axes = figure.subplots()
    name = "a transformer with local attention"
    labels = [f"{name} 1 → {name} 2 ({name} 3, {i})" for i in range(3)]
    style.forest_axis(axes, labels, range(3))
    figure.draw_without_rendering()
    assert axes.get_window_extent().width > figure.dpi


def test_names_that_carry_another_factor_are_shortened_part_by_part():
    one, two = ("transformer of the second kind", "transformer of the first kind")
    runs = pd.DataFrame({"family": [f"{one}, adam", f"{two}, adam"], "corpus": "all"})
    swaps = pd.DataFrame(
        {"baseline": [one], "alternative": [two], "fixed": ["adam, all"]}
    )
    shown = shortened(made_analysis().replace(runs=runs, equivalents=swaps))
    reported = shown.equivalents.iloc[0]
    assert max(map(len, reported)) <= MOST and reported.baseline != reported.alternative


def test_names_with_options_are_shortened_to_what_tells_them_apart():
    told = "glyphs[captions=40,new={},size=8]"
    names = [told.format("combinations"), told.format("characters"), "glyphs[size=16]"]
    names.append(f"{names[0]}, 0.1 of captions dropped")
    short = short_names([*names, "glyphs[size=8], half 1", "glyphs[size=8], half 2"])
    assert short[names[1]] == "glyphs[new=characters]"
    assert short[names[3]] == "…0.1 of captions dropped"
    # All that it has the last has, too: both ends are left.
    assert short[names[0]] == "glyphs[capt…ons,size=8]"
    # Nothing fits but what another name is.
    long = ["images[path=/somewhere/far/away/cats]", "images[path=/somewhere/dogs]"]
    assert len({*short_names(long).values()}) == 2
    assert max(map(len, short_names(long).values())) <= MOST
