"""The launcher as users meet it: a real command, a made-up gcloud and VM.

The made-up gcloud writes down its arguments, answers `describe` from a list, and runs
what ssh is given in a real shell, in a home folder of its own, where python, scaling,
sudo and systemctl only write down how they were called.
"""

import json
import os
import shlex
import shutil
import stat
import subprocess
import sys
import tarfile

import pytest

from launch import main, tpu
from scaling.errors import UserError
from scaling.record import source_commit

GCLOUD = """#!{python}
import json, os, shutil, signal, subprocess, sys, time
home, words = {home!r}, sys.argv[1:]
with open({calls!r}, "a+") as file:
    file.write(json.dumps(words) + "\\n")
    file.seek(0)
    number = len(file.readlines()) - 1
if str(number) == os.environ.get("SIGNAL_AT"):
    os.kill(os.getppid(), signal.SIGTERM)
    time.sleep(60)
if str(number) in os.environ.get("FAILS_AT", "").split():
    sys.exit("ERROR: connection lost")
if "delete" in words and os.path.exists({calls!r} + ".gone"):
    sys.exit("ERROR: (gcloud) NOT_FOUND: Resource was not found")
fails = os.environ.get("FAILS", "")
if fails and fails in " ".join(words):
    sys.exit("WARNING: first\\nERROR: quota\\n")
if "describe" in words:
    with open({states!r}) as file:
        state, *rest = json.load(file)
    with open({states!r}, "w") as file:
        json.dump(rest or [state], file)
    if not state:
        sys.exit("ERROR: (gcloud) NOT_FOUND: Resource was not found")
    print(state)
if "scp" in words:
    shutil.copy(words[4], os.path.join(home, words[5].partition(":")[2]))
if "ssh" in words:
    command = [w for w in words if w.startswith("--command=")][0].partition("=")[2]
    environment = {{"HOME": home, "PATH": {tools!r}}}
    done = subprocess.run(["bash", "-c", command], cwd=home, env=environment)
    sys.exit(done.returncode)
"""

# One script under many names; what it is called by and with goes to a file.
TOOL = """#!/bin/bash
name=${0##*/}
printf '%s\\0' "$name" "$@" >> "$HOME/called"
printf '\\n' >> "$HOME/called"
case "$name $*" in
*"-m venv "*) mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; cp "$0" "$3/bin/scaling" ;;
sudo\\ tee*) cat > "$HOME/unit" ;;
sudo*) exec "$@" ;;
systemctl\\ restart*) eval "$(sed -n 's/^ExecStart=//p' "$HOME/unit")" ;;
systemctl\\ is-active*) cat "$HOME/active" 2> /dev/null || { echo inactive; exit 3; } ;;
esac
"""
STUBS = ("python3", "python3.13", "sudo", "systemctl", "journalctl")
REAL = ("bash", "cat", "cp", "dirname", "gzip", "id", "mkdir", "rm", "sed", "tar")


@pytest.fixture
def cloud(tmp_path, monkeypatch, capfd):
    return Cloud(tmp_path, monkeypatch, capfd)


class Cloud:
    def __init__(self, folder, monkeypatch, capfd):
        self.monkeypatch, self.capfd = monkeypatch, capfd
        self.home = folder / "vm"
        self.calls_file, self.states_file = folder / "calls", folder / "states"
        self.mine = folder / "mine"
        tools, self.bin = folder / "tools", folder / "bin"
        for made in (self.home, tools, self.bin, self.mine):
            made.mkdir()
        for name in STUBS:
            write_program(tools / name, TOOL)
        for name in REAL:
            (tools / name).symlink_to(shutil.which(name))
        made = {
            "python": sys.executable,
            "home": str(self.home),
            "calls": str(self.calls_file),
            "states": str(self.states_file),
            "tools": str(tools),
        }
        write_program(self.bin / "gcloud", GCLOUD.format(**made))
        self.states("", "ACTIVE\tv5litepod-8")

    def states(self, *states):
        """What `describe` answers, one after the other; "" for no such resource."""
        self.states_file.write_text(json.dumps(states))
        self.calls_file.unlink(missing_ok=True)

    def __call__(self, *words, fails="", path=None, **more):
        """The command in this process: quicker than a process of its own.

        Args:
          fails: part of the gcloud commands that fail.
          more: FAILS_AT, numbers of gcloud calls that fail; SIGNAL_AT, the one during
            which this process gets SIGTERM.
        """
        given = {"FAILS_AT": "", "SIGNAL_AT": ""} | more
        for name, value in (self.environment(fails, path) | given).items():
            self.monkeypatch.setenv(name, value)
        self.capfd.readouterr()
        code = main.main(main.parse(["scaling-launch", *map(str, words)]))
        return subprocess.CompletedProcess(words, code, *self.capfd.readouterr())

    def apart(self, *words):
        """The console script in a process of its own."""
        script = "from launch import main; main.entry()"
        return subprocess.run(
            [sys.executable, "-c", script, *map(str, words)],
            env=os.environ | self.environment(),
            capture_output=True,
            text=True,
        )

    def environment(self, fails="", path=None):
        search = path or f"{self.bin}:{os.environ['PATH']}"
        return {"PATH": str(search), "HOME": str(self.mine), "FAILS": fails}

    @property
    def calls(self):
        if not self.calls_file.exists():
            return []
        return [json.loads(line) for line in self.calls_file.read_text().splitlines()]

    @property
    def verbs(self):
        return [words[3] for words in self.calls]

    @property
    def called(self):
        """Programs of the VM with their arguments."""
        lines = (self.home / "called").read_text().split("\0\n")
        return [line.split("\0") for line in lines if line]


def write_program(path, text):
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def study(tmp_path):
    """A study and a family of the user's own, outside the source tree."""
    folder = tmp_path / "my studies"
    folder.mkdir()
    text = (tpu.ROOT / "configs" / "smoke.py").read_text()
    (folder / "first try.py").write_text(text.replace("LENGTH = 4,", "LENGTH = 8,"))
    (folder / "my corpus.py").write_text("documents = list\n")
    return folder / "first try.py"


WHERE = ("--name", "mine", "--zone", "us-west4-a")
WORKDIR = "gs://bucket/it's mine"
NEW = ["describe", "create", "describe", "scp", "ssh", "ssh"]


def ask(study, *more, workdir=WORKDIR, target="v5litepod-8"):
    words = ("up", study, *WHERE, "--target", target, "--workdir", workdir)
    return (*words, "--poll_seconds", "0", *more)


def test_a_study_is_launched_from_nothing(cloud, study):
    corpus = study.with_name("my corpus.py")
    done = cloud.apart(
        *ask(study, "--include", corpus, "--spot", "--project", "proj-1")
    )
    assert done.returncode == 0, done.stderr
    assert cloud.verbs == NEW
    create = cloud.calls[1]
    assert create[:5] == ["compute", "tpus", "queued-resources", "create", "mine"]
    assert set(create[5:]) == {
        "--node-id=mine",
        "--accelerator-type=v5litepod-8",
        "--runtime-version=v2-alpha-tpuv5-lite",
        "--spot",
        "--valid-until-duration=1440m",
        "--zone=us-west4-a",
        "--project=proj-1",
    }
    assert all("--zone=us-west4-a" in words for words in cloud.calls)
    assert all("--project=proj-1" in words for words in cloud.calls)
    # Words with spaces and quotes came through three shells unchanged.
    started = [words for words in cloud.called if words[0] == "scaling"]
    expected = ["scaling", "run", "given/first try.py", "--workdir", WORKDIR]
    assert started == [[*expected, "--include", "given/my corpus.py"]]
    source = cloud.home / "datalaw" / "source"
    assert (source / "given" / "first try.py").read_text() == study.read_text()
    assert (source / "scaling" / "main.py").is_file()
    assert source_commit(source)[:7] == source_commit()[:7] != ""
    assert "scaling-launch logs --name mine --zone us-west4-a" in done.stdout


def test_the_vm_is_installed_with_the_pins_and_restarts_the_study(cloud, study):
    assert cloud(*ask(study)).returncode == 0
    installs = [" ".join(words) for words in cloud.called if "install" in words]
    assert any(
        "-c constraints.txt" in i and "-e .[tpu,corpora,gcs]" in i for i in installs
    )
    unit = (cloud.home / "unit").read_text().splitlines()
    assert f"ExecStart=/bin/bash {cloud.home}/datalaw/source/study.sh run" in unit
    assert {"Restart=on-failure", "RestartPreventExitStatus=2"} <= set(unit)
    assert (
        unit.index("[Unit]") < unit.index("StartLimitBurst=5") < unit.index("[Service]")
    )
    verbs = [words[1] for words in cloud.called if words[0] == "systemctl"]
    assert verbs == ["daemon-reload", "reset-failed", "enable", "restart"]


def test_an_old_source_tree_does_not_stay(cloud, study):
    stale = cloud.home / "datalaw" / "source" / "scaling" / "families" / "stale.py"
    stale.parent.mkdir(parents=True)
    stale.touch()
    assert cloud(*ask(study)).returncode == 0
    assert not stale.exists() and (stale.parent / "transformer.py").is_file()


def test_a_study_inside_the_source_keeps_its_place(tmp_path):
    archive = tmp_path / "a.tar.gz"
    tpu.pack(tpu.Study(str(tpu.ROOT / "configs" / "smoke.py"), "gs://b-u/w"), archive)
    with tarfile.open(archive) as tar:
        names = tar.getnames()
        script = tar.extractfile("study.sh").read().decode()
    assert names.count("configs/smoke.py") == 1
    assert "scaling run configs/smoke.py --workdir gs://b-u/w" in script
    assert not [name for name in names if name.startswith((".git/", "runs", "/"))]


def test_two_files_of_one_name_are_refused(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.py").touch()
    study = tpu.Study(
        str(tmp_path / "a/x.py"), "gs://bb/w", (str(tmp_path / "b/x.py"),)
    )
    with pytest.raises(UserError, match="rename it"):
        tpu.pack(study, tmp_path / "out.tar.gz")


def test_the_dry_run_prints_what_is_executed_and_executes_nothing(cloud, study):
    printed = cloud(*ask(study, "--spot", "--dry_run"))
    assert printed.returncode == 0 and not cloud.calls, printed.stderr
    assert cloud(*ask(study, "--spot")).returncode == 0
    lines = [shlex.split(line) for line in printed.stdout.splitlines()]
    assert lines == [["gcloud", *words] for words in cloud.calls]


def test_a_request_that_waits_is_waited_for(cloud, study):
    cloud.states("WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE\tv5litepod-8")
    done = cloud(*ask(study))
    assert done.returncode == 0, done.stderr
    assert cloud.verbs == ["describe"] * 3 + ["scp", "ssh", "ssh"]
    assert "mine: provisioning" in done.stderr


def test_a_preempted_slice_is_asked_for_again(cloud, study):
    cloud.states("SUSPENDED\tv5litepod-8", "CREATING", "ACTIVE\tv5litepod-8")
    done = cloud(*ask(study))
    assert done.returncode == 0, done.stderr
    assert cloud.verbs == [
        *("describe", "delete", "create", "describe", "describe", "scp", "ssh", "ssh")
    ]
    assert {"--force", "--quiet"} < set(cloud.calls[1])


def test_a_slice_that_is_being_deleted_is_awaited_then_made(cloud, study):
    cloud.states("DELETING\tv5litepod-8", "DELETING", "", "ACTIVE\tv5litepod-8")
    assert cloud(*ask(study)).returncode == 0
    assert cloud.verbs == ["describe"] * 2 + NEW


def test_a_request_that_fails_ends_the_waiting(cloud, study):
    cloud.states("", "PROVISIONING", "FAILED")
    done = cloud(*ask(study))
    assert done.returncode == 1 and "mine is failed; the reason: gcloud" in done.stderr
    assert cloud.verbs[-1] == "describe"


def test_a_running_study_is_left_alone(cloud, study):
    assert cloud(*ask(study)).returncode == 0
    (cloud.home / "active").write_text("active\n")
    cloud.states("ACTIVE\tv5litepod-8")
    again = cloud(*ask(study))
    assert again.returncode == 0 and "the study is running" in again.stderr
    assert cloud.verbs == ["describe", "ssh"]
    other = cloud(*ask(study, workdir="gs://bucket/other"))
    assert other.returncode == 2 and "another study runs there" in other.stderr
    wrong = cloud(*ask(study, target="v5litepod-4"))
    assert wrong.returncode == 2 and "mine is a v5litepod-8" in wrong.stderr


def test_a_study_that_ended_is_started_again_with_the_new_source(cloud, study):
    cloud.states("ACTIVE\tv5litepod-8")
    assert cloud(*ask(study)).returncode == 0
    assert cloud.verbs == ["describe", "ssh", "describe", "scp", "ssh", "ssh"]


def test_status_logs_and_down(cloud, study):
    assert cloud(*ask(study)).returncode == 0
    cloud.states("ACTIVE\tv5litepod-8")
    status = cloud("status", *WHERE)
    assert status.returncode == 0 and "mine: v5litepod-8, active" in status.stdout
    assert cloud.called[-1] == ["scaling", "status", WORKDIR]
    assert cloud("logs", *WHERE, "--follow").returncode == 0
    assert cloud.called[-1][0] == "journalctl" and cloud.called[-1][-1] == "--follow"
    assert cloud("down", *WHERE).returncode == 0
    down = ["queued-resources", "delete", "mine", "--force", "--quiet"]
    assert cloud.calls[-1][2:-1] == down
    cloud.states("")
    gone = cloud("status", *WHERE)
    assert gone.returncode == 1 and gone.stdout == "mine: there is none\n"


END = "mine may be there and billed; to end it: scaling-launch down "
END += "--name mine --zone us-west4-a"


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
    assert done.stderr.count("connection lost); asking again") == 2
    assert cloud.verbs == [*NEW[:number], *["describe"] * 2, *NEW[number:]]


def test_a_describe_that_stays_lost_ends(cloud, study):
    lost = " ".join(map(str, range(2, 99)))
    done = cloud(*ask(study), FAILS_AT=lost)
    assert done.returncode == 1 and done.stderr.endswith(f"lost; {END}\n")
    assert cloud.verbs == ["describe", "create", *["describe"] * tpu.TRIES]


def test_what_is_not_allowed_is_not_asked_for_again(cloud, study, monkeypatch):
    monkeypatch.setattr(tpu, "FINAL", ("quota",))
    assert cloud(*ask(study), fails="describe").returncode == 1
    assert cloud.verbs == ["describe"]


def test_a_lost_reply_of_create_is_looked_after(cloud, study):
    cloud.states("", "PROVISIONING", "ACTIVE\tv5litepod-8")
    done = cloud(*ask(study), FAILS_AT="1")
    assert done.returncode == 0, done.stderr
    assert "connection lost; but it is there, provisioning: going on" in done.stderr
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


@pytest.mark.parametrize("state", tpu.ENDED)
def test_a_request_that_ended_is_deleted_and_said(cloud, study, state):
    cloud.states(f"{state}\tv5litepod-8", "ACTIVE\tv5litepod-8")
    done = cloud(*ask(study))
    assert done.returncode == 0, done.stderr
    assert f"it was {state.lower()}; deleted, and asked for again" in done.stderr
    assert cloud.verbs[:3] == ["describe", "delete", "create"]


def test_down_of_what_is_gone_is_done(cloud):
    gone = cloud.calls_file.with_name("calls.gone")
    gone.touch()
    done = cloud("down", *WHERE)
    assert done.returncode == 0 and "mine: there is none, or no more" in done.stdout
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


WRONG = {
    "name": ({"--name": "My_slice"}, "lower-case letters"),
    "zone": ({"--zone": "us-west4"}, "such as us-central1-a"),
    "project": ({"--project": "My project"}, "a project's id"),
    "local workdir": ({"--workdir": "runs/mine"}, "gs://BUCKET/FOLDER"),
    "bucket alone": ({"--workdir": "gs://bucket/"}, "gs://BUCKET/FOLDER"),
    "hosts": ({"--target": "v5litepod-16"}, "it has 4 hosts"),
    "v4 hosts": ({"--target": "v4-16"}, "v4-8, v5litepod-1, v5litepod-4"),
    "gpu": ({"--target": "h100-8"}, "give a TPU: v4-8"),
    "unknown": ({"--target": "v7-8"}, "target: 'v7-8'"),
    "wait": ({"--poll_seconds": "-1"}, "0 or more"),
    "hours": ({"--wait_hours": "-1"}, "0 or more"),
    "no end": ({"--wait_hours": "inf"}, "and an end"),
    "include": ({"--include": "nowhere.py"}, "include: 'nowhere.py'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_mistake_is_one_line_before_anything_is_created(cloud, study, case):
    changes, says = WRONG[case]
    done = cloud(*ask(study), *(word for pair in changes.items() for word in pair))
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert says in done.stderr and not cloud.calls


def test_a_study_that_cannot_run_there_is_refused_before_anything_is_created(
    cloud, study
):
    nowhere = cloud(*ask("nowhere.py"))
    assert nowhere.returncode == 2 and "study: 'nowhere.py'" in nowhere.stderr
    # Four windows a step cannot be split over eight chips, but over four they can.
    small = tpu.ROOT / "configs" / "smoke.py"
    split = cloud(*ask(small))
    assert split.returncode == 2 and "split over 8 devices" in split.stderr
    assert not cloud.calls
    assert cloud(*ask(small, "--dry_run", target="v5e-4")).returncode == 0


@pytest.mark.parametrize(
    "target", ["v4-8", "v5litepod-1", "v5litepod-4", "v5e-8", "v5p-8", "v6e-1", "v6e-8"]
)
def test_every_one_host_slice_has_a_runtime(target):
    kind, _, count = tpu.check_target(target).name.partition("-")
    assert kind in tpu.RUNTIMES and count == target.partition("-")[2]


def test_help_imports_nothing_heavy():
    script = (
        "import sys\n"
        "from launch import main\n"
        "try:\n"
        "    sys.argv = ['scaling-launch', '--help']; main.entry()\n"
        "finally:\n"
        "    print('heavy:', sorted({'jax', 'numpy', 'etils'} & set(sys.modules)))\n"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and "heavy: []" in done.stdout
