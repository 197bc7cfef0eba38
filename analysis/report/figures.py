"""The report's figures: drawn, named and captioned."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping

from matplotlib.figure import Figure

from analysis import forks
from analysis.formatting import capitalised, scored, worded
from analysis.questions._question import drawings
from analysis.report import canvas, markup, style
from analysis.report.answer import summary
from analysis.report.short_names import shortened
from analysis.results import Analysis
from scaling.errors import UserError, unknown

# SVG and PNG by file name.
Drawn = dict[str, tuple[str, bytes]]


@contextlib.contextmanager
def drawing(analysis: Analysis, processes: int = 1) -> Iterator[Callable[[], Drawn]]:
    """Draws every figure while the block does other work.

    Args:
      processes: figures drawn at a time; the result is the same.

    Yields:
      What waits for the figures; those that have no rows are left out.
    """
    shown = shortened(analysis.view.reported)
    names = list(zip(analysis.targets, shown.targets, strict=True))
    asked = [
        (figure_name(analysis, name, target), name, short)
        for name, plot in drawings().items()
        for target, short in (names if plot.every else names[:1])
    ]
    each = [(name, short) for _, name, short in asked]

    def named(drawn: Iterable[tuple[str, bytes] | None]) -> Drawn:
        pairs = zip(asked, drawn, strict=True)
        return {file: pair for (file, _, _), pair in pairs if pair is not None}

    context = forks.context(processes)
    if context is None:
        yield lambda: named(_drawn(shown, one) for one in each)
        return
    with forks.pool(context, processes, _take, shown) as pool:
        drawn = pool.map(_drawn_of_taken, each)
        yield lambda: named(drawn)


# The analysis that a process of its own draws from.
_taken: list[Analysis] = []


def _take(shown: Analysis) -> None:
    _taken[:] = [shown]


def _drawn_of_taken(asked: tuple[str, str]) -> tuple[str, bytes] | None:
    return _drawn(_taken[0], asked)


def _drawn(shown: Analysis, asked: tuple[str, str]) -> tuple[str, bytes] | None:
    name, target = asked
    try:
        return canvas.render(drawings()[name].draw, shown, target)
    except style.Nothing:
        return None


def plot(analysis: Analysis, name: str, target: str | None = None) -> Figure:
    """One figure as a matplotlib Figure; see Analysis.plot.

    Raises:
      UserError: no such figure or target, or nothing to draw in it.
    """
    if name not in drawings():
        raise unknown("figure", name, drawings())
    target = analysis.targets[0] if target is None else target
    if target not in analysis.targets:
        raise unknown("target", target, analysis.targets)
    try:
        return canvas.figure(drawings()[name].draw, analysis.view.reported, target)
    except style.Nothing:
        raise UserError("figure", name, "this table gives nothing to draw") from None


def figure_name(analysis: Analysis, name: str, target: str) -> str:
    """File name without its ending: the first target's figures have the plain name."""
    place = analysis.targets.index(target)
    slug = re.sub(r"[^A-Za-z0-9]+", "-", target).strip("-")
    return name if place == 0 else f"{name}-{place}-{slug}"


def captioned(
    analysis: Analysis,
    figures: Mapping[str, str],
    name: str,
    target: str | None = None,
    on: str = "figure",
) -> str:
    """A captioned figure, or nothing where it was not drawn.

    Args:
      figures: SVG elements by name.
      on: keeps the ids of the same figure at two places of a page apart.
    """
    key = figure_name(analysis, name, target or analysis.targets[0])
    if key not in figures:
        return ""
    svg = canvas.identified(figures[key], key if on == "figure" else f"{on}-{key}")
    drawing, of = drawings()[name], target or analysis.targets[0]
    more = drawing.more(analysis.view.reported, of)
    said = worded(f"{drawing.caption} {more}".strip(), analysis.counted)
    caption = markup.text_of(said)
    svg = svg.replace("<svg ", f'<svg role="img" aria-label="{caption}" ', 1)
    if drawing.scored and scored(of):
        caption += f" {capitalised(markup.text_of(scored(of, '')))}."
    return (
        f'<figure id="{on}-{key}"><button type="button" class="zoom"{_width(svg)} '
        f'title="Click to enlarge">{svg}</button>'
        f"<figcaption>{caption}</figcaption></figure>"
    )


# Of a point of a figure on the page: its text is then as large as the captions.
PIXELS = 1.6


def _width(svg: str) -> str:
    """A style that shows all figures at one scale, the narrow ones narrower."""
    found = re.search(r'\swidth="([\d.]+)pt"', svg)
    return f' style="max-width:{PIXELS * float(found[1]):.0f}px"' if found else ""


def in_notebook(analysis: Analysis) -> str:
    """The front page's words and figure, for a notebook's output cell."""
    shown = analysis.view.reported
    figure = ""
    by_weight = sorted(drawings().values(), key=lambda one: -one.front)
    for one in [one for one in by_weight if one.front > 0]:
        try:
            figure, _ = canvas.render(one.draw, shown, shown.targets[0])
        except style.Nothing:
            continue
        break
    said = markup.bullets(summary(analysis))
    head = f"<h3>{markup.text_of(analysis.title)}</h3>"
    return head + said + canvas.identified(figure, "answer")
