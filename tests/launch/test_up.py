"""A study is launched, waited for, left alone, started again, looked at and ended."""

import shlex
import tarfile

from launch import source
from scaling.source import source_commit
from tests.support.fake_gcloud import NEW, WHERE, WORKDIR, ask


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
    source.pack(
        source.Study(str(source.ROOT / "configs" / "smoke.py"), "gs://b-u/w"), archive
    )
    with tarfile.open(archive) as tar:
        names = tar.getnames()
        script = tar.extractfile("study.sh").read().decode()
    assert names.count("configs/smoke.py") == 1
    assert "scaling run configs/smoke.py --workdir gs://b-u/w" in script
    assert not [name for name in names if name.startswith((".git/", "runs", "/"))]


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
