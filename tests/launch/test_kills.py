"""SIGINT, SIGTERM and SIGKILL of the launcher: nothing is lost sight of, nothing stays.

One call of each kind here; every call with every signal is
`python -m tests.soak.launch_kills`.
"""

import signal
import sys

import pytest

from launch import main
from scaling import chaos
from tests.support import launch_kills
from tests.support.launching import ORDERS


@pytest.mark.parametrize("order", ["tpu", "slices"])
def test_what_a_stopped_launcher_leaves_is_found_and_ended(
    launcher, cloud, study, order
):
    calls = launch_kills.undisturbed(launcher, cloud, study, order)
    cases = list(launch_kills.some(calls))
    assert len({sent for _, _, sent in cases}) == 3
    for case in cases:
        launch_kills.stopped(launcher, cloud, study, order, *case)


def test_a_launcher_that_dies_between_two_calls_leaves_nothing(launcher, cloud, study):
    for number, point in enumerate(chaos.LAUNCHER):
        launch_kills.died(launcher, cloud, study, "slices", point, again=number % 2 > 0)


def test_a_stopped_launcher_is_continued_by_the_next(launcher, cloud, study):
    calls = launch_kills.undisturbed(launcher, cloud, study, "slices")
    for kind in (
        "compute POST instanceTemplates",
        "compute DELETE instanceGroupManagers",
    ):
        case = calls.index(kind), "after", launch_kills.SIGNALS[2]
        launch_kills.stopped(launcher, cloud, study, "slices", *case, again=True)


@pytest.mark.parametrize("code", [0, 2])
@pytest.mark.parametrize(
    "stopped_at",
    [
        "compute POST instances",  # the head's: no machine has hours of the budget yet
        "compute DELETE instanceGroupManagers",  # everything is there
    ],
)
def test_a_study_that_ended_while_no_launcher_looked_costs_nothing_more(
    launcher, cloud, study, stopped_at, code
):
    calls = launch_kills.undisturbed(launcher, cloud, study, "slices")
    cloud.ends = False
    cloud.faults[calls.index(stopped_at)] = launch_kills.SIGNALS[2], "before"
    assert launcher.up(study, *ORDERS["slices"]).returncode < 0
    cloud.faults.clear()
    assert cloud.things
    launcher.end(code)
    made = len(cloud.made)
    done = launcher.up(study, *ORDERS["slices"])
    assert done.returncode == (code > 0), done.stderr
    assert "deleting its machines" in done.stderr
    assert not cloud.things and len(cloud.made) == made


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_reply_that_is_cut_off_by_a_stop_does_not_complain(monkeypatch, number):
    complaints = []
    monkeypatch.setattr(sys, "unraisablehook", complaints.append)

    class Reply:
        def __init__(self):
            signal.raise_signal(number)
            self.file = None

        def __del__(self):
            assert self.file is None

    before = signal.signal(number, signal.SIG_DFL)  # nohup has it ignored
    try:
        with pytest.raises(main.Stopped) as stopped, main._signals():
            Reply()
    finally:
        signal.signal(number, before)
    assert stopped.value.signal == number
    del stopped
    assert complaints == []


def test_a_signal_that_is_ignored_does_not_stop_a_launcher():
    """As nohup has it, so that `up` goes on once its user has logged out."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with main._signals():
            signal.raise_signal(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
