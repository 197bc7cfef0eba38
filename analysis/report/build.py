"""The report: one self-contained HTML page, its figures as files, and all as JSON.

The page says nothing that the numbers do not: every verdict comes from the questions'
sentences, and a section whose frame is empty gives the reason instead. `read` gives
back from the JSON the Analysis that `write` was given, to the last bit.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import importlib.resources
import itertools
import json
import math
import os
import re
import string
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
from etils import epath
from matplotlib.figure import Figure

from analysis.formatting import UNDETERMINED, count, joined, number, percent
from analysis.inference.verdict import DECIDES, verdict
from analysis.questions import (
    decision,
    equivalents,
    holdout,
    matched_cells,
    model_choice,
    noise,
    ratio,
    runs,
    sensitivity,
)
from analysis.questions._question import Placed, drawings, questions
from analysis.questions._view import at_fitted, beyond, leading, of_target, one_way
from analysis.questions.runs import unnamed
from analysis.report import markup, style
from analysis.report.checklist import checklist
from analysis.report.short_names import shortened
from analysis.results import Analysis, Note
from scaling.errors import UserError, unknown
from scaling.found import is_remote
from scaling.record import write_atomic

# Notes of these kinds limit what may be concluded.
LIMITS = ("asked", "refused", "undetermined", "disagree", "edge", "bound", "warning")

SCHEMA = 1


def write(analysis: Analysis, folder: str | os.PathLike[str]) -> epath.Path:
    """Writes report.html, report.json, checklist.json and figures/ into `folder`.

    The folder may be local or gs://. Returns the path of the HTML page.

    Raises:
      UserError: the folder cannot be written or is full. Each file that was there
        before stays whole, and the page is the last to be replaced.
    """
    root = epath.Path(folder)
    files: dict[str, bytes] = {}
    figures = draw(analysis)
    for name, (svg, png) in figures.items():
        standalone = svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
        files[f"figures/{name}.svg"] = standalone.encode()
        files[f"figures/{name}.png"] = png
    files["report.json"] = _dumped(to_json(analysis))
    files["checklist.json"] = _dumped(checklist(analysis))
    vectors = {name: svg for name, (svg, _) in figures.items()}
    files["report.html"] = page(analysis, vectors).encode()
    try:
        for name, data in files.items():
            write_atomic(root / name, data)
    except OSError as error:  # nothing but writing is done here
        raise _unwritable(folder, str(error)) from error
    return root / "report.html"


def check_folder(folder: str | os.PathLike[str]) -> None:
    """Says before minutes of work that `write` would fail, where that can be seen.

    Raises:
      UserError: something else is in the folder's place, or nothing can be made there.
    """
    if is_remote(folder):
        return
    place = os.path.abspath(folder)
    while not os.path.lexists(place):
        place = os.path.dirname(place)
    if not os.path.isdir(place):
        raise _unwritable(folder, f"{place} is no folder")
    if not os.access(place, os.W_OK | os.X_OK):
        raise _unwritable(folder, f"{place} is read-only or not yours to write")


def _unwritable(folder: str | os.PathLike[str], why: str) -> UserError:
    text = f"no report can be written there ({why}); free it or give another, --out"
    return UserError("out", os.fspath(folder), text)


def _dumped(body: Any) -> bytes:
    return json.dumps(body, indent=1, allow_nan=False).encode()


def save(analysis: Analysis, path: str | os.PathLike[str]) -> None:
    """Writes all of an Analysis as JSON, from which `read` gives it back."""
    write_atomic(epath.Path(path), _dumped(to_json(analysis)))


def read(path: str | os.PathLike[str]) -> Analysis:
    """The Analysis that a report.json was written from."""
    return from_json(json.loads(epath.Path(path).read_text()))


# JSON


def to_json(analysis: Analysis) -> dict[str, Any]:
    """Frames by column at full float64; numbers JSON lacks as the strings in ENCODING.

    `pandas.DataFrame(body["frames"]["fits"])` is a frame again; `types` says which
    columns are numbers.
    """
    frames = analysis.frames
    return {
        "schema": SCHEMA,
        "title": analysis.title,
        "unit": analysis.unit,
        "targets": list(analysis.targets),
        "encoding": 'in number columns "NaN", "Infinity" and "-Infinity" are numbers; '
        "in columns of text null is none",
        "answer": summary(analysis),
        "checklist": checklist(analysis),
        "notes": [dataclasses.asdict(note) for note in analysis.notes],
        "types": {
            name: {column: str(kind) for column, kind in frame.dtypes.items()}
            for name, frame in frames.items()
        },
        "frames": {name: frame_json(frame) for name, frame in frames.items()},
        "versions": _versions(),
    }


def from_json(body: Mapping[str, Any]) -> Analysis:
    """Inverse of `to_json`. Raises ValueError for another schema."""
    if body.get("schema") != SCHEMA:
        raise ValueError(f"schema {body.get('schema')!r}, not {SCHEMA}")
    frames = {
        name: pd.DataFrame(
            {
                column: _decode(values, body["types"][name][column])
                for column, values in columns.items()
            }
        )
        for name, columns in body["frames"].items()
    }
    return Analysis.of(
        title=body["title"],
        unit=body["unit"],
        targets=tuple(body["targets"]),
        notes=tuple(Note(**note) for note in body["notes"]),
        **frames,
    )


def frame_json(frame: pd.DataFrame) -> dict[str, list[Any]]:
    """A frame by column, at full precision and without what JSON has no word for."""
    return {str(column): _encode(frame[column]) for column in frame}


def _encode(column: pd.Series) -> list[Any]:
    if str(column.dtype) == "str":  # "NaN" may be a text that somebody wrote
        return [None if pd.isna(value) else value for value in column.tolist()]
    return [
        _encoded(value) if isinstance(value, float) else value
        for value in column.tolist()
    ]


def _encoded(value: float) -> float | str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return value


def _decode(values: Sequence[Any], kind: str) -> pd.Series:
    if kind.startswith("float"):
        return pd.Series([float(value) for value in values], dtype=kind)
    if kind == "object":
        values = [math.nan if value == "NaN" else value for value in values]
    return pd.Series(values, dtype=kind)


def _versions() -> dict[str, str]:
    names = ("datalaw", "numpy", "pandas", "scipy", "matplotlib")
    return {name: importlib.metadata.version(name) for name in names}


# What is said


def summary(analysis: Analysis) -> list[str]:
    """The answer in a few sentences, on the first target."""
    view, target = analysis.view, analysis.targets[0]
    analysis, found = view.told, view.headline
    sentences = []
    for kind in dict.fromkeys(("architecture", "corpus", *found.kind)):
        sentences += equivalents.equivalences(found[found.kind == kind], target)
    ratios = at_fitted(of_target(analysis.ratios, target))
    measured = (
        matched_cells.measured_sentences(of_target(analysis.measured, target))
        if ratios.empty
        else []
    )
    if not sentences:
        used = analysis.runs.used.astype(bool)
        fitted = analysis.runs[used] if used.any() else analysis.runs
        sentences += measured or [
            equivalents.nothing(fitted.family.nunique(), fitted.corpus.nunique())
        ]
        sentences += _refused(analysis)
    else:
        sentences.insert(0, _opening(analysis, found, target))
        sentences += _beside(analysis, found, target)
        sentences += measured
    doubling = at_fitted(of_target(analysis.doubling, target)).dropna(subset="gain")
    if len(doubling):
        sentences.append(equivalents.doubling_sentence(doubling, target, analysis.unit))
    sentences += ratio.sentences(ratios)
    sentences += decision.sentences(leading(view.own("decisions")))
    agreement = of_target(analysis.agreement, target)
    moved = sensitivity.sentences(view.rows("verdicts"), agreement)
    # Where the law and what was measured disagree, what was measured comes first.
    sentences = matched_cells.disputed(agreement) + sentences
    sentences += moved if len(moved) <= 3 else moved[-1:]
    sentences += [note.text for note in analysis.notes if note.kind == "asked"]
    return sentences + _support(analysis, target) + rows(analysis, target)


def _opening(analysis: Analysis, found: pd.DataFrame, target: str) -> str:
    """Where and by which law the answer holds."""
    models = of_target(analysis.models, target).set_index("model")
    leads = models[models.preferred.eq(True)].index if len(models) else []
    first = next(found[found.factor.notna()].itertuples())
    model = str(leads[0]) if len(leads) else model_choice.BASE
    return equivalents.opening(
        first, target, model, models.delta_aicc.get(model_choice.BASE, math.nan)
    )


def _beside(analysis: Analysis, found: pd.DataFrame, target: str) -> list[str]:
    """The joint law's verdicts where another leads, and the withheld largest cell."""
    told = one_way(of_target(analysis.equivalents, target))
    said = []
    if (found.method == "preferred").any():
        joint = at_fitted(told[told.method == "joint"])
        said.append(equivalents.joint_instead(found, joint))
    far = beyond(leading(told))
    # What leads with an extrapolation has said it already.
    far = far[(far.kind == "architecture") & found.fitted.astype(bool).any()]
    own = far[far.held == target]
    said.append(equivalents.extrapolated(own if len(own) else far))
    return [sentence for sentence in said if sentence]


def lawless(analysis: Analysis) -> bool:
    """Whether no law over sizes and budgets could be fitted, on any target."""
    whole = analysis.fits[analysis.fits.params.isna()]
    return whole.empty and analysis.joint.empty


def told(analysis: Analysis) -> bool:
    """Whether a law stands, or effects were measured without one."""
    return not lawless(analysis) or len(analysis.measured) > 0


def _refused(analysis: Analysis) -> list[str]:
    """Why no law could be fitted, in the words of the refusals; none if one was."""
    if not lawless(analysis):
        return []
    reasons = [note.text for note in analysis.notes if note.kind == "refused"]
    return ["No law could be fitted.", *reasons[:1]]


def _support(analysis: Analysis, target: str) -> list[str]:
    """How far the numbers can be trusted: fit beside noise, and prediction."""
    fitness = of_target(analysis.fitness, target).dropna(subset="lack_of_fit")
    sentences = [noise.fitness(row) for row in fitness.itertuples()]
    return sentences + holdout.sentences(of_target(analysis.holdout, target))


def rows(analysis: Analysis, target: str) -> list[str]:
    """How many rows the fits of a target saw, and which law takes repeated data."""
    mine = list(of_target(analysis.counts, target).itertuples())
    return [text for row in mine for text in (runs.counts(row), *runs.repeats(row))]


# Figures


def draw(analysis: Analysis) -> dict[str, tuple[str, bytes]]:
    """SVG and PNG by file name; what has no rows is left out."""
    shown, figures = shortened(analysis.view.told), {}
    names = list(zip(analysis.targets, shown.targets, strict=True))
    for name, plot in drawings().items():
        for target, short in names if plot.every else names[:1]:
            try:
                drawn = style.render(plot.draw, shown, short)
            except style.Nothing:
                continue
            figures[figure_name(analysis, name, target)] = drawn
    return figures


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
        return style.figure(drawings()[name].draw, analysis.view.told, target)
    except style.Nothing:
        raise UserError("figure", name, "this table gives nothing to draw") from None


def figure_name(analysis: Analysis, name: str, target: str) -> str:
    """File name without its ending: the first target's figures have the plain name."""
    place = analysis.targets.index(target)
    slug = re.sub(r"[^A-Za-z0-9]+", "-", target).strip("-")
    return name if place == 0 else f"{name}-{place}-{slug}"


# HTML


def page(analysis: Analysis, figures: Mapping[str, str]) -> str:
    """The whole page; `figures` are SVG elements by name."""
    parts = sections(analysis, functools.partial(_figure, analysis, figures))
    contents = "".join(
        f'<a href="#{name}">{place}. {title}</a>'
        for place, (name, title, _) in enumerate(parts, 1)
    )
    body = []
    for place, (name, title, inner) in enumerate(parts, 1):
        heading = f'<h2><span class="n">{place}</span>{title}</h2>'
        body.append(f'<section id="{name}">{heading}\n{inner}</section>')
        if place == 1:
            body.append(f"<nav>{contents}</nav>")
    return string.Template(_asset("report.html")).substitute(
        title=markup.text_of(analysis.title),
        dek=markup.text_of(extent(analysis)),
        css=_asset("report.css"),
        js=_asset("report.js"),
        sections="\n".join(body),
    )


def sections(analysis: Analysis, figure: Placed) -> list[tuple[str, str, str]]:
    """Name, title and HTML of each section: the answer, the questions, how far."""
    view = analysis.view
    return [
        ("answer", "The answer", answer(analysis)),
        *(
            (one.name, markup.text_of(one.title), markup.section(one, view, figure))
            for one in questions()
        ),
        ("limits", "What cannot be concluded", limits(analysis)),
        ("method", "How it was computed", method(analysis)),
    ]


def in_notebook(analysis: Analysis) -> str:
    """The answer and its first figure, for a notebook's output cell."""
    shown = analysis.view.told
    try:
        figure, _ = style.render(
            drawings()["equivalents"].draw, shown, shown.targets[0]
        )
    except style.Nothing:
        figure = ""
    said = markup.bullets(summary(analysis))
    head = f"<h3>{markup.text_of(analysis.title)}</h3>"
    return head + said + style.identified(figure, "answer")


def _asset(name: str) -> str:
    return (
        importlib.resources.files("analysis.report").joinpath(name).read_text("utf-8")
    )


def _figure(
    analysis: Analysis, figures: Mapping[str, str], name: str, target: str | None = None
) -> str:
    """A captioned figure, or nothing where it was not drawn."""
    key = figure_name(analysis, name, target or analysis.targets[0])
    if key not in figures:
        return ""
    svg = style.identified(figures[key], key)
    caption = markup.text_of(drawings()[name].caption)
    svg = svg.replace("<svg ", f'<svg role="img" aria-label="{caption}" ', 1)
    scored = f" Scored on {markup.text_of(target or analysis.targets[0])}."
    caption += scored if drawings()[name].scored else ""
    return (
        f'<figure id="figure-{key}"><button type="button" class="zoom"{_width(svg)} '
        f'title="Click to enlarge">{svg}</button>'
        f"<figcaption>{caption}</figcaption></figure>"
    )


# Of a point of a figure on the page: its text is then as large as the captions.
PIXELS = 1.6


def _width(svg: str) -> str:
    """A style that shows all figures at one scale, the narrow ones narrower."""
    found = re.search(r'\swidth="([\d.]+)pt"', svg)
    return f' style="max-width:{PIXELS * float(found[1]):.0f}px"' if found else ""


# The sections, in the order in which a reader needs them. The first line of each
# docstring is its heading.


def answer(analysis: Analysis) -> str:
    """The answer"""
    first, *sentences = summary(analysis)
    lead = markup.paragraph(first)
    return f'<div class="answer">{lead}{markup.bullets(sentences)}</div>'


def limits(analysis: Analysis) -> str:
    """What cannot be concluded"""
    chosen = [note for note in analysis.notes if note.kind in LIMITS]
    return markup.bullets(unsaid(analysis)) + markup.notes_of(chosen)


def method(analysis: Analysis) -> str:
    """How it was computed"""
    laws = joined(dict.fromkeys(analysis.quality.law)) or "none"
    versions = ", ".join(f"{name} {value}" for name, value in _versions().items())
    lines = [
        "A cell is one family, corpus, size and budget; its loss is that of the best "
        "learning rate tried, chosen again inside every bootstrap draw.",
        f"Laws fitted: {laws}; parameters minimise the Huber loss of log residuals in "
        "float64 from many starts.",
        "Intervals are 95%, from a bootstrap that resamples whole training "
        "trajectories, never points of one curve. Effects are taken draw by draw, so "
        "that the two sides of a comparison share their draws.",
        "Losses are compared on one target at a time; a swap of the corpus changes "
        "what is trained on and not what is scored.",
        "A data-equivalent is infinite where the swap's loss lies below what the law "
        "gives for any amount of data; such draws are counted, not dropped.",
        "An effect is called a gain or a loss, larger or smaller, where its 95% "
        f"interval decides it (a comparison: {percent(DECIDES)} of draws).",
        f"The figures are also in figures/, all numbers in report.json. {versions}.",
    ]
    return markup.bullets(lines)


def extent(analysis: Analysis) -> str:
    """One line on what was measured."""
    runs, used = analysis.runs, int(analysis.runs.used.sum())
    # A row that was left out may give any number for its size.
    sized = runs[runs.used] if used else runs
    families, corpora = runs.family.nunique(), runs.corpus.nunique()
    sizes, budgets = _range(sized.params), _range(sized.tokens)
    return (
        f"{len(runs) + unnamed(analysis)} runs ({used} fitted), {families} "
        f"{'family' if families == 1 else 'families'}, {corpora} "
        f"{'corpus' if corpora == 1 else 'corpora'}; {sizes} parameters, "
        f"{budgets} training tokens; losses in {analysis.unit} on "
        f"{joined(analysis.targets)}."
    )


def _range(values: pd.Series) -> str:
    low, high = count(values.min()), count(values.max())
    return low if low == high else f"{low} to {high}"


def unsaid(analysis: Analysis) -> list[str]:
    """What the grid is too small for, from its extent and its open intervals."""
    runs = analysis.runs[analysis.runs.used]
    sentences = []
    if len(runs):
        sentences.append(
            f"Nothing outside {_range(runs.params)} parameters (a factor "
            f"{number(runs.params.max() / runs.params.min(), 2)}) and "
            f"{_range(runs.tokens)} tokens (a factor "
            f"{number(runs.tokens.max() / runs.tokens.min(), 2)}) was measured: "
            "what the laws say beyond is extrapolation."
        )
    found = analysis.view.headline
    lies = [verdict(row.low, row.high, 1.0) for row in found.itertuples()]
    open_ = list(itertools.compress(found.itertuples(), _are(lies, "undetermined")))
    if open_:
        swaps = joined(
            dict.fromkeys(f"{row.source} → {row.to} ({row.held})" for row in open_)
        )
        sentences.append(f"Gain or loss {UNDETERMINED}: {swaps}.")
    never = found[found.p_infinite > 0]
    if len(never):
        swaps = joined(
            f"{row.source} → {row.to} ({row.held}; {percent(row.p_infinite)} of draws)"
            for row in never.itertuples()
        )
        sentences.append(f"An upper end cannot be given to {swaps}.")
    if analysis.noise.empty:
        sentences.append(
            "No cell has two seeds, so whether the laws miss more than noise "
            f"{UNDETERMINED}."
        )
    return sentences


def _are(values: Iterable[Any], wanted: Any) -> list[bool]:
    return [value == wanted for value in values]
