"""Folders of runs as trackers leave them: one row a run, and its curve beside it.

A run is a folder or a file. Its row is its final reading: the last value that it logged
of each quantity. Its facts (parameters, tokens, rates) stand in what the tracker wrote,
in a file of settings beside the run, or in `runs.csv` at the top of the folder, whose
column `run` names the runs; a name of a file or folder is never parsed for one.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.tables import files, headers, nested, numbers
from analysis.tables.table import PATH
from scaling.errors import UserError

# Files of settings, as W&B, Hugging Face, Lightning and Hydra call them.
SETTINGS = tuple(
    f"{name}.{kind}"
    for name in ("config", "hparams", "params", "args", "settings", "facts")
    for kind in ("json", "yaml", "yml")
)
SUMMARY = "wandb-summary.json"
STATE = "trainer_state.json"
EVENTS = "events.out.tfevents"
SIDECAR = "runs.csv"
# What counts the steps of a history.
STEPS = ("step", "_step", "global_step", "trainer/global_step", "iteration", "iter")
# Losses of text that was held out, the best known first, and of training.
HELD_OUT = ("val_loss", "eval_loss", "validation_loss", "valid_loss", "test_loss")
TRAINING = ("train_loss", "training_loss", "loss")
TOKENS = ("tokens", "tokens_seen", "num_tokens", "num_input_tokens_seen", "n_tokens")
# How deep runs are looked for: GROUP/FAMILY/RUN/checkpoint-N.
DEPTH = 4
# Points of a curve that a figure can show.
POINTS = 200
# A reading of an earlier step than this share of the last is said to be early.
EARLY = 0.98


@dataclasses.dataclass
class Run:
    """What one run left.

    Attributes:
      name: of its file or folder, within the folder of all.
      place: the file or folder, for messages.
      final: its last readings, by the names under which they were logged.
      facts: settings and counts, by dotted names.
      curve: step, loss, and tokens where they were logged; training loss if there is.
      early: the step of its last reading of the loss, where it is not its last step.
    """

    name: str
    place: str
    final: dict[str, Any]
    facts: dict[str, Any]
    curve: pd.DataFrame
    early: str = ""


@dataclasses.dataclass(frozen=True)
class Folder:
    """The runs of a folder, a row each, their curves, and what is to be said."""

    frame: pd.DataFrame
    paths: pd.DataFrame
    said: tuple[str, ...]


def read(folder: str) -> Folder:
    """Reads a folder of runs. Raises UserError where there are none."""
    top = Path(folder)
    others: list[str] = []
    found = sorted(_runs(top, others), key=lambda run: run.name)
    if not found:
        expected = (
            "a workdir with records/, a file with a table, or a folder of runs: "
            f"{STATE}, TensorBoard events, {SUMMARY}, or a history a run (.csv, .jsonl "
            "or .parquet with a column step)"
        )
        if next(top.glob("*/*/metrics"), None) or next(top.glob("*/metrics"), None):
            expected += (
                "; of a store of MLflow the table that mlflow.search_runs() gives"
            )
        if others:
            expected += f"; {others[0]} is no history: give it alone if it is a table"
        raise UserError("table", folder, expected)
    lists: set[str] = set()
    rows = []
    for run in found:
        facts = nested.flat(run.facts, lists)
        # What was measured wins over a setting of the same name.
        clash = {f"config.{k}": v for k, v in facts.items() if k in run.final}
        free = {k: v for k, v in facts.items() if k not in run.final}
        rows.append({"run_id": run.name} | free | clash | run.final)
    frame = _with_sidecar(pd.DataFrame(rows), top)
    frame, more = _losses(frame)
    said = [f"{len(found)} runs, of each its final reading", *more]
    early = [f"{run.name}, {run.early}" for run in found if run.early]
    if early:
        said.append(
            f"the last loss is of an earlier step than the last in {len(early)} of "
            f"{len(found)} runs (first {early[0]})"
        )
    if others:
        more_ = f" and {len(others) - 1} more" if len(others) > 1 else ""
        said.append(
            f"left out, since no column counts the steps of a run: {others[0]}{more_}"
        )
    said += nested.left_out(lists)
    return Folder(frame, _paths(found, frame), tuple(said))


def last_of_each(
    frame: pd.DataFrame, mapping: Mapping[str, str | None]
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Of a table with the curves of runs, a row a step, the last row of each run.

    Rows are those of curves where a column names the run and another counts its steps,
    each once. Where trajectories are given, every row is asked for.
    """
    known = {str(c).strip().lower(): c for c in frame.columns}
    run = next((known[n] for n in ("run_id", "run", "run_name") if n in known), None)
    step = next((known[n] for n in STEPS if n in known), None)
    asked = mapping.get("trajectory") or "trajectory" in known or "cluster" in known
    if run is None or step is None or asked or not frame[run].duplicated().any():
        return frame, ()
    at = numbers.read(frame, step, True)
    if (
        at.refused
        or pd.DataFrame({"run": frame[run], "step": at.values})
        .duplicated(keep=False)
        .any()
    ):
        return frame, ()
    order = np.argsort(at.values, kind="stable")
    last = frame.iloc[order].drop_duplicates(run, keep="last").sort_index()
    said = (
        f"the last {step} of each of {len(last)} runs is its reading; "
        f"{len(frame) - len(last)} rows are of curves (--map trajectory={run} takes "
        "all)"
    )
    return last.reset_index(drop=True), (said,)


def _losses(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The frame without losses of training where there is one of held-out text."""
    known = headers.known_as(list(frame.columns))
    held = [c for c in frame.columns if known[c] in HELD_OUT]
    training = [c for c in frame.columns if known[c] in TRAINING]
    if held and training:
        return frame.drop(columns=training), []
    if training:
        return frame, [
            f"{training[0]} is the loss of training: the runs log none of held-out text"
        ]
    return frame, []


def _runs(top: Path, others: list[str]) -> Iterator[Run]:
    """The runs of a folder; files that are tables and no histories go to `others`."""
    states: dict[Path, list[Path]] = {}
    events: dict[Path, list[Path]] = {}
    taken: set[Path] = set()
    walked = list(_walk(top))
    for place, names in walked:
        if STATE in names:
            # A Trainer keeps its checkpoints in folders of this name.
            parent = place.parent if place.name.startswith("checkpoint-") else place
            run = parent if parent.is_relative_to(top) else place
            states.setdefault(run, []).append(place)
    for run, places in states.items():
        yield _trainer(run, places, top)
    taken |= set(states)
    for place, names in walked:
        if _within(place, taken):
            continue
        if any(name.startswith(EVENTS) for name in names):
            # Writers put settings and parts of a run into folders of their own.
            above = next((run for run in events if place.is_relative_to(run)), place)
            parts = ("train", "validation", "val", "eval", "test")
            if above == place and place.name in parts and place != top:
                above = place.parent
            events.setdefault(above, []).append(place)
    if events:
        from analysis.tables import events as events_

        for run, places in events.items():
            history, step, settings = events_.read(run, places)
            facts = settings | _settings(run)
            yield _from_history(_name(run, top), run, history, step, facts)
    taken |= set(events)
    for place, names in walked:
        if not _within(place, taken):
            yield from _histories(place, names, top, others)


def _within(place: Path, taken: set[Path]) -> bool:
    return any(place.is_relative_to(run) for run in taken)


def _walk(top: Path) -> Iterator[tuple[Path, list[str]]]:
    for place, folders, names in os.walk(top):
        folders[:] = sorted(x for x in folders if x[0] != "." and x != "report")
        if len(Path(place).relative_to(top).parts) >= DEPTH:
            folders.clear()
        yield Path(place), sorted(name for name in names if name[0] != ".")


def _name(run: Path, top: Path) -> str:
    name = run.relative_to(top).as_posix()
    return top.resolve().name if name == "." else name


def _histories(
    place: Path, names: list[str], top: Path, others: list[str]
) -> Iterator[Run]:
    """Runs whose histories are tables, and those of which W&B keeps a summary alone."""
    if SUMMARY in names:
        # W&B keeps settings and summary in RUN/files.
        run = place.parent if place.name == "files" and place != top else place
        final = nested.flat(_json(place / SUMMARY), set())
        yield Run(_name(run, top), str(run), final, _settings(place), pd.DataFrame())
        return
    own = (*SETTINGS, STATE, SUMMARY)
    # Settings of a run that is a file stand beside it, under its name.
    found = [n for n in names if n not in own and _is_history(n)]
    if place == top and SIDECAR in found:
        found.remove(SIDECAR)
    for name in found:
        frame, _ = files.read(str(place / name))
        step = _counts_steps(frame)
        if not step:
            others.append(str(place / name))
            continue
        alone = len(found) == 1 and place != top
        whole = place / files.title(name)
        facts = _settings(place) if alone else _beside(whole)
        called = _name(place if alone else whole, top)
        yield _from_history(called, place / name, frame, step, facts)


def _is_history(name: str) -> bool:
    """Whether a file's name is that of a history; settings are JSON documents."""
    return files.unpacked_name(name).lower().endswith(HISTORIES)


HISTORIES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet", ".feather", ".arrow")


def _counts_steps(frame: pd.DataFrame) -> str:
    """The column that counts the steps of a history, "" for a table of other things.

    That is one of steps or, where it has none, of tokens or epochs that never repeat.
    """
    names = [str(c) for c in frame.columns]
    steps = [c for c in names if c.strip().lower() in STEPS]
    if steps:
        return steps[0]
    known = headers.known_as(names)
    for column in (_named(known, TOKENS), _named(known, ("epoch", "epochs"))):
        if column and len(frame) > 1 and frame[column].is_unique:
            return column
    return ""


def _from_history(
    name: str,
    place: Path,
    history: pd.DataFrame,
    step: str,
    facts: dict[str, Any],
) -> Run:
    """A run from what it logged, a row a step; a cell may be empty in any row.

    Args:
      step: the column that counts the steps.
    """
    history = history.set_axis(headers.stripped(history.columns), axis=1)
    at = numbers.read(history, step.strip(), True)
    if at.refused:
        raise UserError("table", str(place), f"a number in {step}; {at.refused}")
    history = history.assign(**{step.strip(): at.values})
    history = history[~np.isnan(at.values)].sort_values(step.strip(), kind="stable")
    if history.empty:
        raise UserError("table", str(place), f"at least one row with a {step}")
    final = {}
    for column in history.columns:
        kept = history[column].dropna()
        if len(kept):
            final[column] = kept.iloc[-1]
    known = headers.known_as(list(history.columns))
    loss = _named(known, HELD_OUT) or _named(known, TRAINING)
    last = float(history[step.strip()].iloc[-1])
    seen = history[step.strip()][history[loss].notna()] if loss else history.iloc[:0]
    early = ""
    if len(seen) and seen.iloc[-1] < EARLY * last:
        early = f"{seen.iloc[-1]:g} of {last:g}"
    curve = _curve(history, step.strip(), known)
    return Run(name, str(place), final, facts, curve, early)


def _named(known: Mapping[str, str], names: tuple[str, ...]) -> str:
    """The first column that is known by one of these names, "" for none."""
    by_name: dict[str, str] = {}
    for column, name in known.items():
        by_name.setdefault(name, column)
    return next((by_name[name] for name in names if name in by_name), "")


def _curve(history: pd.DataFrame, step: str, known: Mapping[str, str]) -> pd.DataFrame:
    loss = _named(known, TRAINING) or _named(known, HELD_OUT)
    if not loss:
        return pd.DataFrame()
    tokens = _named(known, TOKENS)
    out = pd.DataFrame({"step": history[step], "loss": _values(history, loss)})
    if tokens:
        out["tokens"] = _values(history, tokens, True)
    out = out[np.isfinite(out.loss)].reset_index(drop=True)
    at = np.unique(np.linspace(0, max(0, len(out) - 1), POINTS).round().astype(int))
    return out.iloc[at] if len(out) else out


def _values(history: pd.DataFrame, column: str, count: bool = False) -> np.ndarray:
    return numbers.read(history, column, count).values


def _paths(found: list[Run], frame: pd.DataFrame) -> pd.DataFrame:
    """The curves of all runs, with tokens by step where they were not logged."""
    tokens = _named(headers.known_as(list(frame.columns)), (*TOKENS, "d"))
    seen = _values(frame, tokens, True) if tokens else np.full(len(frame), np.nan)
    total = dict(zip(frame.run_id, seen, strict=True))
    parts = []
    for run in found:
        if run.curve.empty:
            continue
        part = run.curve.assign(run_id=run.name)
        if "tokens" not in part:
            last = max(1.0, float(part.step.max()))
            part["tokens"] = part.step * (total.get(run.name, np.nan) / last)
        parts.append(part[np.isfinite(part.tokens)][PATH])
    if not parts:
        return pd.DataFrame(columns=PATH)
    return pd.concat(parts, ignore_index=True)


def _trainer(run: Path, places: list[Path], top: Path) -> Run:
    """A run of Hugging Face's Trainer: its state at the latest step."""
    states = [(_json(place / STATE), place) for place in places]
    state, place = max(states, key=lambda pair: pair[0].get("global_step") or 0)
    log = state.get("log_history")
    if not isinstance(log, list) or not all(isinstance(row, dict) for row in log):
        expected = "a trainer_state.json with a list log_history"
        raise UserError("table", str(place / STATE), expected)
    final: dict[str, Any] = {}
    for row in log:
        final |= {k: v for k, v in row.items() if not isinstance(v, dict | list)}
    # Each set of several has its own: eval_NAME_loss.
    sets = [k for k in final if k.startswith("eval_") and k.endswith("_loss")]
    for key in [k for k in sets if k != "eval_loss"]:
        final["loss:" + key[len("eval_") : -len("_loss")]] = final.pop(key)
    # It logs 0 where it was not asked to count (include_num_input_tokens_seen).
    for ours, key in (("tokens", "num_input_tokens_seen"), ("flops", "total_flos")):
        final.pop(key, None)
        if state.get(key):
            final[ours] = state[key]
    # Its rate is that of a schedule at the last step, and no setting.
    final.pop("learning_rate", None)
    steps = pd.DataFrame([row for row in log if "loss" in row and "step" in row])
    curve = pd.DataFrame()
    if len(steps):
        steps = steps.rename(columns={"num_input_tokens_seen": "tokens"})
        curve = _curve(steps, "step", headers.known_as(list(steps.columns)))
    facts = _settings(run) or _settings(place)
    seen = max((r["step"] for r in log if "eval_loss" in r and "step" in r), default=0)
    last = state.get("global_step") or 0
    early = f"{seen} of {last}" if seen and seen < EARLY * last else ""
    return Run(_name(run, top), str(run), final, facts, curve, early)


def _settings(place: Path) -> dict[str, Any]:
    """What files of settings in a folder say; none where there are none."""
    out: dict[str, Any] = {}
    for name in SETTINGS:
        if (place / name).is_file():
            out |= _document(place / name)
    return out


def _beside(run: Path) -> dict[str, Any]:
    """Settings of a run that is one file: RUN.json, RUN.yaml or RUN.yml beside it."""
    out: dict[str, Any] = {}
    for kind in ("json", "yaml", "yml"):
        place = run.with_name(f"{run.name}.{kind}")
        if place.is_file():
            out |= _document(place)
    return out


def _document(path: Path) -> dict[str, Any]:
    if path.suffix == ".json":
        return _json(path)
    import yaml

    try:
        body = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        expected = f"YAML that can be read ({' '.join(str(error).split())})"
        raise UserError("table", str(path), expected) from error
    return _mapping(path, body or {})


def _json(path: Path) -> dict[str, Any]:
    try:
        return _mapping(path, json.loads(path.read_text(encoding="utf-8-sig")))
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        expected = f"JSON that can be read ({' '.join(str(error).split())})"
        raise UserError("table", str(path), expected) from error


def _mapping(path: Path, body: Any) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise UserError("table", str(path), "names with values, as a JSON object")
    return {str(key): value for key, value in body.items()}


def _with_sidecar(frame: pd.DataFrame, top: Path) -> pd.DataFrame:
    """The runs with what runs.csv at the top says of each."""
    path = top / SIDECAR
    if not path.is_file():
        return frame
    facts, _ = files.read(str(path))
    facts = facts.set_axis(headers.stripped(facts.columns), axis=1)
    if "run" not in facts.columns:
        expected = "a column `run` with the names of the runs, such as "
        raise UserError("table", str(path), expected + repr(frame.run_id.iloc[0]))
    facts = facts.assign(run=facts.run.astype(str))
    if facts.run.duplicated().any():
        twice = facts.run[facts.run.duplicated()].iloc[0]
        raise UserError(
            "table", str(path), f"each run once; {twice} stands there twice"
        )
    unknown = sorted(set(facts.run) - set(frame.run_id))
    if unknown:
        known = ", ".join(frame.run_id[:5])
        expected = f"names of runs of the folder ({known}, ...); {unknown[0]} is none"
        raise UserError("table", str(path), expected)
    kept = frame.drop(columns=[c for c in facts.columns if c in frame.columns])
    return kept.merge(facts, left_on="run_id", right_on="run", how="left").drop(
        columns="run"
    )
