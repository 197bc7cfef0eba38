"""A launcher is stopped at one call to the cloud; what is left is found and ended."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from tests.support.fake_cloud import PARTS, Cloud
from tests.support.launching import ORDERS, Done, Launcher

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
WHEN: tuple[Literal["before", "after"], ...] = ("before", "after")


def undisturbed(launcher: Launcher, cloud: Cloud, study: Path, order: str) -> list[str]:
    """The calls of a whole life."""
    done = launcher.up(study, *ORDERS[order])
    assert done.returncode == 0, done.stderr
    calls = list(cloud.calls)
    anew(launcher, cloud)
    return calls


def some(calls: list[str]) -> Iterator[tuple[int, str, signal.Signals]]:
    """The first call of each kind, with the signals and moments in turn."""
    firsts = {call: calls.index(call) for call in calls}
    for turn, number in enumerate(sorted(firsts.values())):
        yield number, WHEN[turn % 2], SIGNALS[turn % 3]


def stopped(
    launcher: Launcher,
    cloud: Cloud,
    study: Path,
    order: str,
    number: int,
    when: str,
    sent: signal.Signals,
    *,
    again: bool = False,
) -> None:
    """Stops `up` at a call; asserts that all is found, and that nothing stays.

    Args:
      number: of the call; when: "before" or "after" it has its effect.
      again: whether `up` is given again instead of `down`.
    """
    cloud.faults[number] = (sent, when)
    done = launcher.up(study, *ORDERS[order])
    case = f"{order}: {sent.name} {when} call {number}: {done.stderr[-1500:]}"
    cloud.faults.clear()
    _judge(launcher, cloud, study, order, done, case, sent, again)


def died(
    launcher: Launcher,
    cloud: Cloud,
    study: Path,
    order: str,
    point: str,
    *,
    again: bool = False,
) -> None:
    """As `stopped`, where `up` dies between two calls.

    Args:
      point: of scaling/chaos.py.
    """
    armed = launcher.points / point
    armed.touch()
    done = launcher.up(study, *ORDERS[order])
    case = f"{order}: {point}: {done.stderr[-1500:]}"
    assert not armed.exists(), f"{case}: it never came there"
    _judge(launcher, cloud, study, order, done, case, signal.SIGKILL, again)


def _judge(
    launcher: Launcher,
    cloud: Cloud,
    study: Path,
    order: str,
    done: Done,
    case: str,
    sent: signal.Signals,
    again: bool,
) -> None:
    """Asserts that `status` names all that is left, and that nothing stays."""
    assert done.returncode == (-sent if sent == signal.SIGKILL else 128 + sent), case
    assert "Traceback" not in done.stderr, case
    there = {thing.name for thing in cloud.things.values()}
    if sent != signal.SIGKILL and there:
        assert "may exist and be billed" in done.stderr or "deleting" in done.stderr, (
            case
        )
        assert "scaling-launch down" in done.stderr, case
    shown = launcher.of("status", study).stdout
    assert all(f"{name}  " in shown for name in there & _shown(cloud)), (case, shown)
    if again:
        done = launcher.up(study, *ORDERS[order])
        assert done.returncode == 0, (case, done.stderr)
    else:
        done = launcher.of("down", study)
        assert done.returncode == 0, (case, done.stderr)
    assert not cloud.things, case
    machines = [t.name for t in cloud.made if t.kind not in PARTS]
    assert again or len(machines) == len(set(machines)), case
    anew(launcher, cloud)


def _shown(cloud: Cloud) -> set[str]:
    """What still exists: a thing that was being deleted may be gone by now."""
    return {thing.name for thing in cloud.things.values()}


def anew(launcher: Launcher, cloud: Cloud) -> None:
    """Nothing is in the cloud, and the computer remembers nothing."""
    cloud.empty()
    cloud.end = launcher.end
    for path in (launcher.folder / ".cache").rglob("*.json"):
        path.unlink()
    for path in launcher.points.iterdir():
        path.unlink()
