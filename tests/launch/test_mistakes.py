"""Mistakes are told in one line before anything is created."""

import subprocess
import sys

import pytest

from launch import gcloud, source
from scaling.errors import UserError
from tests.support.fake_gcloud import ask


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
    "name": ({"--name": "My_slice"}, "lower-case letters"),
    "zone": ({"--zone": "us-west4"}, "such as us-central1-a"),
    "project": ({"--project": "My project"}, "a project's id"),
    "local workdir": ({"--workdir": "runs/mine"}, "gs://BUCKET/FOLDER"),
    "bucket alone": ({"--workdir": "gs://bucket/"}, "gs://BUCKET/FOLDER"),
    "hosts": ({"--target": "v5litepod-16"}, "it has 4 hosts"),
    "v4 hosts": ({"--target": "v4-16"}, "v4-8, v5litepod-1, v5litepod-4"),
    "gpu": ({"--target": "h100-8"}, "give a TPU: v4-8"),
    "unknown": ({"--target": "v7-8"}, "target 'v7-8'"),
    "wait": ({"--poll_seconds": "-1"}, "0 or more"),
    "hours": ({"--wait_hours": "-1"}, "0 or more"),
    "no end": ({"--wait_hours": "inf"}, "a finite number"),
    "include": ({"--include": "nowhere.py"}, "include 'nowhere.py'"),
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
    assert nowhere.returncode == 2 and "study 'nowhere.py'" in nowhere.stderr
    # Four windows a step cannot be split over eight chips, but over four they can.
    small = source.ROOT / "configs" / "smoke.py"
    split = cloud(*ask(small))
    assert split.returncode == 2 and "split over 8 devices" in split.stderr
    assert not cloud.calls
    assert cloud(*ask(small, "--dry_run", target="v5e-4")).returncode == 0


@pytest.mark.parametrize(
    "target", ["v4-8", "v5litepod-1", "v5litepod-4", "v5e-8", "v5p-8", "v6e-1", "v6e-8"]
)
def test_every_one_host_slice_has_a_runtime(target):
    kind, _, count = gcloud.check_target(target).name.partition("-")
    assert kind in gcloud.RUNTIMES and count == target.partition("-")[2]


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
