"""The whole life of a fleet's machines, at both services, and what goes wrong."""

import shlex
import signal
import threading
import time
from collections import Counter

import pytest

from tests.support.launching import MACHINES, ORDERS, WHERE, WORKDIR

END = "to delete all of it: scaling-launch down "
# Lives of mine-0 that end badly before one that lasts, and what is said of them.
BAD = {
    ("tpu", "Quota"): ["quota"],
    ("tpu", "no capacity in the zone"): ["WAITING_FOR_RESOURCES", "FAILED"],
    ("tpu", "suspended"): ["PROVISIONING", "ACTIVE", "SUSPENDED"],
    ("tpu", "suspending"): ["ACTIVE", "SUSPENDING"],
    ("compute", "Quota"): ["quota"],
    ("compute", "not have enough resources"): ["stockout"],
    ("compute", "terminated"): ["RUNNING", "STOPPING", "TERMINATED"],
    ("compute", "gone"): ["RUNNING", "STOPPING", "GONE"],
    ("slices", "Quota"): ["quota"],
    ("slices", "not have enough resources"): ["stockout"],
    ("slices", "3 of 4 hosts run"): ["STAGING", "RUNNING", "LOST"],
}


def made(cloud, name):
    """How often the machine itself was made, without its parts."""
    parts = ("template", "workload policy")
    return sum(t.name == name and t.kind not in parts for t in cloud.made)


@pytest.mark.parametrize("order", ORDERS)
def test_a_fleet_is_made_followed_and_deleted_when_its_study_has_ended(
    launcher, cloud, study, order
):
    done = launcher.up(study, *ORDERS[order])
    assert done.returncode == 0, done.stderr
    assert "the study has ended; deleting its machines" in done.stderr
    assert {thing.name for thing in cloud.made} == MACHINES[order]
    assert not cloud.things
    kept = [path for path in launcher.bucket.rglob("*") if path.is_file()]
    assert kept == []  # the token and the source are gone with the fleet


@pytest.mark.parametrize("order, says", BAD)
def test_what_is_refused_suspended_or_lost_is_deleted_and_asked_for_again(
    launcher, cloud, study, order, says
):
    cloud.lives["mine-0"] = [BAD[order, says]] * 2 + [["ACTIVE"]]
    if order != "tpu":
        cloud.lives["mine-0"][-1] = ["RUNNING"]
    cloud.deleting_looks = 3
    done = launcher.up(study, *ORDERS[order])
    assert done.returncode == 0, done.stderr
    assert says in done.stderr
    assert made(cloud, "mine-0") == 3 and made(cloud, "mine-head") == 1
    assert not cloud.things


@pytest.mark.parametrize("order", ORDERS)
def test_a_lost_reply_makes_no_second_machine(launcher, cloud, study, order):
    """Each call in turn is done, but its answer is lost."""
    cloud.faults = dict.fromkeys(range(0, 60, 2), "lost")
    done = launcher.up(study, *ORDERS[order])
    assert done.returncode == 0, done.stderr
    assert "no answer" in done.stderr
    assert set(Counter((t.kind, t.name) for t in cloud.made).values()) == {1}
    assert not cloud.things


def test_a_service_that_does_not_answer_is_asked_again(launcher, cloud, study):
    cloud.faults = dict.fromkeys(range(5, 17), "unavailable")
    done = launcher.up(study, *ORDERS["tpu"])
    assert done.returncode == 0, done.stderr
    cloud.faults = dict.fromkeys(range(len(cloud.calls), 10**4), "unavailable")
    done = launcher.up(study, *ORDERS["tpu"])
    assert done.returncode == 1
    *_, line = done.stderr.splitlines()
    assert "no answer in 5 tries" in line and "Traceback" not in done.stderr


def test_what_is_not_allowed_ends_and_says_what_is_billed(launcher, cloud, study):
    cloud.lives["mine-1"] = [["denied"]]
    for order, why in (("tpu", "tpu.nodes.create"), ("compute", "instances.create")):
        cloud.calls.clear()
        done = launcher.up(study, *ORDERS[order])
        assert done.returncode == 1
        *_, line = done.stderr.splitlines()
        assert why in line and "these may exist and be billed: mine-0, mine-1, " in line
        where = f"'{study}' --name mine --zone us-east5-b --project proj-1"
        assert line.endswith(END + where)
        assert launcher.of("down", study).returncode == 0
        assert not cloud.things


def test_one_machine_needs_no_head(launcher, cloud, study):
    done = launcher.up(study, "--accelerator", "v5e-8")
    assert done.returncode == 0, done.stderr
    assert [thing.name for thing in cloud.made] == ["mine-0"]
    script = cloud.made[0].body.tpu.node_spec[0].node.metadata["startup-script"]
    assert "ROLE='alone'\n" in script and "HEAD=''\n" in script


def test_the_other_service_can_be_asked(launcher, cloud, study):
    done = launcher.up(study, "--accelerator", "v6e-8", "--api", "tpu")
    assert done.returncode == 0, done.stderr
    assert [thing.kind for thing in cloud.made] == ["queued resource"]
    for wrong, api in (("v5e-8", "compute"), ("tpu7x-8", "tpu")):
        done = launcher.up(study, "--accelerator", wrong, "--api", api)
        assert done.returncode == 2 and "leave it out" in done.stderr


def test_waiting_has_an_end(launcher, cloud, study):
    cloud.lives["mine-0"] = cloud.lives["mine-1"] = [["WAITING_FOR_RESOURCES"]]
    done = launcher.up(study, *ORDERS["tpu"], "--wait_hours", "0.0003")
    assert done.returncode == 1 and "no machine was to be had" in done.stderr
    assert "everything is deleted and nothing is billed" in done.stderr
    assert not cloud.things


def test_a_smaller_count_deletes_what_is_too_many(launcher, cloud, study):
    words = ("--accelerator", "v6e-8", "--spot", "--count")
    cloud.faults[12] = (signal.SIGKILL, "after")
    launcher.up(study, *words, "3")
    assert ("instance", "mine-2") in cloud.things
    done = launcher.up(study, *words, "1")
    assert done.returncode == 2 and "other machines, run under it" in done.stderr
    cloud.end = lambda: ("instance", "mine-2") in cloud.things or launcher.end()
    done = launcher.up(study, *words, "2")
    assert done.returncode == 0 and not cloud.things, done.stderr


def test_another_study_does_not_take_the_machines_of_this_one(launcher, cloud, study):
    cloud.lives["mine-1"] = [["denied"]]
    assert launcher.up(study, *ORDERS["compute"]).returncode == 1
    other = study.with_name("other.py")
    other.write_text(study.read_text())
    done = launcher.up(other, *ORDERS["compute"])
    assert done.returncode == 2 and "take another name" in done.stderr
    assert launcher.of("down", study).returncode == 0 and not cloud.things
    cloud.lives.clear()
    assert launcher.up(other, *ORDERS["compute"]).returncode == 0
    assert not list((launcher.folder / ".cache").rglob("*-mine.*"))


@pytest.mark.parametrize(
    "code, says", [(1, "has failed on every start"), (2, "the study cannot run")]
)
def test_a_study_that_cannot_run_ends_its_fleet(launcher, cloud, study, code, says):
    cloud.end = lambda: launcher.end(code)
    done = launcher.up(study, *ORDERS["compute"])
    assert done.returncode == 1 and says in done.stderr
    assert not cloud.things


def test_a_machine_that_cannot_start_is_tried_three_times_and_named(
    launcher, cloud, study
):
    """The others go on; without any of them the fleet ends."""

    def end():
        if ("instance", "mine-0") in cloud.things or made(cloud, "mine-0") < 3:
            launcher.fail("mine-0", "uv: no disk")
        else:
            launcher.end()

    cloud.end = end
    done = launcher.up(study, *ORDERS["compute"])
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("mine-0: it could not start: uv: no disk") == 3
    assert "set aside after 3 times the same" in done.stderr
    assert made(cloud, "mine-0") == 3 and made(cloud, "mine-1") == 1
    cloud.empty()
    cloud.end = lambda: [launcher.fail(f"mine-{i}", "uv: no disk") for i in (0, 1)]
    done = launcher.up(study, *ORDERS["compute"])
    assert done.returncode == 1 and not cloud.things
    assert "no machine is left: set aside: mine-0: uv: no disk; mine-1" in done.stderr


def test_a_fleet_is_looked_at_and_its_logs_are_asked_for(launcher, cloud, study):
    cloud.lives["mine-1"] = [["denied"]]
    launcher.up(study, *ORDERS["tpu"])
    done = launcher.of("status", study)
    assert done.returncode == 0
    assert "mine-0  queued resource  Cloud TPU  " in done.stdout
    assert "mine-head  instance  Compute Engine  " in done.stdout
    assert f"records: scaling status {shlex.quote(WORKDIR)}" in done.stdout
    assert END in done.stdout
    logs = launcher("logs", study, *WHERE, "--machine", "mine-7")
    assert logs.returncode == 2 and "mine-0, mine-head" in logs.stderr
    assert launcher.of("down", study).returncode == 0
    assert "there is nothing" in launcher.of("status", study).stdout


def test_down_finds_what_no_launcher_knows_of(launcher, cloud, study):
    """A node without its queued resource, and a policy without its group."""
    from google.cloud import tpu_v2

    labels = {"datalaw": "mine"}
    node = tpu_v2.Node(name="projects/p/locations/z/nodes/mine-3", labels=labels)
    node.state = "READY"
    cloud.make("node", "mine-3", node, ["READY"])
    policy = {"name": "mine-4", "description": "datalaw fleet mine"}
    cloud.make("workload policy", "mine-4", policy, ["READY"])
    other = {"name": "other-0", "description": "datalaw fleet other"}
    cloud.make("workload policy", "other-0", other, ["READY"])
    shown = launcher.of("status", study).stdout
    assert "mine-3" in shown and "mine-4" in shown and "other" not in shown
    done = launcher.of("down", study)
    assert done.returncode == 0
    assert "mine-3 (node), mine-4 (workload policy)" in done.stdout
    assert set(cloud.things) == {("workload policy", "other-0")}
    assert "nothing there" in launcher.of("down", study).stdout


def test_down_stops_an_up_that_would_make_the_machines_again(launcher, cloud, study):
    cloud.ends, ended = False, []
    follow = lambda: ended.append(launcher.up(study, *ORDERS["compute"]).returncode)
    following = threading.Thread(target=follow)
    following.start()
    late = time.monotonic() + 60
    while len(cloud.things) < 3 and time.monotonic() < late:
        time.sleep(0.01)
    other = launcher.up(
        study, *ORDERS["compute"]
    )  # its words and the other's are mixed
    assert other.returncode == 2 and "follows or deletes it" in other.stderr
    assert launcher.of("down", study).returncode == 0
    following.join(60)
    assert ended == [128 + signal.SIGTERM] and not cloud.things


def test_down_waits_for_a_service_that_does_not_answer(launcher, cloud, study):
    cloud.lives["mine-1"] = [["denied"]]
    launcher.up(study, *ORDERS["tpu"])
    assert cloud.things
    calls = len(cloud.calls)
    cloud.faults = dict.fromkeys(range(calls, calls + 8), "unavailable")
    done = launcher.of("down", study)
    assert done.returncode == 0, done.stderr
    assert not cloud.things


def test_down_says_what_it_could_not_do(launcher, cloud, study):
    cloud.lives["mine-1"] = [["denied"]]
    launcher.up(study, *ORDERS["compute"])
    cloud.deleting_looks = 10**6
    done = launcher.of("down", study)
    assert done.returncode == 1
    assert (
        "these still exist and may be billed: mine-head (instance, stop" in done.stderr
    )
    assert END in done.stderr
    # One service answers no more: what is in the other one is deleted all the same.
    for thing in cloud.things.values():
        thing.looks = 0
    cloud.things.pop(("instance", "mine-head"))
    cloud.calls.clear()
    cloud.down = {"tpu"}
    done = launcher.of("down", study)
    assert done.returncode == 1 and "could not look in Cloud TPU" in done.stderr
    assert not cloud.things
