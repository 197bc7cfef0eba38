"""Mistakes are told in one line before anything is created."""

import subprocess
import sys

import pytest

from launch import commands, main, source
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
