"""The report: one self-contained HTML page, its figures as files, and all as JSON.

The page says nothing that the numbers do not: every verdict comes from words.py, and a
section whose frame is empty gives the reason instead. `read` gives back from the JSON
the Analysis that `write` was given, to the last bit.
"""

from __future__ import annotations

import dataclasses
import functools
import html
import importlib.metadata
import importlib.resources
import itertools
import json
import math
import os
import re
import string
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
from etils import epath
from matplotlib.figure import Figure

from analysis.questions import known_floor, model_choice, run_times
from analysis.report import plots, plots_checks, plots_effects, plots_surface, words
from analysis.report.checklist import checklist
from analysis.report.short_names import shortened
from analysis.report.shortlist import centres, foremost
from analysis.results import Analysis, Note
from scaling.errors import UserError, unknown
from scaling.found import is_remote
from scaling.record import write_atomic

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
        "encoding": 'in number columns "NaN", "Infinity" and "-Infinity" are numbers',
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
    target, analysis = analysis.targets[0], foremost(analysis)
    found = headline(analysis.equivalents, target)
    sentences = []
    for kind in dict.fromkeys(("architecture", "corpus", *found.kind)):
        sentences += words.equivalences(found[found.kind == kind], target)
    ratios = plots.at_fitted(_of(analysis.ratios, target))
    measured = words.measured(_of(analysis.measured, target)) if ratios.empty else []
    if not sentences:
        used = analysis.runs.used.astype(bool)
        runs = analysis.runs[used] if used.any() else analysis.runs
        sentences += measured or [
            words.nothing(runs.family.nunique(), runs.corpus.nunique())
        ]
        sentences += _refused(analysis)
    else:
        sentences.insert(0, _opening(analysis, found, target))
        sentences += _beside(analysis, found, target)
        sentences += measured
    doubling = plots.at_fitted(_of(analysis.doubling, target)).dropna(subset="gain")
    if len(doubling):
        sentences.append(words.doubling(doubling, target, analysis.unit))
    sentences += words.ratios(ratios)
    sentences += words.decisions(plots.leading(_own(analysis, "decisions")))
    agreement = _of(analysis.agreement, target)
    moved = words.moved(_first(analysis, "verdicts"), agreement)
    # Where the law and what was measured disagree, what was measured comes first.
    sentences = words.disputed(agreement) + sentences
    sentences += moved if len(moved) <= 3 else moved[-1:]
    sentences += [note.text for note in analysis.notes if note.kind == "asked"]
    return sentences + _support(analysis, target) + rows(analysis, target)


def _opening(analysis: Analysis, found: pd.DataFrame, target: str) -> str:
    """Where and by which law the answer holds."""
    models = _of(analysis.models, target).set_index("model")
    leads = models[models.preferred.eq(True)].index if len(models) else []
    first = next(found[found.factor.notna()].itertuples())
    model = str(leads[0]) if len(leads) else model_choice.BASE
    return words.opening(
        first, target, model, models.delta_aicc.get(model_choice.BASE, math.nan)
    )


def _beside(analysis: Analysis, found: pd.DataFrame, target: str) -> list[str]:
    """The joint law's verdicts where another leads, and the withheld largest cell."""
    told = plots.one_way(_of(analysis.equivalents, target))
    said = []
    if (found.method == "preferred").any():
        joint = plots.at_fitted(told[told.method == "joint"])
        said.append(words.joint_instead(found, joint))
    far = plots.beyond(plots.leading(told))
    # What leads with an extrapolation has said it already.
    far = far[(far.kind == "architecture") & found.fitted.astype(bool).any()]
    own = far[far.held == target]
    said.append(words.extrapolated(own if len(own) else far))
    return [sentence for sentence in said if sentence]


def _own(analysis: Analysis, name: str) -> pd.DataFrame:
    """Rows trained on the target itself, where that was done."""
    frame = _first(analysis, name)
    own = frame[frame.corpus == analysis.targets[0]]
    return own if len(own) else frame


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
    fitness = _of(analysis.fitness, target).dropna(subset="lack_of_fit")
    sentences = [words.fitness(row) for row in fitness.itertuples()]
    return sentences + words.holdout(_of(analysis.holdout, target))


def rows(analysis: Analysis, target: str) -> list[str]:
    """How many rows the fits of a target saw, and which law takes repeated data."""
    mine = list(_of(analysis.counts, target).itertuples())
    return [text for row in mine for text in (words.counts(row), *words.repeats(row))]


def headline(equivalents: pd.DataFrame, target: str) -> pd.DataFrame:
    """The leading method's equivalents at the largest fitted cell, each swap once.

    Where no law stands, those over all matched cells: no single one has an interval
    without seeds, and none at the end of a curve a factor.
    """
    mine = plots.one_way(_of(equivalents, target))
    lead = plots.leading(plots.at_fitted(mine))
    if set(lead.method) != {"paired"}:
        return lead
    return mine[(mine.method == "paired") & mine.params.isna()]


def _of(frame: pd.DataFrame, target: str) -> pd.DataFrame:
    return frame[frame.target == target]


# Figures


@dataclasses.dataclass(frozen=True)
class Plot:
    """A figure of the report; those of `every` target are drawn for all of them."""

    draw: plots.Draw
    caption: str
    every: bool = False


PLOTS: dict[str, Plot] = {
    "standings": Plot(
        plots_effects.standings,
        "Left, the measured loss of each family at the largest cell that all share, "
        "with the 95% interval of its distance to the lowest: seeds and documents. "
        "Right, how many times its data it needs for the lowest, by the law at the "
        "largest cell that was fitted, with its 95% interval.",
        every=True,
    ),
    "equivalents": Plot(
        plots.equivalents,
        "Data-equivalent of each swap at the largest fitted cell: how many times the "
        "data of the first gives the loss of the second (held in brackets). Lines "
        "are 95% intervals; an arrow means that the interval goes on, to infinity "
        "where a share of draws is given.",
        every=True,
    ),
    "scale": Plot(
        plots.scale,
        "The data-equivalent of each architecture swap as the grid grows. Bands are "
        "95% intervals; a number with an arrow lies above the axis, ∞ where no amount "
        "of data is enough. Dashed: a doubling of the data.",
    ),
    "ratios": Plot(
        plots.ratios,
        "Architecture over corpus, in logs of their data-equivalents. Outside the grey "
        "band the architecture is the larger effect; a negative ratio means that the "
        "two swaps pull opposite ways.",
        every=True,
    ),
    "loss": Plot(
        plots.loss,
        "Loss against training tokens, a line for each model size, with each family's "
        "fitted law and its 95% interval.",
        every=True,
    ),
    "compute": Plot(
        plots_effects.compute,
        "What an architecture swap is worth in compute, both sides at their own "
        "compute-optimal split. Bands are 95% intervals.",
    ),
    "interactions": Plot(
        plots_effects.interactions,
        "How the data-equivalent of a swap changes between the two places named: 1 "
        "is no change. Lines are 95% intervals.",
    ),
    "decisions": Plot(
        plots_effects.decisions,
        "Compute-optimal loss of each family, with its 95% interval. Beyond the dashed "
        "line nothing was run.",
    ),
    "verdicts": Plot(
        plots_effects.verdicts,
        "The overall data-equivalents under other choices of law, of Huber's delta, of "
        "the runs that are kept and of how parameters are counted.",
    ),
    "isoflops": Plot(
        plots_surface.isoflops,
        "Loss along lines of equal compute, by the fit, with its 95% interval; marks "
        "are cells whose compute is near the line's.",
    ),
    "isolosses": Plot(
        plots_surface.isolosses,
        "Lines of equal loss, by the fit, and the compute-optimal path with its 95% "
        "interval. Off the dots it is extrapolation.",
    ),
    "optima": Plot(
        plots_checks.optima,
        "The best size at each compute by methods that know no law, beside the fit's "
        "path. None shares anything between budgets: the fit is the better answer.",
    ),
    "influence": Plot(
        plots_checks.influence,
        "Each run left out of the fit: how far it lies from the curve, and how far the "
        "parameter that it moves most goes without it.",
    ),
    "sweeps": Plot(
        plots_checks.sweeps,
        "The main parameters of the leading law when residuals are counted otherwise.",
    ),
    "profiles": Plot(
        plots_checks.profiles,
        "Profile likelihoods of the leading law: all else fitted again at each value.",
    ),
    "shares": Plot(
        plots_effects.shares,
        "Share of the variance of the measured losses by factor and by pairs of "
        "factors, with what stays unexplained.",
    ),
    "design": Plot(plots.design, "The cells that were run: sizes against budgets."),
    "fits": Plot(
        plots.fits,
        "Parameters of the law of each family and corpus, with 95% intervals.",
    ),
    "joint": Plot(
        plots.joint,
        "Multipliers of the joint law. A family whose multiplier of data is 0.5 needs "
        "twice the data of the reference for the same loss.",
    ),
    "variance": Plot(
        plots.variance,
        "Share of the variance of the loss by factor, over the box of sizes and "
        "budgets stated in the table; lines are 95% intervals.",
    ),
    "noise": Plot(
        plots.noise,
        "Spread between seeds of the same cell. Where the lack of fit is well above "
        "the noise, the laws miss something that is there.",
    ),
    "holdout": Plot(
        plots.holdout,
        "The largest cells, set aside before fitting, against their prediction from "
        "the rest. Hollow: outside the interval.",
    ),
    "residuals": Plot(
        plots.residuals,
        "What the laws leave over. A pattern along the axis means a law of the wrong "
        "shape; the grey band is what seeds alone would do.",
    ),
    "tuning": Plot(
        plots.tuning,
        "Loss against the learning rate, above the best of each size. A best rate at "
        "the edge of its grid (red square) may not be the best there is.",
    ),
    "paths": Plot(plots.paths, "Training loss of every run."),
}


def draw(analysis: Analysis) -> dict[str, tuple[str, bytes]]:
    """SVG and PNG by file name; what has no rows is left out."""
    shown, figures = shortened(foremost(analysis)), {}
    names = list(zip(analysis.targets, shown.targets, strict=True))
    for name, plot in PLOTS.items():
        for target, short in names if plot.every else names[:1]:
            try:
                drawn = plots.render(plot.draw, shown, short)
            except plots.Nothing:
                continue
            figures[figure_name(analysis, name, target)] = drawn
    return figures


def plot(analysis: Analysis, name: str, target: str | None = None) -> Figure:
    """One figure as a matplotlib Figure; see Analysis.plot.

    Raises:
      UserError: no such figure or target, or nothing to draw in it.
    """
    if name not in PLOTS:
        raise unknown("figure", name, PLOTS)
    target = analysis.targets[0] if target is None else target
    if target not in analysis.targets:
        raise unknown("target", target, analysis.targets)
    try:
        return plots.figure(PLOTS[name].draw, foremost(analysis), target)
    except plots.Nothing:
        raise UserError("figure", name, "this table gives nothing to draw") from None


def figure_name(analysis: Analysis, name: str, target: str) -> str:
    """File name without its ending: the first target's figures have the plain name."""
    place = analysis.targets.index(target)
    slug = re.sub(r"[^A-Za-z0-9]+", "-", target).strip("-")
    return name if place == 0 else f"{name}-{place}-{slug}"


# HTML


def page(analysis: Analysis, figures: Mapping[str, str]) -> str:
    """The whole page; `figures` are SVG elements by name."""
    parts = [
        build(analysis, functools.partial(_figure, analysis, figures))
        for build in SECTIONS
    ]
    numbered = list(enumerate(zip(SECTIONS, parts, strict=True), 1))
    contents = "".join(
        f'<a href="#{build.__name__}">{number}. {_title(build)}</a>'
        for number, (build, _) in numbered
    )
    body = []
    for number, (build, inner) in numbered:
        heading = f'<h2><span class="n">{number}</span>{_title(build)}</h2>'
        body.append(f'<section id="{build.__name__}">{heading}\n{inner}</section>')
        if number == 1:
            body.append(f"<nav>{contents}</nav>")
    return string.Template(_asset("report.html")).substitute(
        title=_text(analysis.title),
        dek=_text(extent(analysis)),
        css=_asset("report.css"),
        js=_asset("report.js"),
        sections="\n".join(body),
    )


def in_notebook(analysis: Analysis) -> str:
    """The answer and its first figure, for a notebook's output cell."""
    shown = foremost(analysis)
    try:
        figure, _ = plots.render(PLOTS["equivalents"].draw, shown, shown.targets[0])
    except plots.Nothing:
        figure = ""
    said = _list(summary(analysis))
    return f"<h3>{_text(analysis.title)}</h3>{said}{plots.identified(figure, 'answer')}"


def _asset(name: str) -> str:
    return (
        importlib.resources.files("analysis.report").joinpath(name).read_text("utf-8")
    )


def _title(build: Callable[..., str]) -> str:
    """A section's heading is the first line of its docstring."""
    return _text((build.__doc__ or "").split("\n")[0].rstrip("."))


def _text(value: Any) -> str:
    return html.escape(str(value))


def _paragraph(*sentences: str) -> str:
    return f"<p>{_text(' '.join(sentences))}</p>" if sentences else ""


def _list(sentences: Iterable[str]) -> str:
    items = "".join(f"<li>{_text(sentence)}</li>" for sentence in sentences)
    return f"<ul>{items}</ul>" if items else ""


# What changes a verdict stands in sight; the rest is folded under its number.
KINDS = {
    "asked": "to be said",
    "refused": "cannot be fitted",
    "disagree": "disagreements",
    "undetermined": "open",
    "warning": "warnings",
    "edge": "best rate at the edge of its grid",
    "bound": "parameters on a bound",
    "read": "how the table was read",
    "excluded": "left out",
}
FOREMOST = ("asked", "refused", "disagree", "undetermined")


def _notes(notes: Iterable[Note]) -> str:
    """A line a kind, what changes a verdict first; all but its first note folded."""
    kinds: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for note in notes:
        kinds.setdefault(note.kind, []).append(_text(note.text))
    items, minor = [], []
    for kind, texts in kinds.items():
        if not texts:
            continue
        head = f'<span class="kind">{_text(KINDS.get(kind, kind))}</span>'
        if kind in FOREMOST:
            fold = _folded(f"{len(texts) - 1} more", texts[1:])
            items.append(f"<li>{head}{texts[0]}{fold}</li>")
        else:
            minor.append(f"<li>{head}{_folded(f'{len(texts)}', texts)}</li>")
    every = "".join(items + minor)
    return f'<ul class="notes">{every}</ul>' if every else ""


def _folded(title: str, texts: Sequence[str]) -> str:
    if not texts:
        return ""
    inner = "".join(f"<li>{text}</li>" for text in texts)
    return f"<details><summary>{title}</summary><ul>{inner}</ul></details>"


def _about(analysis: Analysis, *about: str) -> str:
    return _notes(note for note in analysis.notes if note.about in about)


def _absent(analysis: Analysis, what: str, *about: str) -> str:
    """The reason why a section has no numbers, never silence."""
    reasons = [
        note.text
        for note in analysis.notes
        if note.about in about and note.kind in ("asked", "refused", "undetermined")
    ]
    reason = " ".join(reasons) or "The design of this table does not give it."
    return f'<p class="none">No {_text(what)}. {_text(reason)}</p>'


Draw = Callable[..., str]


def _figure(
    analysis: Analysis, figures: Mapping[str, str], name: str, target: str | None = None
) -> str:
    """A captioned figure, or nothing where it was not drawn."""
    key = figure_name(analysis, name, target or analysis.targets[0])
    if key not in figures:
        return ""
    svg = plots.identified(figures[key], key)
    caption = _text(PLOTS[name].caption)
    svg = svg.replace("<svg ", f'<svg role="img" aria-label="{caption}" ', 1)
    scored = f" Scored on {_text(target or analysis.targets[0])}."
    caption += "" if name == "paths" else scored
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


def _other_targets(analysis: Analysis, figure: Draw, *names: str) -> str:
    """The same figures on the other targets, folded away."""
    folds = []
    for target in analysis.targets[1:]:
        inner = "".join(figure(name, target) for name in names)
        if inner:
            head = f"<summary>Scored on {_text(target)}</summary>"
            folds.append(f"<details>{head}{inner}</details>")
    return "".join(folds)


HEADINGS = {
    "p_infinite": "P(∞)",
    "lambda": "Λ",
    "p_architecture": "P(|arch.| > |corpus|)",
    "low": "95% low",
    "high": "95% high",
    "params_total": "params with embeddings",
    "sd_log": "sd of log loss",
    "fitted": "within the fit",
    "above_low": "95% low",
    "above_high": "95% high",
}
# Counts read better with a suffix; what is exact stays in the sort key and the JSON.
COUNTS = {"params", "params_total", "tokens", "unique_tokens", "flops", "size"}
COUNTS |= {"compute", "small_params", "small_tokens", "fit_params", "fit_tokens"}


# At so many significant digits of every parameter a prediction changes by less than
# 1e-6 of itself: an exponent is multiplied by a logarithm of at most about 30.
DIGITS = 8
EXACT = {"value"}


def _table(frame: pd.DataFrame, caption: str = "", limit: int = 500) -> str:
    """A sortable table of all columns; the JSON holds what is beyond `limit`."""
    numeric = {
        name: pd.api.types.is_numeric_dtype(frame[name])
        and not pd.api.types.is_bool_dtype(frame[name])
        for name in frame
    }
    heads = "".join(
        f'<th scope="col"{" class=num" if numeric[name] else ""}>'
        f"{_text(HEADINGS.get(name, name.replace('_', ' ')))}</th>"
        for name in frame
    )
    rows = [
        "".join(_cell(name, value, numeric[name]) for name, value in row.items())
        for row in frame.head(limit).to_dict("records")
    ]
    if len(frame) > limit:
        caption += f" The first {limit} of {len(frame)} rows; all are in report.json."
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    named = f"<caption>{_text(caption)}</caption>" if caption else ""
    return (
        f'<div class="table"><table>{named}<thead><tr>{heads}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>\n"
    )


def _cell(name: str, value: Any, numeric: bool) -> str:
    if not numeric:
        shown = {True: "yes", False: "no"}.get(value, value)
        missing = isinstance(value, float) and math.isnan(value)
        wrap = ' class="wrap"' if name in ("reason", "box") else ""
        return f"<td{wrap}>{'' if missing else _text(shown)}</td>"
    number = float(value)
    key = "" if math.isnan(number) else repr(number).replace("inf", "Infinity")
    if name in COUNTS:
        shown = words.count(number)
    elif number == int(number) if math.isfinite(number) else False:
        shown = f"{int(number)}" if abs(number) < 1e6 else words.number(number)
    else:
        shown = words.number(number, DIGITS if name in EXACT else 4)
    return f'<td class="num" data-v="{key}">{shown}</td>'


# The sections, in the order in which a reader needs them. The first line of each
# docstring is its heading.


def answer(analysis: Analysis, figure: Draw) -> str:
    """The answer"""
    first, *sentences = summary(analysis)
    lead = _paragraph(first)
    return f'<div class="answer">{lead}{_list(sentences)}</div>'


def standings(analysis: Analysis, figure: Draw) -> str:
    """How every family stands"""
    first = _own(analysis, "standings")
    first = first[first.corpus.isin(first.corpus[:1])]
    rest = analysis.standings.drop(first.index)
    named = {"factor": "data_needed"}
    said = ["corpus", "target", "fit_params", "fit_tokens", "against", "rank"]
    lead = f'<p class="none">{_text(NO_STANDING)}</p>'
    if len(first):
        lead = _paragraph(words.standings(first, analysis.unit))
        lead += figure("standings")
    return "".join(
        [
            lead,
            _other_targets(analysis, figure, "standings"),
            _table(first.drop(columns=said).rename(columns=named)) * bool(len(first)),
            _fold("On the other corpora and targets", rest.rename(columns=named)),
        ]
    )


# In place of the standings on the first target.
NO_STANDING = (
    "No two families, or no cell of new data that all of them have: nothing is set "
    "side by side here."
)


def equivalents(analysis: Analysis, figure: Draw) -> str:
    """What a better architecture is worth in data"""
    frame = analysis.equivalents
    if frame.empty:
        return _absent(analysis, "data-equivalents", "effects", "joint")
    target = analysis.targets[0]
    parts = [
        _paragraph(
            "The data-equivalent of a swap is the factor on the data of the first that "
            "gives the loss of the second, the other factor held fixed: above 1 the "
            "swap is a gain, at 2 it is worth a doubling of the data, and it is "
            "infinite where no amount of data is enough.",
            *words.centre(centres(analysis), analysis.cells.family.nunique()),
        ),
        figure("equivalents"),
        figure("scale"),
        _other_targets(analysis, figure, "equivalents"),
        _about(analysis, "effects"),
    ]
    doubling = plots.at_fitted(_of(analysis.doubling, target))
    if len(doubling):
        caption = f"Beside it: what doubling the data saves ({analysis.unit})"
        parts.append(_fold(caption, doubling))
    told = plots.one_way(frame)
    largest = plots.at_fitted(told)
    both = pd.concat([largest, plots.beyond(told)], ignore_index=True)
    parts.append(
        _fold("Data-equivalents at the largest fitted cell and beyond it", both)
    )
    shown = plots.at_fitted(plots.one_way(_first(analysis, "equivalents")))
    apart = words.disagreements(shown)
    parts.append(_list(apart) or _paragraph(_agreement(shown)))
    every = _table(frame, "Data-equivalents at every cell.")
    parts.append(f"<details><summary>At every cell</summary>{every}</details>")
    return "".join(parts)


def _agreement(frame: pd.DataFrame) -> str:
    methods = list(dict.fromkeys(frame.method))
    if len(methods) < 2:
        return f"One method only, {words.joined(methods)}: nothing to check it against."
    named = words.joined(methods)
    return f"The intervals of the methods ({named}) overlap for every swap."


def ratio(analysis: Analysis, figure: Draw) -> str:
    """Architecture against corpus"""
    frame = analysis.ratios
    if frame.empty:
        return _absent(analysis, "ratio of architecture to corpus", "effects", "joint")
    return "".join(
        [
            _list(words.ratios(plots.at_fitted(_first(analysis, "ratios")))),
            figure("ratios") or _paragraph(NO_RATIO),
            _other_targets(analysis, figure, "ratios"),
            _fold("Ratios at the largest fitted cell", plots.at_fitted(frame)),
        ]
    )


# In place of a figure of ratios that has nothing to show.
NO_RATIO = (
    "No ratio is drawn for this target: where no amount of data makes up for the "
    "corpus, the share of draws says all there is."
)


def currencies(analysis: Analysis, figure: Draw) -> str:
    """The same in parameters and in compute"""
    if analysis.multipliers.empty:
        return _absent(analysis, "parameter- or compute-equivalents", "effects")
    overall = analysis.multipliers
    overall = overall[overall.params.isna() & overall.tokens.isna()]
    crossings = _first(analysis, "crossovers")
    compute = _about(analysis, "compute")
    shown = analysis.multipliers if overall.empty else overall
    return "".join(
        [
            _list(words.crossovers(crossings)),
            figure("compute"),
            compute,
            _fold("Equivalents in parameters and in compute", shown),
            _fold("Crossovers", analysis.crossovers),
            _fold("What each family cost: FLOPs and wall time", analysis.costs),
        ]
    )


def interaction(analysis: Analysis, figure: Draw) -> str:
    """Does an effect change with scale, or with what it goes with?"""
    if analysis.interactions.empty and analysis.agreement.empty:
        return _absent(analysis, "interactions", "effects")
    agreement = "Measured on matched cells against modelled there"
    return "".join(
        [
            _list(words.interactions(_first(analysis, "interactions"))),
            figure("interactions"),
            _fold("All comparisons", analysis.interactions),
            _fold(agreement, analysis.agreement),
        ]
    )


def decision(analysis: Analysis, figure: Draw) -> str:
    """Which family is best at which compute"""
    if analysis.decisions.empty:
        about = ("effects", "joint", "compute")
        return _absent(analysis, "ranking of families", *about)
    return "".join(
        [
            _list(words.decisions(plots.leading(_first(analysis, "decisions")))),
            figure("decisions"),
            _about(analysis, "compute"),
            _fold("All computes and targets", analysis.decisions),
        ]
    )


def verdict(analysis: Analysis, figure: Draw) -> str:
    """What moves the verdict"""
    if analysis.verdicts.empty:
        return _absent(analysis, "other choices tried", "effects")
    return "".join(
        [
            _list(words.moved(_first(analysis, "verdicts"), analysis.agreement)),
            figure("verdicts"),
            _fold("Every choice", analysis.verdicts),
            _fold("Every model within 4 AICc", analysis.model_multipliers),
        ]
    )


def sharing(analysis: Analysis, figure: Draw) -> str:
    """What families and corpora share"""
    if analysis.nested.empty:
        return _absent(analysis, "nested models", "joint", "effects")
    return "".join(
        [
            _list(words.shared(_first(analysis, "nested"))),
            _fold("Likelihood ratios", analysis.nested),
            _fold("Models", analysis.models),
        ]
    )


def _fold(title: str, frame: pd.DataFrame) -> str:
    """A table folded away under its title; nothing where it has no rows."""
    if frame.empty:
        return ""
    rows = "1 row" if len(frame) == 1 else f"{len(frame)} rows"
    head = f"<summary>{_text(title)} ({rows})</summary>"
    return f"<details>{head}{_table(frame)}</details>"


def surface(analysis: Analysis, figure: Draw) -> str:
    """Equal loss, equal compute, and the best split"""
    if analysis.isolosses.empty and analysis.isoflops.empty:
        return _absent(analysis, "fitted surface", "fits", "joint")
    return "".join(
        [
            figure("isolosses"),
            figure("isoflops"),
            _list(words.powers(_first(analysis, "powers"))),
            figure("optima") or _paragraph(*words.no_optimum(analysis.optima)),
            _fold("The compute-optimal path", analysis.frontier),
            _fold("Best sizes by methods without a law", analysis.optima),
            _fold("Their powers of compute", analysis.powers),
        ]
    )


def loss(analysis: Analysis, figure: Draw) -> str:
    """Loss against data"""
    if analysis.cells.empty:
        return _absent(analysis, "usable cells", "table", "fits")
    return "".join(
        [
            figure("loss"),
            _other_targets(analysis, figure, "loss"),
            figure("design"),
            "<details><summary>All cells</summary>",
            _table(analysis.cells, "Best run of each cell."),
            "</details>",
        ]
    )


def fits(analysis: Analysis, figure: Draw) -> str:
    """The law of each family and corpus"""
    if analysis.fits.empty:
        missing = _absent(analysis, "fits", "fits") + _about(analysis, "fits")
        return missing + _truth(analysis)
    laws = words.joined(dict.fromkeys(analysis.fits.law))
    return "".join(
        [
            _paragraph(f"Fitted on log loss: {laws}."),
            figure("fits"),
            _about(analysis, "fits"),
            _truth(analysis),
            _fold("Parameters with 95% intervals", analysis.fits),
            _fold(
                "Quality: gap is to the best of all starts, agree the share of starts "
                "that end there",
                analysis.quality,
            ),
        ]
    )


def _truth(analysis: Analysis) -> str:
    """The fitted floors beside the truth, or nothing where none is known."""
    if analysis.truth.empty:
        return ""
    lead = _paragraph(
        "What infinite size and data would leave of the loss, by the laws, beside the "
        "loss of the true chances on the same documents:"
    )
    told = _list(known_floor.said(analysis.truth, analysis.unit))
    return lead + told + _fold("Fitted floors beside the truth", analysis.truth)


def joint(analysis: Analysis, figure: Draw) -> str:
    """One law for all: multipliers of families and corpora"""
    if analysis.joint.empty:
        return _absent(analysis, "joint law", "joint")
    return "".join(
        [
            figure("joint"),
            _about(analysis, "joint"),
            _fold("Parameters of the joint law", analysis.joint),
        ]
    )


def variance(analysis: Analysis, figure: Draw) -> str:
    """Share of the variance by factor"""
    if analysis.variance.empty:
        return _absent(analysis, "shares of variance", "variance")
    mine = _of(analysis.variance, analysis.targets[0])
    return "".join(
        [
            _paragraph(words.variance(mine)) if len(mine) else "",
            figure("variance"),
            _about(analysis, "variance"),
            _table(analysis.variance, "Shares hold on the stated box and no other."),
            figure("shares"),
            _fold("Shares of the measured losses", analysis.shares),
        ]
    )


def noise(analysis: Analysis, figure: Draw) -> str:
    """Seeds: the noise level beside the lack of fit"""
    lead = [words.fitness(row) for row in _first(analysis, "fitness").itertuples()]
    lead += [words.seeds(row) for row in _first(analysis, "seed_checks").itertuples()]
    if analysis.noise.empty:
        missing = _absent(analysis, "noise level: no cell has two seeds", "noise")
        return missing + _paragraph(*lead)
    return "".join(
        [
            _paragraph(*lead),
            figure("noise"),
            _about(analysis, "noise"),
            _fold("Lack of fit beside the seeds", analysis.fitness),
            _fold("The density's spread beside the seeds", analysis.seed_checks),
            _fold("Seeds of every cell", analysis.noise),
        ]
    )


def holdout(analysis: Analysis, figure: Draw) -> str:
    """The largest cells, withheld and predicted"""
    if analysis.holdout.empty:
        return _absent(analysis, "withheld cells", "holdout")
    mine = _first(analysis, "holdout")
    return "".join(
        [
            _list(words.holdout(mine)),
            figure("holdout"),
            _about(analysis, "holdout"),
            _fold("Withheld cells", analysis.holdout),
            _fold("How well each law extrapolates", analysis.extrapolation),
        ]
    )


def residuals(analysis: Analysis, figure: Draw) -> str:
    """Residuals"""
    if analysis.residuals.empty:
        return _absent(analysis, "residuals", "fits")
    worst = analysis.residuals.residual.abs().sort_values(ascending=False).index
    table = _table(analysis.residuals.loc[worst], "Residuals, the largest first.")
    fold = f"<details><summary>All residuals</summary>{table}</details>"
    return figure("residuals") + fold


def doubts(analysis: Analysis, figure: Draw) -> str:
    """What the fit hangs on: single runs, delta, profiles"""
    frames = (analysis.influence, analysis.sweeps, analysis.profiles)
    if all(frame.empty for frame in frames):
        return _absent(analysis, "influence of single runs", "joint", "fits")
    strongest = analysis.influence.spreads.abs().sort_values(ascending=False).index
    return "".join(
        [
            _list(words.influential(_first(analysis, "influence"))),
            figure("influence"),
            figure("sweeps"),
            figure("profiles"),
            _fold("Every run left out", analysis.influence.loc[strongest]),
            _fold("Every delta", analysis.sweeps),
            _fold("Profiles", analysis.profiles),
        ]
    )


def tuning(analysis: Analysis, figure: Draw) -> str:
    """Tuning: was every family given its best rate?"""
    if analysis.tuning.empty:
        missing = _absent(analysis, "tuning runs: one rate per cell", "tuning")
        return missing + _about(analysis, "tuning")
    cells = _first(analysis, "cells")
    several = cells[cells.rates > 1]
    edges = int(several.edge.ne("").sum())
    said = (
        f"{len(several)} of {len(cells)} cells were tried at two or more rates; in "
        f"{edges} of these the best rate is at the edge of its grid. The other cells "
        "rest on the rate found there."
    )
    fold = f"<details><summary>All rates</summary>{_table(analysis.tuning)}</details>"
    lead = _paragraph(said) + figure("tuning")
    return lead + _about(analysis, "tuning") + fold


def paths(analysis: Analysis, figure: Draw) -> str:
    """Loss curves of all runs"""
    if analysis.paths.empty:
        return _absent(analysis, "loss curves", "table")
    return figure("paths")


def runs(analysis: Analysis, figure: Draw) -> str:
    """Runs, and what was left out"""
    unnamed = _unnamed(analysis)
    ids = analysis.exclusions.run_id.nunique() + unnamed
    count = len(analysis.runs) + unnamed
    said = f"{count} runs; {ids} of them or of those planned left out of"
    listed = _fold("Left out, each with its reason", analysis.exclusions)
    return "".join(
        [
            _paragraph(f"{said} one fit or of all."),
            _fold("Left out, counted by reason", analysis.excluded),
            listed,
            _about(analysis, "table"),
            _fold("All runs", analysis.runs),
            _list(run_times.sentences(analysis.estimates)),
            _fold("Measured over estimated time", analysis.estimates),
        ]
    )


def limits(analysis: Analysis, figure: Draw) -> str:
    """What cannot be concluded"""
    chosen = [note for note in analysis.notes if note.kind in words.LIMITS]
    return _list(unsaid(analysis)) + _notes(chosen)


def method(analysis: Analysis, figure: Draw) -> str:
    """How it was computed"""
    laws = words.joined(dict.fromkeys(analysis.quality.law)) or "none"
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
        f"interval decides it (a comparison: {words.percent(words.DECIDES)} of draws).",
        f"The figures are also in figures/, all numbers in report.json. {versions}.",
    ]
    return _list(lines)


SECTIONS: tuple[Callable[[Analysis, Draw], str], ...] = (
    answer,
    standings,
    equivalents,
    ratio,
    currencies,
    interaction,
    decision,
    verdict,
    loss,
    surface,
    fits,
    joint,
    sharing,
    variance,
    noise,
    holdout,
    residuals,
    doubts,
    tuning,
    paths,
    runs,
    limits,
    method,
)


def _first(analysis: Analysis, name: str) -> pd.DataFrame:
    """Rows of the first target, of swaps those that are told."""
    return _of(getattr(foremost(analysis), name), analysis.targets[0])


def extent(analysis: Analysis) -> str:
    """One line on what was measured."""
    runs, used = analysis.runs, int(analysis.runs.used.sum())
    # A row that was left out may give any number for its size.
    sized = runs[runs.used] if used else runs
    families, corpora = runs.family.nunique(), runs.corpus.nunique()
    sizes, budgets = _range(sized.params), _range(sized.tokens)
    return (
        f"{len(runs) + _unnamed(analysis)} runs ({used} fitted), {families} "
        f"{'family' if families == 1 else 'families'}, {corpora} "
        f"{'corpus' if corpora == 1 else 'corpora'}; {sizes} parameters, "
        f"{budgets} training tokens; losses in {analysis.unit} on "
        f"{words.joined(analysis.targets)}."
    )


def _unnamed(analysis: Analysis) -> int:
    """Rows of the table that are counted but not listed."""
    return int(analysis.excluded.unnamed.sum())


def _range(values: pd.Series) -> str:
    low, high = words.count(values.min()), words.count(values.max())
    return low if low == high else f"{low} to {high}"


def unsaid(analysis: Analysis) -> list[str]:
    """What the grid is too small for, from its extent and its open intervals."""
    runs = analysis.runs[analysis.runs.used]
    sentences = []
    if len(runs):
        sentences.append(
            f"Nothing outside {_range(runs.params)} parameters (a factor "
            f"{words.number(runs.params.max() / runs.params.min(), 2)}) and "
            f"{_range(runs.tokens)} tokens (a factor "
            f"{words.number(runs.tokens.max() / runs.tokens.min(), 2)}) was measured: "
            "what the laws say beyond is extrapolation."
        )
    found = headline(foremost(analysis).equivalents, analysis.targets[0])
    lies = [words.verdict(row.low, row.high, 1.0) for row in found.itertuples()]
    open_ = list(itertools.compress(found.itertuples(), _are(lies, "undetermined")))
    if open_:
        swaps = words.joined(
            dict.fromkeys(f"{row.source} → {row.to} ({row.held})" for row in open_)
        )
        sentences.append(f"Gain or loss {words.UNDETERMINED}: {swaps}.")
    never = found[found.p_infinite > 0]
    if len(never):
        swaps = words.joined(
            f"{row.source} → {row.to} ({row.held}; {words.percent(row.p_infinite)} of "
            "draws)"
            for row in never.itertuples()
        )
        sentences.append(f"An upper end cannot be given to {swaps}.")
    if analysis.noise.empty:
        sentences.append(
            "No cell has two seeds, so whether the laws miss more than noise "
            f"{words.UNDETERMINED}."
        )
    return sentences


def _are(values: Iterable[Any], wanted: Any) -> list[bool]:
    return [value == wanted for value in values]
