"""Commands that fail, replies that are lost, signals, and waiting without end."""

import shutil

import pytest

from launch import gcloud
from tests.support.fake_gcloud import END, NEW, WHERE, ask


def test_a_request_that_fails_ends_the_waiting(cloud, study):
    cloud.states("", "PROVISIONING", "FAILED")
    done = cloud(*ask(study))
    assert done.returncode == 1 and "mine is failed; the reason: gcloud" in done.stderr
    assert cloud.verbs[-1] == "describe"


@pytest.mark.parametrize("verb", ["describe", "create", "scp", "install.sh", "restart"])
def test_a_failing_command_is_one_line_with_the_last_of_its_stderr(cloud, study, verb):
    if verb == "create":
        cloud.states("")
    done = cloud(*ask(study), fails=verb)
    assert done.returncode == 1
    *_, line = done.stderr.splitlines()
    assert line.startswith("scaling-launch: gcloud compute tpus ") and verb in line
    assert "Traceback" not in done.stderr
    # Before anything was asked for there is nothing to end.
    ending = "" if verb == "describe" else f"; {END}"
    assert line.endswith(f" failed: ERROR: quota{ending}")
    assert verb in " ".join(cloud.calls[-2 if verb == "create" else -1])


# describe, create, describe, scp, install, start: from 1 on there may be a slice.
AFTER_CREATE = range(1, len(NEW))


@pytest.mark.parametrize("number", AFTER_CREATE)
def test_a_signal_says_what_is_left_and_how_to_end_it(cloud, study, number):
    more = ("--project", "proj-1")
    done = cloud(*ask(study, *more), SIGNAL_AT=str(number))
    assert done.returncode == 143 and "Traceback" not in done.stderr
    assert f"scaling-launch: {END} --project proj-1\n" in done.stderr
    assert len(cloud.calls) == number + 1


def test_a_signal_before_anything_was_asked_for(cloud, study):
    done = cloud(*ask(study), SIGNAL_AT="0")
    assert done.returncode == 143 and "billed" not in done.stderr
    assert cloud.verbs == ["describe"]


@pytest.mark.parametrize("number", [0, 2])
def test_a_lost_describe_is_asked_for_again(cloud, study, number):
    done = cloud(*ask(study), FAILS_AT=f"{number} {number + 1}")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("connection lost); trying again") == 2
    assert cloud.verbs == [*NEW[:number], *["describe"] * 2, *NEW[number:]]


def test_a_describe_that_stays_lost_ends(cloud, study):
    lost = " ".join(map(str, range(2, 99)))
    done = cloud(*ask(study), FAILS_AT=lost)
    assert done.returncode == 1 and done.stderr.endswith(f"lost; {END}\n")
    assert cloud.verbs == ["describe", "create", *["describe"] * gcloud.TRIES]


def test_what_is_not_allowed_is_not_asked_for_again(cloud, study, monkeypatch):
    monkeypatch.setattr(gcloud, "FINAL", ("quota",))
    assert cloud(*ask(study), fails="describe").returncode == 1
    assert cloud.verbs == ["describe"]


def test_a_lost_reply_of_create_is_looked_after(cloud, study):
    cloud.states("", "PROVISIONING", "ACTIVE\tv5litepod-8")
    done = cloud(*ask(study), FAILS_AT="1")
    assert done.returncode == 0, done.stderr
    assert "connection lost; but it exists, provisioning: continuing" in done.stderr
    cloud.states("", "")
    done = cloud(*ask(study), FAILS_AT="1")
    assert done.returncode == 1 and done.stderr.endswith(f"connection lost; {END}\n")


def test_a_new_request_need_not_be_listed_at_once(cloud, study):
    cloud.states("", "", "", "ACTIVE\tv5litepod-8")
    done = cloud(*ask(study))
    assert done.returncode == 0 and "mine: not listed yet" in done.stderr
    cloud.states("")
    done = cloud(*ask(study))
    assert done.returncode == 1 and "mine is gone" in done.stderr


@pytest.mark.parametrize("state", ["WAITING_FOR_RESOURCES", "PROVISIONING"])
def test_waiting_has_an_end(cloud, study, state):
    cloud.states("", state)
    done = cloud(*ask(study, "--wait_hours", "0"))
    assert done.returncode == 1 and cloud.verbs[-1] == "delete"
    *_, line = done.stderr.splitlines()
    assert f"mine was {state.lower()} after 0 hours (--wait_hours)" in line
    assert "the request is deleted and nothing is billed" in line and END not in line
    cloud.states("", state)
    done = cloud(*ask(study, "--wait_hours", "0"), fails="delete")
    assert done.returncode == 1 and done.stderr.endswith(f"{END}\n")


@pytest.mark.parametrize("state", gcloud.ENDED)
def test_a_request_that_ended_is_deleted_and_said(cloud, study, state):
    cloud.states(f"{state}\tv5litepod-8", "ACTIVE\tv5litepod-8")
    done = cloud(*ask(study))
    assert done.returncode == 0, done.stderr
    assert f"it was {state.lower()}; deleted, and requested again" in done.stderr
    assert cloud.verbs[:3] == ["describe", "delete", "create"]


def test_down_of_what_is_gone_is_done(cloud):
    gone = cloud.calls_file.with_name("calls.gone")
    gone.touch()
    done = cloud("down", *WHERE)
    assert done.returncode == 0 and "mine: there is none" in done.stdout
    gone.unlink()
    cloud.states("DELETING", "")
    done = cloud("down", *WHERE, FAILS_AT="0")  # the reply was lost
    assert done.returncode == 0 and "mine: deleted" in done.stdout
    cloud.states("ACTIVE\tv5litepod-8")
    done = cloud("down", *WHERE, FAILS_AT="0")
    assert done.returncode == 1 and done.stderr.endswith(f"connection lost; {END}\n")
    done = cloud("down", *WHERE, SIGNAL_AT=str(len(cloud.calls)))
    assert done.returncode == 143 and END in done.stderr


def test_a_failure_on_the_vm_is_told(cloud, study):
    (cloud.home / "datalaw").write_text("a file in the way")
    done = cloud(*ask(study))
    assert done.returncode == 1 and cloud.verbs == NEW[:-1]
    assert "mkdir" in done.stderr.splitlines()[-1].partition(" failed: ")[2]


def test_no_gcloud_is_one_clear_line(cloud, study, tmp_path):
    (tmp_path / "only git").mkdir()
    (tmp_path / "only git" / "git").symlink_to(shutil.which("git"))
    for words in (ask(study), ("down", *WHERE)):
        done = cloud(*words, path=tmp_path / "only git")
        assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
        assert "install the Google Cloud CLI" in done.stderr
