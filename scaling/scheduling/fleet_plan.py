"""How long a study takes on several machines like the target of its forecasts."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from scaling.planning.hardware import START
from scaling.scheduling import paper
from scaling.scheduling.paper import Both, Schedule
from scaling.scheduling.preflight import Forecast


@dataclasses.dataclass(frozen=True)
class Fleet:
    """What the runs that are left take on `machines` of the target.

    Attributes:
      scheduled: as the queue gives packs out; ways: the two that it decides between.
      one: on a single machine.
      compiling: seconds in `scheduled.busy` in which machines compile.
      hours: of all machines together, until the last run ends; cost: of their chips, at
        the price of a chip-hour, None without one.
      starting: the share of the training time in which operations start.
      runs: in it; left_out: that are left and not in it, as their program was not
        compiled or does not fit.
    """

    machines: int
    scheduled: Schedule
    ways: Both
    one: Schedule
    compiling: float
    hours: float
    cost: float | None
    starting: float
    runs: int
    left_out: int


def fleet(forecasts: Sequence[Forecast], machines: int, price: float | None) -> Fleet:
    """The plan of the runs that are left, on so many machines."""
    left = [f for f in forecasts if f.entry.state in ("left", "provisional")]
    known = [f for f in left if f.seconds is not None and f.fits is not False]
    work = [f.work() for f in known]
    ways = Both.of(work, machines)
    scheduled = ways.cut if ways.cuts else ways.whole
    hours = machines * scheduled.seconds / 3600
    chips = forecasts[0].machine.chips
    seconds = sum(f.seconds or 0.0 for f in known)
    starting = sum(_starting(f) * (f.seconds or 0.0) for f in known)
    bare = paper.schedule(work, machines, ways.cuts, compiling=False)
    return Fleet(
        machines=machines,
        scheduled=scheduled,
        ways=ways,
        one=paper.schedule(work, 1),
        compiling=scheduled.busy - bare.busy,
        hours=hours,
        cost=None if price is None else hours * chips * price,
        starting=starting / seconds if seconds else 0.0,
        runs=len(known),
        left_out=len(left) - len(known),
    )


def _starting(forecast: Forecast) -> float:
    """The share of a step in which operations start."""
    if forecast.step.host or not forecast.step_seconds:
        return 0.0
    start = START[forecast.machine.kind]
    return forecast.step.starts * start / forecast.step_seconds
