"""Study files: helpers to write them, loading and checking them.

A study file defines `study(results)`, a pure function that yields Runs. It is called
again as records come in: `results.best(...)` answers with a provisional copy until the
runs it chooses from are done, and provisional runs are planned but not trained.

The examples below change the `run` of `help(scaling)`.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import inspect
import itertools
import math
import re
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from scaling import corpora, families
from scaling.canonical import Scalar
from scaling.errors import Ended, UserError, unknown
from scaling.layout import Layout
from scaling.record import Record
from scaling.run import (
    Data,
    EvaluationSet,
    Mixture,
    Model,
    Optimiser,
    Part,
    Probes,
    Run,
    Samples,
    Schedule,
    options,
)
from scaling.run_check import check
from scaling.run_types import check_types

if TYPE_CHECKING:
    from scaling.corpora import Prepared

# --- Helpers for study files -------------------------------------------------


def corpus(name: str, /, **settings: Scalar) -> Mixture:
    """One corpus, as `Data` and `EvaluationSet` take it.

    Args:
      name: a file of scaling/corpora, or one of your own given by `--include`.
      settings: the options of that corpus; its docstring lists them.

    Returns:
      A mixture of this corpus alone.

    Raises:
      UserError: a setting that is no text, number or truth value. Whether the corpus
        exists and takes these options is checked when the study is planned.

    >>> corpus("code")
    (Part(name='code', weight=1.0, options=()),)
    >>> corpus("files", path="notes/*.txt", unit="line")[0].key
    'files[path=notes/*.txt,unit=line]'
    """
    return (Part(name, options=options(**settings)),)


def mixture(**weights: float) -> Mixture:
    """Several corpora by share, in order of name.

    Args:
      weights: by corpus, its share of the training windows, above zero. Only ratios
        count. For corpora with options add up tuples of `Part`, which have weights.

    Returns:
      A mixture, as `Data` and `EvaluationSet` take it.

    >>> [(part.name, part.weight) for part in mixture(kjv=0.25, code=0.75)]
    [('code', 0.75), ('kjv', 0.25)]
    """
    return tuple(Part(name, float(weights[name])) for name in sorted(weights))


def vary(runs: Run | Iterable[Run], axes: Mapping[str, Sequence[Any]]) -> list[Run]:
    """Every run with every combination of the axes' values: a grid.

    Args:
      runs: one run or several.
      axes: values by field, a nested one by its dotted name such as
        "optimiser.learning_rate".

    Returns:
      Runs in order: all of the first run, and of it the last axis changes fastest.

    Raises:
      UserError: a field that `Run` does not have; names the nearest one.

    >>> axes = {"model.size": (8_000, 24_000), "optimiser.learning_rate": (1e-3, 3e-3)}
    >>> [(r.model.size, r.optimiser.learning_rate) for r in vary(run, axes)]
    [(8000, 0.001), (8000, 0.003), (24000, 0.001), (24000, 0.003)]
    """
    return _change(runs, axes, itertools.product(*axes.values()))


def together(runs: Run | Iterable[Run], axes: Mapping[str, Sequence[Any]]) -> list[Run]:
    """Every run with the axes' first values, then with their second ones, and so on.

    Args:
      runs: one run or several.
      axes: values by dotted field, as in `vary`; all equally many.

    Returns:
      Runs in order: all of the first run, then all of the second.

    Raises:
      UserError: axes of different lengths, or a field that `Run` does not have.

    >>> seeds = (0, 1)
    >>> both = together(run, {"init_seed": seeds, "data.seed": seeds})
    >>> [(r.init_seed, r.data.seed) for r in both]
    [(0, 0), (1, 1)]
    """
    lengths = {name: len(values) for name, values in axes.items()}
    if len(set(lengths.values())) > 1:
        raise UserError("axes", lengths, "give each axis equally many values")
    return _change(runs, axes, zip(*axes.values(), strict=True))


def bracket(runs: Run | Iterable[Run]) -> list[Run]:
    """Every run at half and at twice its learning rate, without the run itself.

    Trained beside runs that copy a tuned rate, they show whether it was the best.

    Args:
      runs: one run or several.

    Returns:
      Two runs for each, in order.

    >>> [r.optimiser.learning_rate for r in bracket(run)]
    [0.0025, 0.01]
    """
    beside = []
    for run in [runs] if isinstance(runs, Run) else runs:
        rate = run.optimiser.learning_rate
        beside += vary(run, {"optimiser.learning_rate": (rate / 2, rate * 2)})
    return beside


def _change(
    runs: Run | Iterable[Run],
    axes: Mapping[str, Sequence[Any]],
    points: Iterable[tuple[Any, ...]],
) -> list[Run]:
    base = [runs] if isinstance(runs, Run) else list(runs)
    paths = [(axis, axis.split(".")) for axis in axes]
    settings = [list(zip(paths, point, strict=True)) for point in points]
    return [_replace(run, s) for run, s in itertools.product(base, settings)]


def _replace(owner: Any, settings: Iterable[tuple[tuple[str, list[str]], Any]]) -> Any:
    """`owner` with other values; a setting is ((axis, path from here on), value).

    Each dataclass on the way is copied once, however many of its fields change.
    """
    whole: dict[str, Any] = {}
    inner: dict[str, list[Any]] = {}
    kind: Any = type(owner)  # mypy does not take a class for hashable
    for (axis, (name, *rest)), value in settings:
        if name not in _fields(kind):
            raise unknown(axis, name, _fields(kind))
        if rest:
            inner.setdefault(name, []).append(((axis, rest), value))
        else:
            whole[name] = value
    for name, changes in inner.items():
        whole[name] = _replace(whole.get(name, getattr(owner, name)), changes)
    return dataclasses.replace(owner, **whole)


@functools.cache
def _fields(owner: type) -> list[str]:
    if not dataclasses.is_dataclass(owner):  # a path that goes past a plain value
        return []
    return [field.name for field in dataclasses.fields(owner)]


class Results:
    """What a study knows of runs that are done.

    Args:
      find: the record of a run, or None while there is none.

    Attributes:
      used: whether the study called `best`, so that its runs depend on records.
    """

    def __init__(self, find: Callable[[Run], Record | None]):
        self._find = find
        self.used = False

    def best(self, candidates: Sequence[Run], evaluation: str | None = None) -> Run:
        """The candidate with the lowest final loss on one evaluation set.

        Until every candidate has a record the answer is the middle one, marked
        provisional. Derive runs from the answer with `vary` or `dataclasses.replace`:
        they keep the mark, numbers read off it do not. A diverged candidate loses;
        where all diverged, the answer is the middle one, so that the divergence shows.

        Args:
          candidates: runs that the study yields too, or they would never be trained.
          evaluation: a set's name; by default the first that the runs are scored on.
        """
        if not candidates:
            raise UserError("results.best", [], "give at least one candidate")
        self.used = True
        middle = candidates[len(candidates) // 2]
        records = [self._find(run) for run in candidates]
        if any(run.provisional for run in candidates) or None in records:
            return dataclasses.replace(middle, provisional=True)
        name = evaluation or middle.evaluation[0].name
        losses = [_final(record, name) for record in records if record is not None]
        lowest = min(losses)
        if math.isinf(lowest):
            return middle
        return candidates[losses.index(lowest)]


def _final(record: Record, evaluation: str) -> float:
    names = sorted({reading.evaluation for reading in record.readings})
    if names and evaluation not in names:
        raise unknown("results.best evaluation", evaluation, names)
    if record.status == "diverged":
        return math.inf
    value = record.reading(evaluation).value
    return math.inf if value is None or not math.isfinite(value) else value


# --- Loading -----------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Study:
    """A loaded study file.

    Attributes:
      name: the file's stem; the workdir keeps the study under it.
      families: keep only runs of these families; empty for all.
      cut: run the file's function of this name, such as `quick(results)`, a smaller
        study that the file defines beside its `study(results)`; it is one of its own.
    """

    name: str
    path: Path
    module: ModuleType
    families: tuple[str, ...] = ()
    cut: str = ""

    def runs(self, results: Results) -> list[Run]:
        """The runs the file yields now, each once.

        Raises:
          UserError: what the file did wrong, with its line.
        """
        try:
            yielded = getattr(self.module, self.cut or "study")(results)
            if not isinstance(yielded, Iterable):
                returned = f"it returns {yielded!r} and yields no run"
                raise UserError("study", str(self.path), returned)
            built = list(itertools.islice(yielded, MOST_RUNS + 1))
        except (UserError, Ended):
            raise
        except (Exception, SystemExit) as error:
            raise _at_fault(self.path, error) from error
        if len(built) > MOST_RUNS:
            expected = f"it yields more than {MOST_RUNS:,} runs; does it ever end?"
            raise UserError("study", str(self.path), expected)
        for run in built:
            if not isinstance(run, Run):
                raise UserError("study", str(self.path), f"it yields {run!r}, no Run")
            check_types(run)  # before runs are hashed to find those that are the same
        wanted = self.families
        kept = [run for run in built if not wanted or run.model.family in wanted]
        if not kept:
            raise UserError("study", str(self.path), "it yields no run")
        return unique(kept)


# A study of more runs has a loop without an end.
MOST_RUNS = 100_000


def unique(runs: Iterable[Run]) -> list[Run]:
    """Equal runs once, in order; one that is trained wins over a provisional copy."""
    seen: dict[Run, Run] = {}
    for run in runs:
        if run not in seen or not run.provisional:
            seen[run] = run
    return list(seen.values())


def load(path: str, only_families: Sequence[str] = (), cut: str = "") -> Study:
    """Loads a study file, or a cut of it.

    Raises:
      UserError: the line that went wrong, or the cuts that there are.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        missing = "a folder stands there" if file.is_dir() else "there is no such file"
        raise UserError("study", path, f"{missing}; give the path of a Python file")
    if file.suffix != ".py":
        raise UserError("study", path, "give the path of a Python file (.py)")
    name = f"scaling_study_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise _at_fault(file, error) from error
    if not callable(getattr(module, "study", None)):
        raise UserError(
            "study", path, "it must define `study(results)`, which yields runs"
        )
    cuts = _cuts(module)
    if cut and cut not in cuts:
        raise UserError(
            "cut",
            cut,
            f"{path} must define `{cut}(results)`; "
            + (f"it has {', '.join(cuts)}" if cuts else "it has no cut at all"),
        )
    known = families.names()
    for family in only_families:
        if family not in known:
            raise unknown("families", family, known)
    name = f"{file.stem}_{cut}" if cut else file.stem
    return Study(name, file, module, tuple(only_families), cut)


def _cuts(module: ModuleType) -> list[str]:
    """Functions of a study file that take `results` alone, as `study` does."""
    return [
        name
        for name, value in inspect.getmembers(module, inspect.isfunction)
        if name != "study" and list(inspect.signature(value).parameters) == ["results"]
    ]


# What a study file makes, and Python's words for a field that it does not have.
_MADE = (Data, EvaluationSet, Model, Optimiser, Probes, Run, Samples, Schedule)
_FIELD = re.compile(r"^(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'")


def _at_fault(file: Path, error: BaseException) -> UserError:
    """The error in one line, with the last line of the study file it passed through."""
    line = getattr(error, "lineno", None)
    for frame in traceback.extract_tb(error.__traceback__):
        # Python makes the path of a module absolute.
        if Path(frame.filename).resolve() == file.resolve():
            line = frame.lineno
    text = " ".join(str(error).split())
    where = f"line {line}: " if line else ""
    wrong, made = _FIELD.search(text), {kind.__name__: kind for kind in _MADE}
    if wrong and wrong[1] in made:
        fields = [field.name for field in dataclasses.fields(made[wrong[1]])]
        known = unknown(wrong[1], wrong[2], fields).expected
        why = f"{where}{wrong[1]} has no field {wrong[2]!r}: {known}"
        return UserError("study", str(file), why)
    return UserError("study", str(file), f"{where}{type(error).__name__}: {text}")


# --- Checks before anything is prepared or trained ---------------------------


def validate(runs: Iterable[Run]) -> None:
    """Names and ranges: all that needs neither JAX nor a prepared corpus."""
    known = set(families.names())
    loaded: set[str] = set()
    for run in runs:
        check(run)
        corpora.check_quality(run.data)
        if run.model.family not in known:
            raise unknown("model.family", run.model.family, known)
        for name in {part.name for part in run.corpora()} - loaded:
            corpora.load(name)
            loaded.add(name)
        corpora.check_kind(run)


def check_layout(runs: Iterable[Run], layout: Layout) -> None:
    """Refuses a batch that the mesh cannot divide."""
    for run in runs:
        parts = layout.data * layout.accumulate
        if run.batch % parts:
            raise UserError(
                "batch",
                run.batch,
                f"it is split over {layout.data} devices into {layout.accumulate} "
                f"micro-batches each; give a multiple of {parts}",
            )


def check_budgets(runs: Iterable[Run], prepared: Mapping[str, Prepared]) -> None:
    """Refuses a budget of unique tokens that its corpora do not hold.

    Args:
      prepared: by corpus key.
    """
    for run in runs:
        for part, needed in shares(run):
            made = prepared[part.key]
            held = made.readable(run.data.half)
            if needed > held:
                field = "tokens" if run.data.unique_tokens is None else "unique_tokens"
                half = f"half {run.data.half} of " if run.data.half else ""
                raise UserError(
                    f"data.{field}",
                    getattr(run.data, field),
                    f"needs {needed:,} unique {made.unit} of {half}{part.key!r}, which "
                    f"holds {held:,}; give less, or fewer data.unique_tokens to repeat",
                )


def check_damaged(runs: Iterable[Run], prepared: Mapping[str, Prepared]) -> None:
    """Refuses a budget of unique tokens that damage does not leave.

    Args:
      prepared: by corpus key.
    """
    damaged = {(r.data, r.batch, r.length): r for r in runs if r.data.quality}
    for run in damaged.values():
        corpora.TokenStream(run, prepared)


def shares(run: Run) -> Iterator[tuple[Part, int]]:
    """Unique training tokens that the run reads of each of its corpora."""
    total = sum(part.weight for part in run.data.corpus)
    for part in run.data.corpus:
        yield part, math.ceil(run.unique_tokens * part.weight / total)
