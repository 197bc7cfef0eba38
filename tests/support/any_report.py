"""What must be true of whatever `scaling-analysis` is given: judges one table.

The commands are those that a user types, in this process, with every warning an error.
The analysis is computed once and its three commands share it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import math
import re
import signal
import subprocess
import sys
import traceback
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis import main, pipeline
from analysis.effects import anova
from analysis.fitting import fit
from analysis.inference import profiles
from analysis.questions import leading_law, model_choice, optima, sensitivity
from analysis.questions._question import questions
from analysis.report import answer, canvas, markup, saved, style
from analysis.results import Analysis
from analysis.surfaces import mixture
from analysis.tables import table
from scaling.errors import UserError
from tests.support import any_table

DRAWS = "40"  # the fewest that are allowed
# The same code on fewer draws and steps: what is tried is whether it stands, and not
# how well its intervals cover.
CHEAPER = {
    (leading_law, "PROFILE_DRAWS"): 40,
    (optima, "DRAWS"): 20,
    (model_choice, "RATIO_DRAWS"): 40,
    (mixture, "LAW_DRAWS"): 20,
    (sensitivity, "DRAWS"): 20,
    (anova, "RESAMPLES"): 20,
    (fit, "MORE_STEPS"): 20,
    (profiles, "MORE_STEPS"): 20,
    # The figures' PNG are looked at by nobody here; the layout is in inches.
    (style, "DPI"): 50,
    # In this process, where what is drawn is looked at.
    (main.os, "cpu_count"): lambda: 1,
}
OUTCOMES = ("reported", "refused", "traceback", "warning", "hang", "wrong")


@dataclasses.dataclass(frozen=True)
class Judged:
    """How a table ended: one of `OUTCOMES`, and what was wrong, empty for nothing."""

    outcome: str
    wrong: tuple[str, ...] = ()


def judged(
    chosen: Mapping[str, Any], seed: int, folder: Path, seconds: int = 300
) -> Judged:
    """Writes the table into `folder` and runs report, fit and compare on it."""
    text = any_table.made(chosen, seed)
    path = folder / "runs.csv"
    path.write_text(text, encoding="utf-8")
    rows = len(pd.read_csv(io.StringIO(text), dtype=str))
    options = ["--draws", DRAWS, "--bootstrap", chosen["bootstrap"]]
    try:
        with _strict(), _limited(seconds), _cheaper():
            return _judged(path, rows, options, folder / "report")
    except Warning as error:
        return Judged("warning", (_reported(error),))
    except TimeoutError as error:
        return Judged("hang", (_reported(error),))
    except (Exception, SystemExit) as error:  # whatever it is, a user would see it
        return Judged("traceback", (_reported(error),))


def by_the_command(
    chosen: Mapping[str, Any], seed: int, folder: Path, seconds: int = 300
) -> Judged:
    """The same table through the installed command alone, nothing made cheaper."""
    path = folder / "runs.csv"
    path.write_text(any_table.made(chosen, seed), encoding="utf-8")
    program = Path(sys.executable).with_name("scaling-analysis")
    options = ["--draws", DRAWS, "--out", str(folder / "report")]
    try:
        ended = subprocess.run(
            [program, "report", path, *options],
            capture_output=True,
            text=True,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired as error:
        return Judged("hang", (str(error),))
    said = ended.stdout + ended.stderr
    if ended.returncode not in (main.DONE, main.WRONG, main.NOTHING):
        return Judged("traceback", (said,))
    if re.search(r"^\S+\.py:\d+: \w*Warning: ", said, re.MULTILINE):
        return Judged("warning", (said,))
    refused = ended.returncode == main.WRONG
    return _refused(ended.stderr) if refused else Judged("reported")


def _reported(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)[-14:]).strip()


@contextlib.contextmanager
def _strict() -> Iterator[None]:
    """Every warning is an error, numpy's among them."""
    with warnings.catch_warnings(), np.errstate(all="warn", under="ignore"):
        warnings.simplefilter("error")
        yield


@contextlib.contextmanager
def _cheaper() -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for (module, name), value in CHEAPER.items():
            stack.enter_context(mock.patch.object(module, name, value))
        yield


@contextlib.contextmanager
def _limited(seconds: int) -> Iterator[None]:
    def ring(*_: Any) -> None:
        raise TimeoutError(f"no end after {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _command(*argv: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of one command."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main.main(main.parse(["scaling-analysis", *argv]))
    return code, out.getvalue(), err.getvalue()


def _judged(path: Path, rows: int, options: list[str], folder: Path) -> Judged:
    kept: list[Analysis] = []
    analyse = pipeline.analyse

    def once(loaded: table.Table, **asked: Any) -> Analysis:
        if not kept:
            try:
                kept.append(analyse(loaded, **asked | {"processes": 1, "shown": False}))
            except UserError as error:  # what can be wrong is said when it is read
                wrong.append(f"a table that was read is refused: {_reported(error)}")
                raise
        return kept[0]

    wrong: list[str] = []
    with mock.patch.object(pipeline, "analyse", once), _looked_at(wrong):
        out = ["--out", str(folder)]
        code, said, complained = _command("report", str(path), *options, *out)
        if code == main.WRONG:
            refused = _refused(complained)
            return Judged("wrong", tuple(wrong)) if wrong else refused
        for command in ("fit", "compare"):
            also, printed, _ = _command(command, str(path), *options, "--json")
            _strict_json(printed)
            if also not in (main.DONE, main.NOTHING):
                wrong.append(f"{command} ends with {also} where report gave {code}")
            also, _, _ = _command(command, str(path), *options)
    analysis = kept[0]
    wrong += _whole(analysis, folder)
    wrong += _unlisted(analysis, rows)
    wrong += _silly(analysis, said + complained)
    return Judged("wrong" if wrong else "reported", tuple(wrong))


def _refused(complained: str) -> Judged:
    last = complained.strip().splitlines()
    lines = [line for line in last if line.startswith("scaling-analysis: ")]
    if len(lines) != 1 or last[-1] != lines[0]:
        return Judged("wrong", (f"a refusal of more than a line: {complained}",))
    return Judged("refused", ())


def _strict_json(text: str) -> Any:
    def refuse(token: str) -> None:
        raise ValueError(f"{token} is no JSON")

    return json.loads(text, parse_constant=refuse)


def _whole(analysis: Analysis, folder: Path) -> list[str]:
    """What is wrong with the written report: its JSON, its sections, its figures."""
    wrong = []
    for name in ("report.json", "checklist.json"):
        _strict_json((folder / name).read_text("utf-8"))
    again = saved.read(folder / "report.json")
    for field in dataclasses.fields(analysis):
        one, two = getattr(analysis, field.name), getattr(again, field.name)
        if isinstance(one, pd.DataFrame):
            try:
                pd.testing.assert_frame_equal(one, two, check_exact=True)
            except AssertionError as error:
                wrong.append(f"{field.name} read back differs: {error}")
        elif not _alike(one, two):
            wrong.append(f"{field.name} read back differs")
    page = (folder / "report.html").read_text("utf-8")
    titles = {one.name: markup.text_of(one.title) for one in questions()}
    wrong += [
        f"no section {name}"
        for name in ("answer", *titles, "limits", "method")
        if f'<section id="{name}">' not in page
        and f"<h3>{titles.get(name)}</h3>" not in page
    ]
    return wrong


def _alike(one: Any, two: Any) -> bool:
    """Whether two values are the same, of whatever frames and arrays they are made."""
    if type(one) is not type(two):
        return False
    if isinstance(one, pd.DataFrame):
        return one.equals(two)
    if isinstance(one, np.ndarray):
        return bool(np.array_equal(one, two, equal_nan=one.dtype.kind == "f"))
    if dataclasses.is_dataclass(one):
        return _alike(vars(one), vars(two))
    if isinstance(one, Mapping):
        return one.keys() == two.keys() and all(_alike(one[k], two[k]) for k in one)
    if isinstance(one, tuple | list):
        return len(one) == len(two) and all(map(_alike, one, two))
    return bool(one == two) or (one != one and two != two)


def _scored_on_its_own(analysis: Analysis) -> bool:
    """Whether each run was read on its own corpus alone, as where nothing is said."""
    losses = analysis.runs[[f"loss:{target}" for target in analysis.targets]]
    elsewhere = [
        losses.loc[~_on(analysis.runs.corpus, target), f"loss:{target}"]
        for target in analysis.targets
    ]
    corpora = [_on(analysis.runs.corpus, target).any() for target in analysis.targets]
    return all(corpora) and all(values.isna().all() for values in elsewhere)


def _on(corpus: pd.Series, target: str) -> pd.Series:
    """Which runs read a corpus, whatever was done to its text."""
    return corpus.eq(target) | corpus.astype(str).str.startswith(f"{target}, ")


def _unlisted(analysis: Analysis, rows: int) -> list[str]:
    """Rows of the table that neither a fit saw nor a reason names."""
    wrong = []
    known = len(analysis.runs) + int(analysis.excluded.unnamed.sum())
    if known != rows:
        wrong.append(f"unlisted: {known} of {rows} rows are in the report")
    left = analysis.exclusions
    for target in analysis.targets:
        gone = set(left.run_id[left.target.isin(["", target])])
        asked = analysis.runs
        if _scored_on_its_own(analysis):
            asked = asked[_on(asked.corpus, target)]
        kept = [run_id for run_id in asked.run_id if run_id not in gone]
        joint = analysis.quality[
            (analysis.quality.target == target)
            & (analysis.quality.law == "joint")
            & (analysis.quality.family == "*")
        ]
        seen = int(joint.runs.iloc[0]) if len(joint) else len(kept)
        if seen != len(kept):
            wrong.append(f"unlisted: fits on {target} saw {seen} of {len(kept)} runs")
    unused = analysis.runs.run_id[~analysis.runs.used]
    missing = sorted(set(unused) - set(left.run_id))
    if missing:
        wrong.append(f"unlisted: {missing[:3]} are not used and have no reason")
    return wrong


def _silly(analysis: Analysis, printed: str) -> list[str]:
    """Sentences that show a number that is none."""
    names = {*analysis.runs.family, *analysis.runs.corpus, *analysis.targets}
    # A cell may name a family "inf", and names are made of families and optimisers.
    names |= {
        word for name in names for word in re.split(r"[\s,()]+", str(name)) if word
    }
    texts = [*answer.summary(analysis), *(note.text for note in analysis.notes)]
    texts += printed.splitlines()
    wrong = []
    for text in dict.fromkeys(texts):
        bare = re.sub(r"\bNone of\b", "", text)
        for name in sorted(map(str, names), key=len, reverse=True):
            bare = bare.replace(name, "")
        words = bare.replace("=", " ").replace("(", " ").replace(")", " ").split()
        if {"nan", "inf", "-inf", "nan%", "inf%", "None"} & {
            word.strip(",.:;") for word in words
        }:
            wrong.append(f"a number that is none in: {text}")
    return wrong


@contextlib.contextmanager
def _looked_at(wrong: list[str]) -> Iterator[None]:
    """Figures are looked at as they are drawn; what is wrong goes into the list."""
    render = canvas.render

    def checked(draw: style.Draw, analysis: Any, target: str) -> tuple[str, bytes]:
        seen: list[Figure] = []

        def drawn(figure: Figure, *more: Any) -> None:
            draw(figure, *more)
            seen.append(figure)

        out = render(drawn, analysis, target)
        wrong.extend(f"figure {draw.__name__}: {w}" for w in _empty(seen[0]))
        return out

    with mock.patch.object(canvas, "render", checked):
        yield


def _empty(figure: Figure) -> list[str]:
    """Limits that are no numbers, and a figure in which no panel shows a datum."""
    wrong, shown = [], 0
    for axes in figure.axes:
        if not axes.axison:
            continue
        for low, high in (axes.get_xlim(), axes.get_ylim()):
            if not (math.isfinite(low) and math.isfinite(high) and low != high):
                wrong.append(f"limits {low} to {high}")
        shown += sum(_data(axes, artist) for artist in axes.get_children())
    if not shown:
        wrong.append("nothing in it")
    return wrong


def _data(axes: Any, artist: Any) -> bool:
    """Whether the artist shows at least one finite point in data coordinates."""
    if isinstance(artist, matplotlib.lines.Line2D):
        # A line across the whole panel is no datum.
        if artist.get_transform() != axes.transData:
            return False
        x, y = (np.asarray(v, float) for v in artist.get_data(orig=False))
        return bool((np.isfinite(x) & np.isfinite(y)).any())
    if isinstance(artist, matplotlib.collections.PathCollection):
        return bool(np.isfinite(np.asarray(artist.get_offsets(), float)).any())
    return False
