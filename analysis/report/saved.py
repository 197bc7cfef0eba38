"""An Analysis as JSON, and back to the last bit."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from etils import epath

from analysis import schema
from analysis.formatting import some
from analysis.report.answer import summary
from analysis.report.checklist import checklist
from analysis.report.front import front
from analysis.results import Analysis, Note
from scaling.errors import UserError
from scaling.writing import write_atomic

SCHEMA = 1


def dumped(body: Any) -> bytes:
    return json.dumps(body, indent=1, allow_nan=False).encode()


def save(analysis: Analysis, path: str | os.PathLike[str]) -> None:
    """Writes all of an Analysis as JSON, from which `read` gives it back."""
    write_atomic(epath.Path(path), dumped(to_json(analysis)))


def read(path: str | os.PathLike[str]) -> Any:
    """What a file was saved from: an Analysis (a report.json is one) or a LawFit.

    Args:
      path: of the file, local or gs://.

    Returns:
      The result, equal to the last bit to the one that was saved.

    Raises:
      UserError: no such file, not one that a result was saved to, or one of another
        version with other columns.

    >>> result.save("result.json")
    >>> analysis.read("result.json").targets
    ('loss',)
    """
    from analysis.report import law_fit

    name = os.fspath(path)
    try:
        body = json.loads(epath.Path(path).read_text())
    except OSError as error:
        raise UserError("path", name, f"cannot be read: {error.strerror}") from error
    except ValueError as error:  # no JSON, or no text
        raise UserError("path", name, "give a file written by save()") from error
    if not isinstance(body, dict) or body.get("schema") != SCHEMA:
        raise UserError("path", name, f"give a result of schema {SCHEMA}, as saved now")
    if "kind" in body:
        return law_fit.from_json(body)
    lacking = _lacking(body)
    if lacking:
        saved_by = body.get("versions", {}).get("datalaw", "that is not known")
        raise UserError(
            "path",
            name,
            f"it was saved by version {saved_by} of datalaw, in which {lacking}; this "
            f"is version {versions()['datalaw']}: write the report again from its "
            "table (scaling-analysis report TABLE)",
        )
    return from_json(body)


def _lacking(body: Mapping[str, Any]) -> str:
    """What a saved analysis lacks of what questions read now, in words."""
    if "counted" not in body:
        return "results do not say what their budgets count"
    known = schema.frames()
    for name, columns in body.get("frames", {}).items():
        asked = known[name].names if name in known else []
        gone = [column for column in asked if column not in columns]
        if gone and any(map(len, columns.values())):
            return f"the frame {name} has no {some(gone)}"
    return ""


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
        "counted": analysis.counted,
        "targets": list(analysis.targets),
        "encoding": 'in number columns "NaN", "Infinity" and "-Infinity" are numbers; '
        "in columns of text null is none",
        "front": dataclasses.asdict(front(analysis)),
        "answer": summary(analysis),
        "checklist": checklist(analysis),
        "notes": [dataclasses.asdict(note) for note in analysis.notes],
        "types": types(frames),
        "frames": {name: frame_json(frame) for name, frame in frames.items()},
        "versions": versions(),
    }


def from_json(body: Mapping[str, Any]) -> Analysis:
    """Inverse of `to_json`. Raises ValueError for another schema."""
    if body.get("schema") != SCHEMA:
        raise ValueError(f"schema {body.get('schema')!r}, not {SCHEMA}")
    frames = frames_of(body)
    # Those of a question in a user's own file, which need not be included to read them.
    others = {name: frames.pop(name) for name in set(frames) - set(schema.frames())}
    analysis = Analysis.of(
        title=body["title"],
        unit=body["unit"],
        targets=tuple(body["targets"]),
        notes=tuple(Note(**note) for note in body["notes"]),
        counted=body["counted"],
        **frames,
    )
    return analysis.replace(**others)


def types(frames: Mapping[str, pd.DataFrame]) -> dict[str, dict[str, str]]:
    """The type of every column of every frame."""
    return {
        name: {str(column): str(kind) for column, kind in frame.dtypes.items()}
        for name, frame in frames.items()
    }


def frames_of(body: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """The frames of a saved result, as they were."""
    return {
        name: pd.DataFrame(
            {
                column: _decode(values, body["types"][name][column])
                for column, values in columns.items()
            }
        )
        for name, columns in body["frames"].items()
    }


def frame_json(frame: pd.DataFrame) -> dict[str, list[Any]]:
    """A frame by column, at full precision and without what JSON has no word for."""
    return {str(column): _encode(frame[column]) for column in frame}


def _encode(column: pd.Series) -> list[Any]:
    if str(column.dtype) == "str":  # "NaN" may be a text that somebody wrote
        return [None if pd.isna(value) else value for value in column.tolist()]
    return [
        encoded(value) if isinstance(value, float) else value
        for value in column.tolist()
    ]


def encoded(value: float) -> float | str:
    """A float as it is, or the string that stands for what JSON lacks."""
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


def versions() -> dict[str, str]:
    names = ("datalaw", "numpy", "pandas", "scipy", "matplotlib")
    return {name: importlib.metadata.version(name) for name in names}
