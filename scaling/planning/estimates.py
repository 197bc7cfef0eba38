"""Predicted time and memory of runs, kept in the workdir to compare with records.

`estimates.json` holds predictions by run_id and target. They are written only while the
run has no record, so that none is made after the fact. The report shows them beside
what the runs took.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from typing import Any

from scaling.layout import Layout
from scaling.store import Store
from scaling.writing import write_atomic


@dataclasses.dataclass(frozen=True)
class Step:
    """The cost of one training step of a whole pack on one device.

    Attributes:
      memory: bytes at once; 0 where the compiler does not say.
      state: those of them that last from step to step: parameters, optimiser.
      flops, moved, sent: FLOPs, bytes to and from memory, bytes to other devices.
      starts: operations that it starts, one after the other.
      host: the host does it, as for a family that is fitted; no accelerator helps.
      how: "compiled" or "modelled".
      seconds: that it took to lower and compile.
      reason: why it was not compiled, "" where it was.
    """

    memory: float = 0.0
    state: float = 0.0
    flops: float = 0.0
    moved: float = 0.0
    sent: float = 0.0
    starts: float = 0.0
    host: bool = False
    how: str = "compiled"
    seconds: float = 0.0
    reason: str = ""


def modelled(cost: Mapping[str, Any], layout: Layout) -> Step:
    """A step whose parameters, optimiser state and batch lie over all devices of a run.

    Each device gathers the compute copy of the parameters twice, for the forward and
    the backward pass, and scatters their float32 gradients (Rajbhandari et al. 2020).
    Where activations are computed again, a layer's input stays and, while its turn
    lasts, all of one layer: 2 of 34 bytes an activation (Korthikanti et al. 2022,
    arXiv 2205.05198, section 4); products of the forward pass are done twice.

    Args:
      cost: fields of `cost.Cost` of one run.
    """
    slots = layout.width / layout.devices  # the share of a run that a device has
    size = 4 if layout.precision == "float32" else 2
    others = (layout.data - 1) / layout.data
    params = cost["params_total"] * layout.width / (layout.run * layout.model)
    state = cost.get("state", 0.0)
    activations = (cost["memory"] - state) / layout.accumulate
    again = layout.remat != "none"
    if again:
        activations *= min(1.0, 2 / 34 + 1 / max(1, cost.get("depth", 1)))
    return Step(
        memory=(state + activations) * slots,
        state=state * slots,
        flops=cost["flops"] / cost["steps"] * slots * (4 / 3 if again else 1),
        moved=cost["memory"] * slots,
        sent=params * (2 * size + 4) * others,
        how="modelled",
    )


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A prediction for one run on one target.

    Attributes:
      target: a name of hardware.py.
      device: JAX's name of the chip, or the part of a GPU's that says what it is.
      devices: chips of the target; cores of a CPU.
      how: what it rests on, in words.
      seconds: of training and scoring the run, as records count them; None where
        unknown.
      memory: bytes of each device; None where unknown.
      compiling: seconds that its program takes to compile, and
      width: the runs at once in the layout that it is for; None where unknown.
    """

    run_id: str
    target: str
    device: str
    devices: int
    how: str
    seconds: float | None
    memory: float | None
    compiling: float | None = None
    width: int | None = None


def read(store: Store) -> dict[str, dict[str, dict[str, Any]]]:
    """The kept estimates by run_id and target; damaged entries are left out."""
    kept: dict[str, dict[str, dict[str, Any]]] = {}
    for run_id, targets in store.cached("estimates.json").items():
        if isinstance(targets, dict):
            whole = {name: body for name, body in targets.items() if _is_whole(body)}
            kept[run_id] = whole
    return kept


def _is_whole(body: Any) -> bool:
    names = {field.name for field in dataclasses.fields(Estimate)}
    later = {"compiling", "width"}  # the first ones had none
    if not isinstance(body, dict) or set(body) | later != names:
        return False
    words = [body[name] for name in ("run_id", "target", "device", "how")]
    numbers = [body[name] or 0 for name in ("devices", "seconds", "memory")]
    numbers += [body.get(name) or 0 for name in later]
    return all(isinstance(word, str) for word in words) and all(
        isinstance(number, int | float) for number in numbers
    )


def is_for(estimate: Mapping[str, Any], device: str, devices: int) -> bool:
    """Whether a kept estimate is for such devices, and so many of them.

    Args:
      device: in JAX's words.
    """
    named, there = estimate["device"].lower(), device.lower()
    if named == there == "cpu":  # a CPU's cores and its host devices differ
        return True
    same = named == there or (there.startswith("nvidia") and named in there)
    return same and bool(estimate["devices"] == devices)


def keep(store: Store, estimates: Iterable[Estimate], replace: bool = False) -> None:
    """Adds estimates of runs that have no record; with `replace`, over older ones."""
    before = read(store)
    after = {run_id: dict(targets) for run_id, targets in before.items()}
    recorded = store.run_ids()
    for estimate in estimates:
        if estimate.run_id in recorded:
            continue
        targets = after.setdefault(estimate.run_id, {})
        if replace or estimate.target not in targets:
            body = dataclasses.asdict(estimate)
            targets[estimate.target] = body
    if after != before:
        path = store.path("estimates.json")
        write_atomic(path, json.dumps(after, indent=1).encode())
