"""What a LawFit says, draws and stores; analysis/surfaces/lawfit.py makes it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.fitting.fit import Fit, Refusal
from analysis.formatting import count, interval_text, joined, number, on
from analysis.inference import intervals
from analysis.report import markup, saved, style
from analysis.report.rows import counts
from analysis.surfaces.surfaces import Fitted, bind, columns_of
from scaling.errors import UserError

if TYPE_CHECKING:
    from analysis.surfaces.lawfit import LawFit

KIND = "law fit"
FRAMES = ("parameters", "quality", "counts", "refused")
MOST_SIZES = 5  # of a panel, so that their lines can be told apart


def summary(fit: LawFit) -> list[str]:
    """A sentence for each fit, each refusal and each target's rows."""
    sentences = []
    heads = ["target", "family", "corpus", "params"]
    rows = fit.parameters
    for key, part in rows.groupby(heads, sort=False, dropna=False) if len(rows) else ():
        target, family, corpus, params = key
        values = joined(
            f"{row.parameter} = {number(row.value)} "
            f"({interval_text(row.low, row.high)})"
            for row in part.itertuples()
        )
        who = "all families" if family == "*" else f"{family}{on(corpus)}"
        size = "" if np.isnan(params) else f" at {count(params)} parameters"
        sentences.append(f"{fit.law}, {who}{size}, target {target}: {values}.")
    for row in fit.refused.itertuples():
        sentences.append(
            f"No {fit.law} law can be fitted to {row.family}{on(str(row.corpus))}, "
            f"target {row.target}: {row.reason}."
        )
    return sentences + [counts(row) for row in fit.counts.itertuples()]


def plot(fit: LawFit, target: str | None = None) -> Figure:
    """Runs and curves of one target, a panel a family and corpus.

    Raises:
      UserError: no such target, or no law that could be fitted to it.
    """
    targets = list(dict.fromkeys(name for name, _ in fit.fits))
    chosen = targets[0] if target is None and targets else target
    fits = [one for name, one in fit.fits if name == chosen and one.theta is not None]
    if not fits:
        known = ", ".join(targets) or "none: every run repeats its data"
        raise UserError("target", chosen, f"give one with a fitted law, of {known}")
    frame = fit.how.draws[str(chosen)].data.frame
    members = list(
        dict.fromkeys((m, f.params) for f in fits for m in fit.members(str(chosen), f))
    )
    of = {(m, f.params): f for f in fits for m in fit.members(str(chosen), f)}
    with style.styled():
        figure = Figure(figsize=(style.WIDTH, 4.0), dpi=style.DPI, layout="constrained")
        columns = min(3, len(members))
        lines = -(-len(members) // columns)
        style.resize(figure, 0.4 + 2.5 * lines)
        panels = style.panels_of(figure, lines, columns).ravel()
        for axes, key in zip(panels, members, strict=False):
            (family, corpus), _ = key
            part = frame[(frame.family == family) & (frame.corpus == corpus)]
            _panel(axes, fit, of[key], part)
            axes.set_title(f"{family}{on(corpus)}")
        for axes in panels[len(members) :]:
            axes.set_axis_off()
        figure.supxlabel("training tokens", fontsize=8.5)
        scored = "" if chosen == "loss" else f" on {chosen}"
        figure.supylabel(f"loss{scored}", fontsize=8.5)
    return figure


def _panel(axes: Axes, fit: LawFit, fitted: Fitted, part: pd.DataFrame) -> None:
    """One family's runs on one corpus, and the law's curve at some of its sizes."""
    assert fitted.theta is not None
    sizes = np.array(sorted(part.params.unique()))
    if np.isfinite(fitted.params):
        sizes = np.array([fitted.params])
        at = part.params.to_numpy()
        part = part[np.abs(np.log(at / fitted.params)) < np.log(1.1)]
    picked = np.linspace(0, len(sizes) - 1, min(MOST_SIZES, len(sizes))).round()
    tokens = np.geomspace(part.tokens.min(), part.tokens.max(), 40)
    axes.set_xscale("log")
    axes.plot(part.tokens, part.loss, "o", color=style.FAINT, ms=2.5)
    for rung, size in enumerate(sizes[picked.astype(int)]):
        columns = {"params": np.full(40, size), "tokens": tokens}
        columns |= {"unique_tokens": tokens, "quality": np.ones(40)}
        for name, level, known in zip(
            ("family", "corpus"),
            (part.family.iloc[0], part.corpus.iloc[0]),
            fit.names,
            strict=True,
        ):
            columns[name] = np.full(40, known.index(level))
        curve = fitted.law.predict(fitted.theta, columns)
        low, high = intervals.interval(curve[1:])
        colour = style.PALETTE[rung % len(style.PALETTE)]
        axes.fill_between(tokens, low, high, color=colour, alpha=0.13, lw=0)
        axes.plot(tokens, curve[0], color=colour, label=f"{count(size)} parameters")
    axes.legend(fontsize=6.5)


def in_notebook(fit: LawFit) -> str:
    """The sentences and the parameters, for a notebook's output cell."""
    head = f"<h3>{markup.text_of(fit.law)}</h3>"
    table = "" if fit.parameters.empty else markup.table(fit.parameters)
    return head + markup.bullets(fit.summary()) + table


def to_json(fit: LawFit) -> dict[str, Any]:
    """All of a LawFit: its frames, the runs that it saw, and what they gave."""
    frames = {name: getattr(fit, name) for name in FRAMES}
    frames |= {f"runs:{name}": d.data.frame for name, d in fit.how.draws.items()}
    return {
        "schema": saved.SCHEMA,
        "kind": KIND,
        "law": fit.law,
        "names": fit.names,
        "draws": {
            name: [len(drawn), drawn.seed, drawn.scheme]
            for name, drawn in fit.how.draws.items()
        },
        "delta": saved.encoded(fit.how.delta),
        "seed": fit.how.seed,
        "fits": [[target, _fitted_json(one)] for target, one in fit.fits],
        "types": saved.types(frames),
        "frames": {name: saved.frame_json(frame) for name, frame in frames.items()},
    }


def from_json(body: Mapping[str, Any]) -> LawFit:
    """Inverse of `to_json`.

    Raises:
      UserError: the law is in a file of the user's own that was not included.
    """
    from analysis.surfaces.lawfit import How, LawFit, check

    check(body["law"])
    frames = saved.frames_of(body)
    drawn = {}
    for target, (draws, seed, scheme) in body["draws"].items():
        data = intervals.sample(frames.pop(f"runs:{target}"))
        drawn[target] = intervals.draw(data, draws, seed, scheme)
    fits = [
        (target, _fitted(one, body["law"], drawn[target]))
        for target, one in body["fits"]
    ]
    families, corpora = (tuple(names) for names in body["names"])
    return LawFit(
        law=body["law"],
        **frames,
        fits=tuple(fits),
        names=(families, corpora),
        how=How(drawn, float(body["delta"]), body["seed"]),
    )


def _fitted_json(fitted: Fitted) -> dict[str, Any]:
    outcome: dict[str, Any]
    if isinstance(fitted.outcome, Refusal):
        outcome = {"reason": fitted.outcome.reason}
    else:
        fields = {f.name for f in dataclasses.fields(Fit)} - {"law"}
        outcome = {name: getattr(fitted.outcome, name) for name in fields}
        outcome = {name: _plain(value) for name, value in outcome.items()}
    return {
        "head": [fitted.family, fitted.corpus, saved.encoded(fitted.params)],
        "rows": np.flatnonzero(fitted.rows).tolist(),
        "theta": None if fitted.theta is None else _plain(fitted.theta),
        "outcome": outcome,
    }


def _fitted(body: Mapping[str, Any], name: str, drawn: intervals.Draws) -> Fitted:
    rows = np.zeros(drawn.data.loss.size, bool)
    rows[body["rows"]] = True
    columns = columns_of(drawn.data, rows)
    law = bind(name, columns, drawn.data)
    columns = {key: columns[key] for key in ("params", "tokens", *law.columns)}
    family, corpus, params = body["head"]
    said = body["outcome"]
    outcome: Fit | Refusal
    if "reason" in said:
        outcome = Refusal(law.name, said["reason"])
    else:
        parts: dict[str, Any] = {"law": law, "at_bound": tuple(said["at_bound"])}
        arrays = ("theta", "values", "ends")
        parts |= {key: np.array(said[key], float) for key in arrays}
        parts |= {"rows": said["rows"], "scale": said["scale"]}
        left = {f.name for f in dataclasses.fields(Fit)} - set(parts)
        parts |= {key: float(said[key]) for key in left}
        outcome = Fit(**parts)
    theta = None if body["theta"] is None else np.array(body["theta"], float)
    return Fitted(law, family, corpus, float(params), rows, outcome, theta, columns)


def _plain(value: Any) -> Any:
    """Arrays as lists, and numbers that JSON lacks as strings."""
    if isinstance(value, np.ndarray | list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, float | np.floating):
        return saved.encoded(float(value))
    return int(value) if isinstance(value, np.integer) else value
