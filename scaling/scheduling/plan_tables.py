"""The tables that `scaling plan` and `scaling status` print; imports nothing slow."""

from __future__ import annotations

import collections
import dataclasses
import json
import statistics
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from scaling import pooling
from scaling.errors import UserError
from scaling.layout import Layout
from scaling.planning.hardware import EFFICIENCY, START, Hardware
from scaling.record import Attempt, Record
from scaling.run import Run
from scaling.scheduling.progress import describe, duration, short, timed
from scaling.store import Store

if TYPE_CHECKING:
    from scaling.scheduling.fleet_plan import Fleet
    from scaling.scheduling.preflight import Forecast
    from scaling.scheduling.study_plan import Entry


def plan_table(entries: Sequence[Entry]) -> str:
    """One row a run, a totals row, and what the states mean."""
    unit = _counted(entries)
    columns = ["family", "size", "corpus", "rate", "params", unit]
    columns += ["epochs", "seeds", "FLOPs", "memory", "time", "state"]
    rows: list[Sequence[str]] = [columns]
    for entry in entries:
        run, cost = entry.run, entry.cost
        rows.append(
            (
                run.model.family,
                short(run.model.size),
                run.data.label,
                f"{run.optimiser.learning_rate:g}" + "?" * run.provisional,
                f"{cost['params_total']:,}",
                f"{run.tokens:,}",
                f"{run.steps / run.unique_steps:g}",
                f"{run.init_seed}/{run.data.seed}",
                short(cost["flops"]),
                f"{short(cost['memory'])}B",
                duration(entry.seconds),
                entry.state,
            )
        )
    tokens = sum(entry.run.tokens for entry in entries)
    flops = sum(entry.cost["flops"] for entry in entries)
    left = [entry for entry in entries if entry.state in ("left", "provisional")]
    seconds = sum(entry.seconds for entry in left)
    saved = sum(entry.seconds * entry.shared / entry.run.steps for entry in left)
    counts = collections.Counter(entry.state for entry in entries)
    states = ", ".join(f"{number} {state}" for state, number in counts.items())
    many = f"{len(entries)} run{'s' * (len(entries) != 1)}"
    lines = [
        *_aligned(rows),
        f"{many}: {states}; {tokens:,} {unit}, {short(flops)} FLOPs",
        f"estimated time for the runs left: {duration(seconds)}, one after the other",
    ]
    if saved:
        steps = sum(entry.run.steps for entry in left)
        shared = sum(entry.shared for entry in left)
        lines.append(
            f"shared trunks: {shared:,} of {steps:,} steps are trained once for "
            f"several budgets, which leaves {duration(seconds - saved)}"
        )
    if kept := sum(entry.predictions for entry in entries):
        lines.append(
            f"predictions kept at probes take at most {short(kept)}B on disk ("
            f"{_probes(entries)})"
        )
    if kept := sum(entry.samples for entry in entries):
        lines.append(
            f"samples take at most {short(kept)}B on disk ({_samples(entries)})"
        )
    if counts["provisional"]:
        lines.append(
            "provisional: its rate (?) is chosen once the tuning runs are done"
        )
    return "\n".join(lines)


def _counted(entries: Iterable[Entry]) -> str:
    """What the runs' budgets count."""
    units = sorted({entry.run.unit for entry in entries}, reverse=True)
    return " or ".join(units or ["tokens"])


def _probes(entries: Iterable[Entry]) -> str:
    """The probe sets of the runs in a few words."""
    fractions: dict[tuple[str, int], set[float]] = {}
    every = {p for entry in entries for p in entry.run.probes}
    for probes in every:
        fractions.setdefault((probes.name, probes.positions), set()).update(probes.at)
    best = {(p.name, p.positions) for p in every if p.best}
    names = collections.defaultdict(list)
    for (name, positions), at in sorted(fractions.items()):
        points = ", ".join(f"{fraction:g}" for fraction in sorted(at))
        said = f"{positions:,} positions, at {points} of the training"
        said += " and at its best step" if (name, positions) in best else ""
        names[said].append(name)
    return "; ".join(f"{', '.join(of)}: {said}" for said, of in names.items())


def _samples(entries: Iterable[Entry]) -> str:
    """The sample sets of the runs in a few words."""
    every = {sample for entry in entries for sample in entry.run.samples}
    said = {
        f"{entry.name}: {entry.count:,} pictures, at "
        f"{', '.join(f'{fraction:g}' for fraction in entry.at)} of the training"
        + (f", and the lower halves of {entry.hidden:,}" if entry.hidden else "")
        for entry in every
    }
    return "; ".join(sorted(said))


def plan_json(entries: Iterable[Entry]) -> str:
    rows: list[dict[str, Any]] = [
        {
            "run_id": entry.run_id,
            "state": entry.state,
            "seconds": entry.seconds,
            "predictions_bytes": entry.predictions,
            "samples_bytes": entry.samples,
            "shared_steps": entry.shared,
            "cost": entry.cost,
            "run": entry.run.flat(),
        }
        for entry in entries
    ]
    return json.dumps(rows, indent=1)


def target_table(forecasts: Sequence[Forecast], fleet: Fleet) -> str:
    """One row a run: what it takes on the target, and whether it fits there."""
    priced = any(f.cost is not None for f in forecasts)
    columns = ["family", "size", "corpus", "rate", _counted(f.entry for f in forecasts)]
    columns += ["pack", "memory", "fits", "FLOPs", "step", "time", "chip-hours"]
    columns += ["cost"] * priced + ["smallest", "state"]
    rows: list[Sequence[str]] = [columns]
    for f in forecasts:
        run = f.entry.run
        hours = None if f.seconds is None else f.seconds / 3600 * f.machine.chips
        row = [
            run.model.family,
            short(run.model.size),
            run.data.label,
            f"{run.optimiser.learning_rate:g}" + "?" * run.provisional,
            f"{run.tokens:,}",
            _pack(f.layout),
            f"{short(f.step.memory)}B" if f.step.memory else "?",
            {True: "yes", False: "no", None: "?"}[f.fits],
            short(f.entry.cost["flops"]),
            "?" if f.step_seconds is None else f"{1e3 * f.step_seconds:.3g} ms",
            "?" if f.seconds is None else timed(f.seconds),
            "?" if hours is None else f"{hours:.3g}",
        ]
        row += ["?" if f.cost is None else f"{f.cost:,.2f}"] * priced
        rows.append((*row, f.smallest or "?", f.entry.state))
    lines = [*_target_lines(forecasts), *_fleet_lines(fleet, forecasts[0].machine)]
    return "\n".join([*_aligned(rows), *lines, _basis(forecasts[0].machine)])


def _pack(layout: Layout) -> str:
    """Runs at once, and the mesh that each lies over: 16 on 8x1x1."""
    return f"{layout.width} on {layout.run}x{layout.data}x{layout.model}"


def _target_lines(forecasts: Sequence[Forecast]) -> list[str]:
    """Totals, and what was not compiled and why."""
    first = forecasts[0]
    machine = first.machine
    programs = {f.entry.run.program(): f for f in forecasts}.values()
    known = [f.step for f in programs if not f.step.reason]
    left = [f for f in forecasts if f.entry.state in ("left", "provisional")]
    hours = sum(f.seconds or 0.0 for f in left) / 3600
    count = f"{len(known)} of {len(programs)} programs {first.step.how}"
    if machine.kind != "gpu" and known:
        count += f", median {statistics.median(s.seconds for s in known):.1f} s each"
    total = (
        f"time for the runs left: {timed(3600 * hours)}, {hours * machine.chips:.3g} "
        "chip-hours, one pack after the other"
    )
    if any(f.cost is not None for f in left):
        total += f", cost {sum(f.cost or 0.0 for f in left):,.2f}"
    precisions = " or ".join(sorted({f.layout.precision for f in forecasts}))
    return [
        f"{machine.name}: {machine.devices} x {short(first.memory_there)}B; pack: runs "
        f"at once on a mesh of run x data x model devices; {precisions}",
        count,
        *(
            f"  not compiled: {describe(f.entry.run)}: {f.step.reason}"
            for f in programs
            if f.step.reason
        ),
        total,
    ]


def _fleet_lines(fleet: Fleet, machine: Hardware) -> list[str]:
    """When the machines have ended, what they cost, and what cutting packs gains."""
    there, one = fleet.scheduled, fleet.one
    if not fleet.runs:
        return []
    many = fleet.machines > 1
    text = f"{fleet.machines} machine{'s' * many}: the study ends after "
    text += f"{timed(there.seconds)}, in {there.packs} pack{'s' * (there.packs != 1)}"
    if many:
        text += f"; one machine alone would take {timed(one.seconds)}"
    chips = fleet.hours * machine.chips
    paid = f"{fleet.hours:.3g} machine-hours ({chips:.3g} chip-hours)"
    if fleet.cost is not None:
        paid += f", cost {fleet.cost:,.2f}"
    held = fleet.machines * there.seconds
    idle = 1.0 - there.busy / held if held else 0.0
    if fleet.compiling:
        paid += f"; compiling {fleet.compiling / there.busy:.0%} of the working time"
    else:
        paid += "; compiling is not in it"
    paid += f", machines without work {max(0.0, idle):.0%} of all time" * many
    lines = [text, paid]
    if many:
        lines.append(fleet.ways.words())
    if fleet.left_out:
        lines.append(
            f"{fleet.left_out} of the runs left are in no pack: their program does not "
            "fit, or was not compiled"
        )
    if start := START[machine.kind]:
        lines.append(
            f"starting operations takes {fleet.starting:.0%} of the training time, at "
            f"{1e6 * start:g} us each on a {machine.kind.upper()} (not measured here)"
        )
    return lines


def _basis(machine: Hardware) -> str:
    if machine.kind == "cpu":
        return (
            "step: its memory and its products, one after the other, as small models do"
        )
    return (
        f"step: the longest of products at {100 * EFFICIENCY:g}% of the peak, memory "
        "traffic and communication, and the start of each operation; small products "
        "reach less of the peak. The search for layouts, and time lost with machines, "
        "are in no figure"
    )


def target_json(forecasts: Sequence[Forecast], fleet: Fleet) -> str:
    rows = [
        {
            "run_id": f.entry.run_id,
            "state": f.entry.state,
            "target": f.machine.name,
            "layout": f.layout.to_json(),
            "memory_there": f.memory_there,
            "fits": f.fits,
            "flops": f.entry.cost["flops"],
            "step": dataclasses.asdict(f.step),
            "step_seconds": f.step_seconds,
            "seconds": f.seconds,
            "cost": f.cost,
            "smallest": f.smallest or None,
            "run": f.entry.run.flat(),
        }
        for f in forecasts
    ]
    body = {"runs": rows, "fleet": dataclasses.asdict(fleet)}
    return json.dumps(body, indent=1)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def status(workdir: str) -> str:
    """Per study: done, diverged, failed with causes, missing.

    Raises:
      UserError: the folder holds no study.
    """
    store = Store(workdir)
    studies = store.studies()
    if not studies:
        wrong = "; ".join(store.complaints())
        expected = "no study was run there; give the --workdir of a `scaling run`"
        raise UserError("workdir", workdir, wrong or expected)
    records, corrupt = store.records()
    by_id = {record.run_id: record for record in records}
    failed = {attempt.run_id: attempt for attempt in store.attempts()}
    lines = [f"corrupt record: {path}: {wrong}" for path, wrong in corrupt.items()]
    lines += store.complaints()
    for name, body in studies.items():
        lines += _study_lines(name, body, by_id, failed)
    listed = {i for body in studies.values() for i in body["runs"]}
    lines += map(str, pooling.choose(records, listed).texts)
    return "\n".join(lines)


def _study_lines(
    name: str,
    body: dict[str, Any],
    records: dict[str, Record],
    failed: dict[str, Attempt],
) -> list[str]:
    here = [records[i] for i in body["runs"] if i in records]
    missing = [i for i in body["runs"] if i not in records]
    causes = collections.Counter(failed[i].cause for i in missing if i in failed)
    text = f"{name}: {sum(r.status == 'done' for r in here)} done"
    text += f", {sum(r.status == 'diverged' for r in here)} diverged"
    text += "".join(f", {number} failed ({c})" for c, number in causes.items())
    text += f", {sum(i not in failed for i in missing)} missing"
    if body.get("provisional"):
        text += f", {body['provisional']} waiting for tuning runs"
    lines = [text]
    for record in here:
        if record.status == "diverged":
            lines.append(f"  diverged: {record.run_id} {_words(body, record.run_id)}")
    for run_id in missing:
        if run_id in failed:
            last = failed[run_id]
            lines.append(
                f"  failed: {run_id} {_words(body, run_id)}: {last.cause} at attempt "
                f"{last.number}, {last.time}: {last.message}"
            )
    return lines


def _words(body: dict[str, Any], run_id: str) -> str:
    """A run in words, as the study's file describes it."""
    planned = body.get("planned", {}).get(run_id)
    try:
        return describe(Run.from_json(planned))
    except (TypeError, ValueError, KeyError, AttributeError):  # not as it was written
        return "(not described in the study's file)"
