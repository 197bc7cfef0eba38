"""Chooses how packs run on this machine: measured at a study's first start, then kept.

The search keeps doubling for as long as that is faster: first the number of devices
that train separate runs, then, on accelerators, the slots of each. Tiny models gain
from both, large ones from neither. On accelerators a run that does not fit computes
activations again in the backward pass and, if that is not enough, takes its step in
parts. The layers of deep models run as a loop, whose compile time does not grow with
depth, unless unrolled layers are faster. The choice is
kept in the workdir's layout.json; the width of a pack affects the last bits of its
results, so it must not change within a study.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import hashlib
import json
import math
from collections.abc import Callable, Sequence
from typing import Any

from scaling import intact
from scaling.canonical import canonical
from scaling.engines.local import cores
from scaling.errors import UserError, unknown
from scaling.layout import Layout
from scaling.record import Record
from scaling.run import Run
from scaling.scheduling.progress import short
from scaling.store import Store
from scaling.writing import write_atomic

# The gain that a doubling of slots on the same devices must bring: it is above the
# noise, and wider packs idle more at their end. A doubling of devices must not lose.
GAIN = 1.1

# Models of at least this many equal layers count as deep. With fewer, a loop saves
# little compile time and costs a copy of the parameters.
DEEP = 8

# The name in layout.json for all programs that share one layout on a CPU.
SHARED = "all programs"

Measure = Callable[[Layout], float | None]
Tried = list[tuple[Layout, float | None]]


def assumed(platform: str, devices: int) -> Layout:
    """The layout that a plan assumes before anything is measured.

    On a CPU each core trains a run of its own: tiny steps do not gain from sharing
    one. Accelerators share every run's batch and parameters.
    """
    if platform == "cpu":
        slots = min(2, cores())
        return Layout(platform="cpu", run=slots, width=slots)
    kind = "gpu" if platform in ("gpu", "cuda", "rocm") else platform
    return Layout(platform=kind, data=devices, precision="bfloat16")


def parse(text: str, base: Layout) -> Layout:
    """`base` with the user's changes, such as "run=2,width=4".

    Raises:
      UserError: a name that no layout has, or a value that is not one of its kind.
    """
    fields = {f.name: type(getattr(base, f.name)) for f in dataclasses.fields(base)}
    changes: dict[str, Any] = {}
    for part in text.split(","):
        name, _, value = (word.strip() for word in part.partition("="))
        if name not in fields:
            raise unknown("layout", name, fields)
        if fields[name] is str:
            changes[name] = value
        elif fields[name] is bool and value in ("true", "false"):
            changes[name] = value == "true"
        elif fields[name] is int and value.isdecimal() and int(value) > 0:
            changes[name] = int(value)
        else:
            kind = "true or false" if fields[name] is bool else "a number above zero"
            raise UserError(f"layout.{name}", value, f"give {kind}")
    return dataclasses.replace(base, **changes)


def choose(
    base: Layout, batch: int, runs: int, measure: Measure, deep: bool = False
) -> Tried:
    """Every layout that was tried and its tokens/s; the chosen one last.

    Args:
      base: as `assumed` gives it, all devices in it.
      batch: sequences of a step; runs: that there are to pack.
      measure: tokens/s of full packs, None where they failed or did not fit.
      deep: whether layers are a loop first; one after the other must gain.
    """
    best = dataclasses.replace(_narrowest(base, batch), scan_layers=deep)
    rate = measure(best)
    tried: Tried = [(best, rate)]
    while rate is None and (layout := _lighter(best, batch)) is not None:
        best, rate = layout, measure(layout)
        tried.append((best, rate))
    if rate is None:  # training will say why, run by run
        return tried[:1]
    for wider, gain in ((_spread, 1.0), (_deepen, GAIN)):
        while (layout := wider(best, base, runs)) is not None:
            new_rate = measure(layout)
            tried.append((layout, new_rate))
            if new_rate is None or new_rate < gain * rate:
                break
            best, rate = layout, new_rate
    if deep:
        layout = dataclasses.replace(best, scan_layers=False)
        new_rate = measure(layout)
        tried.append((layout, new_rate))
        if new_rate is not None and new_rate > rate:
            best, rate = layout, new_rate
    return [pair for pair in tried if pair[0] != best] + [(best, rate)]


def _chosen(base: Layout, batch: int, runs: int, deep: bool, measure: Measure) -> Tried:
    return choose(base, batch, runs, measure, deep)


def _narrowest(base: Layout, batch: int) -> Layout:
    if base.platform == "cpu":
        return dataclasses.replace(base, run=1, width=1)
    return dataclasses.replace(base, data=math.gcd(base.data, batch))


def _lighter(layout: Layout, batch: int) -> Layout | None:
    """The next layout that needs less memory for the same step; None on a CPU.

    Activations are computed again before a step is cut: a third more FLOPs, where
    cutting starts every operation several times and fills the devices less.
    """
    if layout.platform == "cpu":
        return None
    if layout.remat == "none":
        return dataclasses.replace(layout, remat="full")
    parts = 4 * layout.accumulate
    if batch % (parts * layout.data):
        return None
    return dataclasses.replace(layout, accumulate=parts)


def _spread(layout: Layout, base: Layout, runs: int) -> Layout | None:
    """Twice the runs at once, each on half the devices (on a CPU, of the threads)."""
    run, data = 2 * layout.run, layout.data
    if base.platform == "cpu":
        fits = run <= cores()
    else:
        data = max(1, data // 2)
        fits = run * data <= base.data
    if not fits or run > runs:
        return None
    return dataclasses.replace(layout, run=run, data=data, width=2 * layout.width)


def _deepen(layout: Layout, base: Layout, runs: int) -> Layout | None:
    """Twice the slots on the same devices.

    A core of a CPU is full with one: .8 to 1.2 times the tokens/s with two, over
    families of 8 and 33 thousand parameters, for seconds of compiling to find out.
    """
    if base.platform == "cpu":
        return None
    width = 2 * layout.width
    return dataclasses.replace(layout, width=width) if width <= runs else None


class Layouts:
    """The layouts of a study's programs, kept or measured when first needed.

    On a CPU all programs share the layout of the first one, except deep models.
    Accelerators have one layout a program, since the runs needed to fill them differ by
    orders of magnitude between small and large models.
    """

    def __init__(
        self,
        store: Store,
        base: Layout,
        measure: Callable[[Run, Layout], float | None],
        note: Callable[[str], None],
        depth: Callable[[Run], int] = lambda run: 0,
        fixed: bool = False,
        file: str = "layout.json",
    ):
        """Args:
        file: of the workdir, where they are kept.
        depth: of a run's model, as cost.py counts it.
        fixed: `base` is the user's own choice: nothing is measured, and what was kept
          is replaced.
        """
        self._store, self._path = store, store.path(file)
        self.deep = lambda run: depth(run) >= DEEP
        self.base, self._measure, self._note, self._fixed = base, measure, note, fixed
        self._kept = {} if fixed else self._read()

    def of(self, run: Run, alike: int, all_runs: int) -> Layout:
        """The layout of `run`'s program.

        Args:
          alike: runs of that program to train; all_runs: of every program.
        """
        kept = self.kept(run)
        if kept is None:
            search = self.search(run, alike, all_runs)
            tried = search(lambda layout: self._measure(run, layout))
            kept = self.learn(run, tried)
        return kept

    def kept(self, run: Run) -> Layout | None:
        """The layout of `run`'s program, None until it is measured."""
        key = self.key(run)
        if key not in self._kept and self._fixed:
            self._keep(key, [(self.base, None)])
        return self._kept.get(key)

    def search(self, run: Run, alike: int, all_runs: int) -> Callable[[Measure], Tried]:
        """What chooses the layout of `run`'s program, given what measures one."""
        deep = self.deep(run)
        runs = all_runs if self.key(run) == SHARED else alike
        return functools.partial(_chosen, self.base, run.batch, runs, deep)

    def learn(self, run: Run, tried: Tried) -> Layout:
        """Keeps the outcome of a search, if the layout works; returns the layout."""
        layout, rate = tried[-1]
        if rate is not None:
            self._note(_sentence(run, tried))
            self._keep(self.key(run), tried)
        return layout

    def known(self, run: Run) -> Layout:
        """The layout that is kept for `run`'s program, or what is assumed."""
        assumed = self.base
        if not self._fixed:
            assumed = dataclasses.replace(assumed, scan_layers=self.deep(run))
        return self._kept.get(self.key(run), assumed)

    def key(self, run: Run) -> str:
        """Equal for all programs that share one layout."""
        if self.base.platform == "cpu" and not self.deep(run):
            return SHARED
        text = json.dumps(canonical(run.program()), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _read(self) -> dict[str, Layout]:
        """What was kept; {} where it is damaged and no run was trained by it.

        Raises:
          UserError: it is damaged, and other layouts would change the last bits of the
            runs that are left against those that are done.
        """
        try:
            body = intact.json_object(self._path)
            return {key: _layout(entry) for key, entry in body.items()}
        except FileNotFoundError:
            return {}
        except intact.Unreadable as error:
            wrong = error
        records = self._store.records()[0]
        if not records:
            self._note(f"{self._path} {wrong}: not used; layouts are measured again")
            return {}
        text = (
            f"it {wrong}; delete it to have layouts measured again (the last bits of "
            f"results depend on them), or give that of the {len(records)} finished "
            f"runs: --layout {_most_used(records)}"
        )
        raise UserError("workdir", str(self._path), text)

    def _keep(self, key: str, tried: Tried) -> None:
        entries = json.loads(self._path.read_text()) if self._kept else {}
        entries[key] = {
            "layout": tried[-1][0].to_json(),
            "tried": [
                {"layout": layout.to_json(), "tokens_per_second": rate}
                for layout, rate in tried
            ],
        }
        write_atomic(self._path, json.dumps(entries, indent=1).encode())
        self._kept[key] = tried[-1][0]


def _layout(entry: Any) -> Layout:
    """What layout.json holds of one program. Raises Unreadable where it is none."""
    try:
        layout = Layout(**entry["layout"])
    except (TypeError, KeyError) as error:  # no objects, or of other fields
        raise intact.Unreadable("holds something that is no layout") from error
    for field in dataclasses.fields(Layout):
        value: Any = getattr(layout, field.name)
        kind: Any = type(field.default)
        if type(value) is not kind or (kind is int and value < 1):
            raise intact.Unreadable(f"holds a layout with {field.name} {value!r}")
    return layout


def _most_used(records: Sequence[Record]) -> str:
    """The layout that most records have, as `parse` reads it."""
    names = [field.name for field in dataclasses.fields(Layout)]
    used = [
        {n: v for n, v in record.layout.items() if n in names} for record in records
    ]
    texts = [",".join(f"{n}={_spelt(v)}" for n, v in each.items()) for each in used]
    return collections.Counter(texts).most_common(1)[0][0]


def _spelt(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _sentence(run: Run, tried: Tried) -> str:
    rates = ", ".join(
        f"{words(layout)} {'failed' if rate is None else short(rate)}"
        for layout, rate in tried
    )
    return (
        f"layout: {words(tried[-1][0])}, measured with {run.model.family} "
        f"{short(run.model.size)}, {run.unit}/s: {rates}"
    )


def words(layout: Layout) -> str:
    devices = f"{layout.devices} device{'s' * (layout.devices > 1)}"
    runs = f"{layout.width} run{'s' * (layout.width > 1)} at once on {devices}"
    how = [
        (layout.scan_layers, "layers in a loop"),
        (layout.remat != "none", "activations computed again"),
        (layout.accumulate > 1, f"a step in {layout.accumulate} parts"),
    ]
    return ", ".join([runs, *(text for so, text in how if so)])
