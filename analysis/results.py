"""The result of an analysis: frames by name, and notes on how far to believe them."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from analysis import schema
from analysis.formatting import TOKENS, worded
from scaling.errors import unknown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from analysis.questions._view import View


@dataclasses.dataclass(frozen=True)
class Note:
    """Something a reader must know before believing a number.

    Attributes:
      kind: "asked" (to be said by the reader before there is an answer), "read" (how
        the table was read), "refused" (cannot be identified), "edge" (optimum at the
        edge of its grid), "bound" (parameter at a bound), "excluded", "disagree",
        "undetermined" or "warning".
      about: which section it belongs to: "table", "tuning", "fits", "joint", "effects"
        (of the design), "swaps" (which are open, a note a target), "compute",
        "variance", "noise", "holdout".
      text: one sentence with the numbers in it.
    """

    kind: str
    about: str
    text: str


@dataclasses.dataclass(frozen=True, repr=False)
class Analysis:
    """All results for one study or table; `print` gives the answer in ten sentences.

    Every frame is an attribute too: `result.equivalents`. `result.describe(name)` says
    what its columns mean. `low` and `high` are 95% intervals everywhere; effects are
    per target (the evaluation set that losses are read on) and never mix targets. A
    frame that a design cannot give is empty, and its reason stands in `notes`.

    Attributes:
      title: of the report.
      unit: what losses are in.
      counted: what the frames' `tokens` are: "tokens", or "pictures".
      targets: the evaluation sets, in order; sentences are about the first.
      frames: by name; see analysis.schema.frames for which there are.
      notes: doubts, refusals and what was left out.
    """

    title: str
    unit: str
    targets: tuple[str, ...]
    frames: Mapping[str, pd.DataFrame]
    notes: tuple[Note, ...] = ()
    counted: str = TOKENS

    @classmethod
    def of(
        cls,
        *,
        title: str,
        unit: str,
        targets: tuple[str, ...],
        notes: tuple[Note, ...] = (),
        counted: str = TOKENS,
        **frames: pd.DataFrame,
    ) -> Analysis:
        """An Analysis of these frames; those not given are empty.

        Args:
          title, unit, targets, notes, counted: as the class has them.
          frames: by name.

        Returns:
          The Analysis.

        Raises:
          UserError: no frame of such a name.

        >>> made = analysis.Analysis.of(title="mine", unit="bits", targets=("web",))
        >>> made.equivalents.empty
        True
        """
        whole = {name: frame.join(()) for name, frame in schema.frames().items()}
        for name in frames:
            if name not in whole:
                raise unknown("frame", name, sorted(whole))
        return cls(title, unit, targets, whole | frames, notes, counted)

    def __getattr__(self, name: str) -> pd.DataFrame:
        frames = self.__dict__.get("frames", {})
        if name not in frames:
            raise AttributeError(f"an Analysis has no frame or attribute {name!r}")
        return frames[name]

    def replace(self, **changes: Any) -> Analysis:
        """The same with other frames, by name, or another title, unit or notes.

        Args:
          changes: fields of the class, or frames by their names.

        Returns:
          A new Analysis; this one stays as it is.

        >>> result.replace(title="two families").title
        'two families'
        """
        fields = {f.name for f in dataclasses.fields(self)} & set(changes)
        plain = {name: changes.pop(name) for name in fields}
        frames = {**self.frames, **plain.pop("frames", {}), **changes}
        return dataclasses.replace(self, frames=frames, **plain)

    def to_frame(self, name: str) -> pd.DataFrame:
        """A copy of one frame.

        Args:
          name: one of those that `describe()` lists.

        Returns:
          The frame; its columns are what `describe(name)` says.

        Raises:
          UserError: no frame of that name.

        >>> result.to_frame("doubling").family.unique().tolist()
        ['lstm', 'transformer']
        """
        if name not in self.frames:
            raise unknown("frame", name, sorted(self.frames))
        return self.frames[name].copy()

    def describe(self, name: str | None = None) -> pd.DataFrame:
        """What a frame's columns mean, or, without a name, what the frames are.

        Args:
          name: of a frame.

        Returns:
          column, unit, meaning; or frame, rows, meaning.

        Raises:
          UserError: no frame of that name.

        >>> result.describe("doubling").query("column == 'gain'").unit.item()
        'unit of the losses'
        """
        known = schema.frames()
        if name is None:
            meanings = {n: known[n].meaning if n in known else "" for n in self.frames}
            every = [(n, len(self.frames[n]), text) for n, text in meanings.items()]
            return pd.DataFrame(every, columns=["frame", "rows", "meaning"])
        if name not in known:
            raise unknown("frame", name, sorted(known))
        of = self.counted
        columns = [(c.name, c.unit, worded(c.meaning, of)) for c in known[name].columns]
        return pd.DataFrame(columns, columns=["column", "unit", "meaning"])

    @functools.cached_property
    def view(self) -> View:
        """What the report shows of it, chosen once.

        Returns:
          Selections of rows that sentences and figures share.

        >>> result.view.target
        'loss'
        """
        from analysis.questions._view import View

        return View(self)

    def summary(self) -> list[str]:
        """The answer in full, on the first target.

        Returns:
          A sentence an entry, the weightiest first.

        >>> result.summary()[1].split(" (")[0]
        'lstm → transformer is worth 2.00 times the data'
        """
        from analysis.report.answer import summary

        return summary(self)

    def plot(self, name: str, target: str | None = None) -> Figure:
        """A figure of the report, as a matplotlib Figure.

        Args:
          name: of a question's figure; a name that is none of them lists all.
          target: the evaluation set; the first one by default.

        Returns:
          A new figure, to show or to change.

        Raises:
          UserError: no such figure or target, or nothing to draw in it.

        >>> len(result.plot("equivalents").axes) > 0
        True
        """
        from analysis.report import figures

        return figures.plot(self, name, target)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes all of it as JSON, from which `analysis.read` gives it back.

        Args:
          path: of the file, local or gs://.

        >>> result.save("result.json")
        """
        from analysis.report import saved

        saved.save(self, path)

    def write_report(self, folder: str | os.PathLike[str]) -> Path:
        """Writes the page, its figures and the JSON.

        Args:
          folder: local or gs://; it is made if it is missing.

        Returns:
          The path of the page.

        Raises:
          UserError: the folder cannot be written or is full.

        >>> result.write_report("report")  # doctest: +SKIP
        PosixPath('report/report.html')
        """
        from analysis.report import build

        return build.write(self, folder)

    def __repr__(self) -> str:
        filled = sum(not frame.empty for frame in self.frames.values())
        return (
            f"<Analysis {self.title!r}: {len(self.runs)} runs, targets "
            f"{', '.join(self.targets)}, {filled} frames with rows; print it for the "
            "answer>"
        )

    def __str__(self) -> str:
        from analysis.report.front import brief

        return brief(self)

    def _repr_html_(self) -> str:
        from analysis.report import figures

        return figures.in_notebook(self)
