"""Figures drawn to SVG and PNG in the report's style: see style.py and figures.py."""

from __future__ import annotations

import io
import re

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.collections import PathCollection
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter

from analysis.formatting import TOKENS, worded
from analysis.report import style
from analysis.results import Analysis


def figure(draw: style.Draw, analysis: Analysis, target: str) -> Figure:
    """One figure in the report's style.

    Raises:
      Nothing: there is nothing to draw.
    """
    with style.styled():
        drawn = Figure(figsize=(style.WIDTH, 4.0), dpi=style.DPI, layout="constrained")
        draw(drawn, analysis, target)
        for text in drawn.findobj(Text):
            assert isinstance(text, Text)
            text.set_text(worded(text.get_text(), analysis.counted))
        for axis in (a for axes in drawn.axes for a in (axes.xaxis, axes.yaxis)):
            _word_ticks(axis, analysis.counted)
    if not any(_shows(axes) for axes in drawn.axes):
        raise style.Nothing
    return drawn


def _word_ticks(axis: Axis, counted: str) -> None:
    """The same for labels that are given; ticks write them anew when they are drawn."""
    given = axis.get_major_formatter()
    if counted != TOKENS and isinstance(given, FuncFormatter):
        axis.set_major_formatter(
            FuncFormatter(lambda x, position: worded(given(x, position), counted))
        )


def render(draw: style.Draw, analysis: Analysis, target: str) -> tuple[str, bytes]:
    """One figure as SVG text, ready to stand inline in HTML, and as PNG.

    Raises:
      Nothing: there is nothing to draw.
    """
    with style.styled():
        drawn = figure(draw, analysis, target)
        # The canvases' own printers draw once; savefig would draw twice each time.
        raster, vector = io.BytesIO(), io.StringIO()
        FigureCanvasAgg(drawn).print_png(raster)
        # The raster has settled the layout: keep it for the vector form.
        drawn.set_layout_engine("none")
        FigureCanvasSVG(drawn).print_svg(vector, metadata={"Date": None})
    return _tidy(vector.getvalue()), raster.getvalue()


def _shows(axes: Axes) -> bool:
    """Whether a panel has a point of data in it, and not lines across it alone."""
    spots = [one for one in axes.collections if isinstance(one, PathCollection)]
    drawn = [np.asarray(one.get_offsets(), float) for one in spots]
    drawn += [
        np.stack([np.asarray(v, float) for v in line.get_data(orig=False)], axis=1)
        for line in axes.lines
        if line.get_transform() == axes.transData
    ]
    bars = [bar for bar in axes.containers if isinstance(bar, BarContainer)]
    drawn += [np.array([bar.get_bbox().max for bar in each]) for each in bars]
    shown = any(np.isfinite(points).all(axis=-1).any() for points in drawn)
    return shown or bool(axes.images)


def _tidy(svg: str) -> str:
    """The svg element alone: no prologue, metadata or rule that leaks into a page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\s*xmlns(:\w+)?="[^"]*"', "", svg).replace("xlink:href", "href")
    style = 'style="stroke-linejoin:round;stroke-linecap:butt"'
    svg = svg.replace("<svg ", f"<svg {style} ", 1)
    # Coordinates to a hundredth of a point: a third of the size, no visible change.
    svg = re.sub(r"(?<=[ \"\-LM(,])(\d+\.\d\d)\d+", r"\1", svg)
    return re.sub(r"\n\s*", "\n", svg)


def identified(svg: str, name: str) -> str:
    """The svg with its ids under `name`, so that many can share one page."""
    svg = re.sub(r'(\sid=")', rf"\g<1>{name}-", svg)
    svg = re.sub(r'(href="#)', rf"\g<1>{name}-", svg)
    return re.sub(r"(url\(#)", rf"\g<1>{name}-", svg)
