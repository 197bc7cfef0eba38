"""Every call of a fleet's whole life, with every signal, before and after its effect.

    python -m tests.soak.launch_kills --orders tpu compute slices

A launcher is stopped at each call, and by SIGKILL at each point of scaling/chaos.py
that a launcher has between two calls. `status` must name all that is left, and `down`,
or the same `up` again, must leave nothing. Ends with how many launchers were stopped in
which way, and with the exit code 1 where something was wrong. A stop takes about half a
second of an idle core.
"""

from __future__ import annotations

import argparse
import collections
import functools
import itertools
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from scaling import chaos
from tests.support import launch_kills
from tests.support.fake_cloud import Cloud
from tests.support.launching import ORDERS, Launcher

AGAIN = (False, True)
Case = tuple[str, Callable[[], None]]  # the kind of stop, and what carries it out


def cases(
    launcher: Launcher, cloud: Cloud, study: Path, order: str, calls: list[str]
) -> list[Case]:
    """Every stop of one fleet's launcher; each then goes on by `down` or by `up`."""
    here = launcher, cloud, study, order
    found: list[Case] = []
    kinds = itertools.product(launch_kills.WHEN, launch_kills.SIGNALS, AGAIN)
    for (when, sent, again), number in itertools.product(kinds, range(len(calls))):
        do = functools.partial(launch_kills.stopped, *here, number, when, sent)
        kind = f"{sent.name} {when} a call"
        found.append((kind, functools.partial(do, again=again)))
    for point, again in itertools.product(chaos.LAUNCHER, AGAIN):
        do = functools.partial(launch_kills.died, *here, point)
        found.append((f"SIGKILL, {point}", functools.partial(do, again=again)))
    return found


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--orders", nargs="+", default=list(ORDERS), choices=ORDERS)
    parser.add_argument(
        "--every", type=int, default=1, help="only every so many-th case"
    )
    parser.add_argument("--first", type=int, default=0, help="number of the first")
    arguments = parser.parse_args(argv)
    wrong = 0
    stops: collections.Counter[str] = collections.Counter()
    with Cloud() as cloud, tempfile.TemporaryDirectory() as scratch:
        study = Path(scratch, "study.py")
        smoke = Path(__file__).parents[2] / "configs" / "smoke.py"
        study.write_text(smoke.read_text().replace("LENGTH = 4,", "LENGTH = 16,"))
        for order in arguments.orders:
            started = time.monotonic()
            launcher = Launcher(cloud, Path(scratch))
            cloud.empty()
            cloud.end = launcher.end
            calls = launch_kills.undisturbed(launcher, cloud, study, order)
            every = cases(launcher, cloud, study, order, calls)
            chosen = every[arguments.first :: arguments.every]
            for done, (kind, stop) in enumerate(chosen):
                if done % 50 == 49:
                    print(f"{order}: {done + 1} of {len(chosen)} stops", flush=True)
                try:
                    stop()
                except AssertionError as error:
                    wrong += 1
                    print(error, flush=True)
                    launch_kills.anew(launcher, cloud)
                stops[kind] += 1
            minutes = (time.monotonic() - started) / 60
            print(
                f"{order}: {len(calls)} calls, {len(chosen)} of {len(every)} stops, "
                f"{wrong} wrong so far, {minutes:.1f} minutes",
                flush=True,
            )
    for kind, count in sorted(stops.items()):
        print(f"| {kind} | {count} |")
    print(f"{stops.total()} stops: {wrong} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
