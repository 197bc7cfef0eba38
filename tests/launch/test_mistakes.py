"""Mistakes are told in one line before anything is created."""

import argparse
import json
import subprocess
import sys

import pytest

from launch import commands, main, source
from launch.compute_engine import ComputeEngine
from launch.fleet import Fleet
from launch.machines import LaunchError, Seen
from scaling.errors import UserError
from tests.support.launching import ORDERS, WHERE, WORKDIR


def test_two_files_of_one_name_are_refused(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.py").touch()
    study = source.Study(
        str(tmp_path / "a/x.py"), "gs://bb/w", (str(tmp_path / "b/x.py"),)
    )
    with pytest.raises(UserError, match="rename it"):
        source.pack(study, tmp_path / "out.tar.gz")


WRONG = {
    "name": ({"--name": "My_fleet"}, "lower-case letters"),
    "zone": ({"--zone": "us-west4"}, "such as us-central1-a"),
    "project": ({"--project": "My project"}, "a project's id"),
    "local workdir": ({"--workdir": "runs/mine"}, "gs://BUCKET/FOLDER"),
    "bucket alone": ({"--workdir": "gs://bucket/"}, "gs://BUCKET/FOLDER"),
    "no shape": ({"--accelerator": "v4-24"}, "give one of v4-8, v4-16"),
    "gpu": ({"--accelerator": "h100-8"}, "give a TPU type; a GPU machine joins"),
    "unknown": ({"--accelerator": "v9-8"}, "accelerator 'v9-8'"),
    "count": ({"--count": "0"}, "count 0: give 1 or more"),
    "poll nan": ({"--poll_seconds": "nan"}, "a finite number"),
    "poll": ({"--poll_seconds": "-1"}, "0 or more"),
    "wait": ({"--wait_hours": "-1"}, "0 or more"),
    "no end": ({"--max_hours": "inf"}, "a finite number"),
    "too little": ({"--max_hours": "0.1"}, "a machine needs at least 0.17"),
    "include": ({"--include": "nowhere.py"}, "include 'nowhere.py'"),
    "api": ({"--api": "tpu", "--accelerator": "tpu7x-8"}, "alone has tpu7x"),
}


def ask(study, changes, command="up"):
    """The command in this process: none of it reaches a cloud."""
    given = {"--workdir": WORKDIR, "--project": "proj-1"}
    given |= dict(zip(ORDERS["compute"][::2], ORDERS["compute"][1::2], strict=True))
    given |= dict(zip(WHERE[::2], WHERE[1::2], strict=True)) | changes
    words = [word for pair in given.items() for word in pair]
    return main.main(main.parse(["scaling-launch", command, str(study), *words]))


@pytest.mark.parametrize("case", WRONG)
def test_a_mistake_is_one_line_before_anything_is_created(
    study, case, capsys, monkeypatch, tmp_path
):
    monkeypatch.setenv("HOME", str(tmp_path))
    changes, says = WRONG[case]
    assert ask(study, changes) == 2
    out, err = capsys.readouterr()
    assert says in err and err.count("\n") == 1 and not out


def test_a_study_that_cannot_run_there_is_refused(study, capsys):
    assert ask("nowhere.py", {}) == 2
    assert "study 'nowhere.py'" in capsys.readouterr().err
    # Four windows a step cannot be split over eight chips.
    assert ask(source.ROOT / "configs" / "smoke.py", {}) == 2
    assert "split over 8 devices" in capsys.readouterr().err


def test_without_the_clients_one_line_says_how_to_get_them(study, capsys, monkeypatch):
    monkeypatch.setattr(commands.importlib.util, "find_spec", lambda name: None)
    assert ask(study, {}, "plan") == 2
    assert "pip install 'datalaw[launch]'" in capsys.readouterr().err


def test_a_plan_makes_the_folder_of_its_scripts_or_says_why_not(
    study, capsys, monkeypatch, tmp_path
):
    monkeypatch.setattr(
        commands.subprocess, "run", lambda words: subprocess.CompletedProcess(words, 0)
    )
    made, long = tmp_path / "new" / "scripts", {"--max_hours": "2000", "--count": "1"}
    assert ask(study, {"--scripts": str(made)} | long, "plan") == 0
    assert (made / "mine-0.sh").exists()
    # A machine is granted seven days at most, however large the budget.
    assert "--max-run-duration=604800s" in capsys.readouterr().out
    (tmp_path / "file").touch()
    assert ask(study, {"--scripts": str(tmp_path / "file")}, "plan") == 2
    assert "give a folder (File exists)" in capsys.readouterr().err


def test_a_budget_below_what_machines_may_still_use_is_refused(
    study, capsys, monkeypatch, tmp_path
):
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = tmp_path / ".cache" / "datalaw" / "launch"
    folder.mkdir(parents=True)
    grant = {"hours": 20.0, "hosts": 1, "unbilled": 0.0, "refused": False}
    body = {"spent": 1.0, "grants": {"mine-0": grant}}
    (folder / "proj-1-us-east5-b-mine.json").write_text(json.dumps(body))
    assert ask(study, {"--max_hours": "10"}) == 2
    err = capsys.readouterr().err
    assert "may use 20.00; give as many, or delete them first" in err


def test_the_logs_of_a_slice_are_those_of_one_of_its_hosts(monkeypatch):
    seen = [
        Seen("mine-0", "mine-0", "Compute Engine", "instance group", "running", ""),
        Seen("mine-0-ab12", "mine-0", "Compute Engine", "instance", "part", "running"),
    ]
    service = ComputeEngine("proj-1", "us-east5-b")
    monkeypatch.setattr(service, "find", lambda fleet: seen)
    found = Fleet("mine", "", (service,)), "proj-1", "us-east5-b"
    monkeypatch.setattr(commands, "_fleet", lambda arguments: found)
    monkeypatch.setattr(commands.shutil, "which", lambda name: None)
    arguments = argparse.Namespace(machine="mine-0", follow=False)
    with pytest.raises(LaunchError, match="gcloud compute ssh mine-0-ab12 "):
        commands.logs(arguments)


def test_help_imports_nothing_heavy():
    script = (
        "import sys\n"
        "from launch import main\n"
        "try:\n"
        "    sys.argv = ['scaling-launch', '--help']; main.entry()\n"
        "finally:\n"
        "    heavy = {'jax', 'numpy', 'etils', 'google', 'grpc'}\n"
        "    print('heavy:', sorted(heavy & set(sys.modules)))\n"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and "heavy: []" in done.stdout
