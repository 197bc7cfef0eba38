"""The startup script, read by bash and shellcheck and run in a sandbox."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from launch import source, startup
from launch.source import ROOT
from tests.support import vm

SCRIPT = ROOT / "launch" / "startup.sh"
ROLES = ("alone", "head", "worker")
needs_curl = pytest.mark.skipif(
    not shutil.which("curl"), reason="curl, by which machines load, is not installed"
)


@pytest.fixture
def machine(tmp_path):
    with vm.machine(tmp_path) as made:
        yield made


@pytest.mark.parametrize("role", ROLES)
def test_bash_and_shellcheck_have_nothing_to_say(role, tmp_path):
    script = tmp_path / "it.sh"
    text = startup.script(role, "mine-0", vm.FOLDER, topology="4x4", accelerator="x")
    script.write_text(text)
    check = Path(sys.executable).with_name("shellcheck")
    for command in (["bash", "-n"], [check]):
        done = subprocess.run([*command, script], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


@needs_curl
@pytest.mark.parametrize("role", ROLES)
def test_a_machine_installs_and_starts_its_services(machine, role):
    assert "mine-0: started" in machine.run(role)
    (installed,) = (call for call in machine.called if call[0] == "install.sh")
    extras = set(installed[2].split(","))
    assert extras >= {"corpora", "gcs"}
    assert ("ray" in extras, "tpu" in extras) == (role != "alone", role != "head")
    assert ["uv", "python", "install", "--quiet", startup.PYTHON] in machine.called
    restarted = [c[2] for c in machine.called if c[:2] == ["systemctl", "restart"]]
    assert (
        restarted
        == {
            "alone": ["datalaw-watch", "datalaw"],
            "head": ["datalaw-ray", "datalaw"],
            "worker": ["datalaw-watch", "datalaw-ray"],
        }[role]
    )
    ray = "\n".join(machine.unit("datalaw-ray"))
    assert ("--head" in ray) == (role == "head")
    assert ("--address=mine-head.z.c.p.internal:6379 --block" in ray) == (
        role == "worker"
    )
    study = machine.unit("datalaw")
    assert bool(study) == (role != "worker")
    if study:
        assert study.index("[Unit]") < study.index("StartLimitBurst=5")
        assert study.index("StartLimitBurst=5") < study.index("[Service]")
        assert {"Restart=on-failure", "RestartPreventExitStatus=2"} <= set(study)
    environment = (machine.root / "environment").read_text().splitlines()
    assert "JAX_COORDINATOR_PORT=8476" in environment
    assert "RAY_grpc_client_keepalive_time_ms=5000" in environment
    assert not [line for line in environment if line.startswith("TPU_")]


@needs_curl
def test_no_secret_stands_in_a_command_line_a_unit_or_a_log(machine):
    printed = machine.run("worker")
    token = machine.root / "token"
    assert token.read_text() == vm.TOKEN and token.stat().st_mode & 0o077 == 0
    assert f"RAY_AUTH_TOKEN_PATH={token}" in (machine.root / "environment").read_text()
    logins = {login for _, path, login in machine.asked if "/o/" in path}
    assert logins == {f"Bearer {vm.LOGIN}"}
    units = "".join(p.read_text() for p in machine.etc.rglob("*.service"))
    script = (machine.folder / "script.sh").read_text()
    for place in (printed, str(machine.called), units, script):
        assert vm.LOGIN not in place and vm.TOKEN not in place


@needs_curl
def test_what_an_earlier_program_left_is_waited_for_and_removed(machine):
    (machine.folder / "dev" / "vfio").mkdir(parents=True)
    (machine.folder / "dev" / "vfio" / "0").touch()
    lock = machine.folder / "tmp" / "libtpu_lockfile"
    lock.touch()
    (machine.etc / "environment").write_text("PATH=/bin\nMEGASCALE_NUM_SLICES=2\n")
    printed = machine.run("alone")
    assert printed.count("the TPU is busy") == 2  # the third look finds it free
    assert not lock.exists()
    assert (machine.etc / "environment").read_text() == "PATH=/bin\n"


@needs_curl
def test_a_reboot_installs_nothing_again(machine):
    machine.run("alone")
    machine.run("alone")
    assert sum(call[0] == "install.sh" for call in machine.called) == 1
    assert sum(call[:2] == ["systemctl", "restart"] for call in machine.called) == 4


@needs_curl
def test_the_hosts_of_a_slice_tell_ray_who_they_are(machine):
    machine.attributes["agent-worker-number"] = "3"
    machine.run("worker", topology="4x4", accelerator="v6e-16")
    environment = (machine.root / "environment").read_text()
    for line in ("TPU_NAME=mine-0", "TPU_TOPOLOGY=4x4", "TPU_WORKER_ID=3"):
        assert f"{line}\n" in environment
    assert "TPU_ACCELERATOR_TYPE=v6e-16\n" in environment


@needs_curl
@pytest.mark.parametrize("role", ["worker", "alone"])
def test_a_notice_of_preemption_drains_the_machine(machine, role):
    machine.run(role)
    watching = machine.start(role, verb="watch")
    asked = lambda: any("wait_for_change" in path for _, path, _ in machine.asked)
    while not asked():
        assert watching.poll() is None
    assert not [c for c in machine.called if c[:2] == ["systemctl", "stop"]]
    machine.preempted = "TRUE"
    out, _ = watching.communicate(timeout=60)
    assert watching.returncode == 0 and "it will be preempted" in out
    stopped = [c[2] for c in machine.called if c[:2] == ["systemctl", "stop"]]
    assert stopped == ["datalaw-ray" if role == "worker" else "datalaw"]
    drained = [c for c in machine.called if c[:2] == ["ray", "drain-node"]]
    assert bool(drained) == (role == "worker")
    if drained:
        assert "node-17" in drained[0] and "mine-head.z.c.p.internal:6379" in drained[0]


@needs_curl
def test_a_machine_of_cloud_tpu_deletes_itself_after_its_hours(machine):
    url = f"{machine.url}/v2/projects/p/locations/z/queuedResources/mine-0?force=true"
    machine.run("alone", delete_url=url)
    timers = lambda: [c for c in machine.called if c[0] == "systemd-run"]
    assert "--on-active=7200s" in timers()[0] and timers()[0][-1] == "end"
    until = machine.root / "until"
    until.write_text(str(int(until.read_text()) - 3000))  # it has run for so long
    machine.run("alone", delete_url=url)  # and is booted again
    (left,) = [w for w in timers()[1] if w.startswith("--on-active=")]
    assert 4000 < int(left.removeprefix("--on-active=").removesuffix("s")) <= 4200
    machine.refuses = 2
    machine.run("alone", delete_url=url, verb="end")
    assert machine.refuses == 0
    path = url.removeprefix(machine.url)
    assert ("DELETE", path, f"Bearer {vm.LOGIN}") in machine.asked


@needs_curl
def test_the_study_of_a_head_waits_for_its_cluster(machine):
    """It ends with exit code 2 where there is none, which deletes the fleet."""
    machine.run("head")
    ready = f"ExecStartPre=/bin/bash {machine.root}/startup.sh ready"
    unit = machine.unit("datalaw")
    assert unit.index(ready) < unit.index(
        f"ExecStart=/bin/bash {machine.root}/source/study.sh run"
    )
    machine.run("head", verb="ready")
    asked = [c for c in machine.called if c[:2] == ["ray", "status"]]
    assert len(asked) == 3  # the third answer is that it is there
    machine.run("alone")
    assert not [line for line in machine.unit("datalaw") if "ExecStartPre" in line]


# How the study ended, in systemd's words, and what is told then.
ENDS = {
    "done": (["exited 0"], ["0"]),
    "mistake": (["exited 2"], ["2"]),
    "stopped": (["exited 143"] * 9 + ["killed TERM", "exited 130"], []),
    "crash": (["exited 1", "killed KILL", "dumped ABRT", "exited 1"], []),
    "crashes": (
        ["exited 1", "killed KILL", "dumped ABRT", "exited 1", "exited 1"],
        ["1"],
    ),
    "later done": (["exited 1", "exited 1", "exited 0"], ["0"]),
}


@pytest.mark.parametrize("case", ENDS)
def test_how_the_study_ended_is_told_once_it_is_not_started_again(case, tmp_path):
    ends, told = ENDS[case]
    study = source.Study("configs/quickstart.py", "gs://b/w", folder="gs://b/w/it's")
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "study.sh").write_text(source.study_script(study))
    python = tmp_path / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/bash\nprintf "%s\\n" "$*" >> "$0.called"\n')
    python.chmod(0o755)
    for end in ends:
        code, _, status = end.partition(" ")
        words = {"EXIT_CODE": code, "EXIT_STATUS": status}
        script = tmp_path / "source" / "study.sh"
        done = subprocess.run(["bash", script, "ended"], env=os.environ | words)
        assert done.returncode == 0
    called = python.with_name("python.called")
    lines = called.read_text().splitlines() if called.exists() else []
    assert lines == [f"-m launch.bucket gs://b/w/it's {code}" for code in told]
    assert f"StartLimitBurst={source.STARTS}\n" in SCRIPT.read_text()


@needs_curl
def test_a_machine_that_cannot_start_says_so_in_the_bucket(machine):
    broken = machine.root / "bin" / "uv"
    broken.write_text("#!/bin/bash\nexit 3\n")
    process = machine.start("alone")
    out, _ = process.communicate(timeout=60)
    assert process.returncode != 0 and "failed" in out
    (said,) = [path for method, path, _ in machine.asked if method == "POST"]
    assert said.endswith("launch%2Fmine%2Ffailed-mine-0") and "uploadType=media" in said
    assert machine.unit("datalaw") == []
