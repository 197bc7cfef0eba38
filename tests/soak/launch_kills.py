"""Every call of a fleet's whole life, with every signal, before and after its effect.

    python -m tests.soak.launch_kills --orders tpu compute slices

Prints how many launchers were stopped and what each left behind: nothing, or it fails.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from pathlib import Path

from tests.support import launch_kills
from tests.support.fake_cloud import Cloud
from tests.support.launching import ORDERS, Launcher


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--orders", nargs="+", default=list(ORDERS), choices=ORDERS)
    parser.add_argument(
        "--every", type=int, default=1, help="only every so many-th case"
    )
    arguments = parser.parse_args(argv)
    wrong = 0
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
            cases = list(
                itertools.product(
                    range(len(calls)),
                    launch_kills.WHEN,
                    launch_kills.SIGNALS,
                    (False, True),
                )
            )[:: arguments.every]
            for done, (number, when, sent, again) in enumerate(cases):
                if done % 50 == 49:
                    print(f"{order}: {done + 1} of {len(cases)} stops", flush=True)
                try:
                    launch_kills.stopped(
                        launcher, cloud, study, order, number, when, sent, again=again
                    )
                except AssertionError as error:
                    wrong += 1
                    print(error)
                    cloud.empty()
                    cloud.end = launcher.end
            minutes = (time.monotonic() - started) / 60
            print(
                f"{order}: {len(calls)} calls, {len(cases)} stops, "
                f"{wrong} wrong so far, {minutes:.1f} minutes",
                flush=True,
            )
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
