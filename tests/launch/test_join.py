"""A machine joins a cluster by one command, and its token is seen by nobody."""

import io
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from launch import join, startup
from scaling.errors import UserError

ADDRESS, TOKEN = "10.0.0.2:6379", "5ecret-of-the-cluster"
# Stands where Ray is: writes down what it is called by, and in which environment.
RAY = """#!/bin/bash
printf '%s\\n' "$0 $*" > "$HOME/called"
env > "$HOME/environment"
"""


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine's home, with a Ray that says how it was started."""
    ray = tmp_path / "bin" / "ray"
    ray.parent.mkdir()
    ray.write_text(RAY)
    ray.chmod(0o755)
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def joined(machine, given, *more):
    code = (
        "import sys; from launch import main; sys.executable = sys.argv.pop(1); "
        "main.entry()"
    )
    words = [str(machine / "bin" / "python"), "join", ADDRESS, *more]
    return subprocess.run(
        [sys.executable, "-c", code, *words],
        input=given,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(join.__file__).parents[1])},
    )


def test_a_machine_joins_with_a_token_that_is_seen_by_nobody(machine):
    done = joined(machine, TOKEN + "\n")
    assert done.returncode == 0, done.stderr
    called = (machine / "called").read_text()
    assert called.strip().endswith(f"ray start --address={ADDRESS} --block")
    kept = machine / ".ray" / "auth_token"
    assert kept.read_text() == TOKEN and kept.stat().st_mode & 0o077 == 0
    environment = (machine / "environment").read_text()
    assert "RAY_AUTH_MODE=token\n" in environment
    assert f"RAY_AUTH_TOKEN_PATH={kept}\n" in environment
    assert "RAY_grpc_client_keepalive_time_ms=5000\n" in environment
    for place in (called, environment, done.stdout, done.stderr):
        assert TOKEN not in place
    assert joined(machine, "").returncode == 0  # the token that it has already


def test_without_a_token_or_ray_one_line_says_what_to_do(machine):
    done = joined(machine, "")
    assert done.returncode == 2 and "no value for token" in done.stderr
    (machine / "bin" / "ray").unlink()
    done = joined(machine, TOKEN)
    assert done.returncode == 2 and "pip install 'datalaw[ray]'" in done.stderr


def test_the_dry_run_prints_the_command_and_keeps_nothing(machine, capsys):
    assert join.join(ADDRESS, io.StringIO(TOKEN), dry_run=True) == 0
    assert shlex.split(capsys.readouterr().out)[1:3] == [
        "start",
        f"--address={ADDRESS}",
    ]
    assert not (machine / ".ray").exists()
    for wrong in ("10.0.0.2", "ray://10.0.0.2:6379", "a b:1"):
        with pytest.raises(UserError, match="HOST:PORT"):
            join.join(wrong, io.StringIO(), dry_run=True)


def test_the_printed_command_goes_through_two_shells(tmp_path):
    token = tmp_path / "it's here"
    line = join.printed(token, ADDRESS)
    words = shlex.split(line)
    assert words == [
        *("ssh", "USER@MACHINE", f"scaling-launch join {ADDRESS}", "<", str(token)),
    ]
    assert (
        join.KEEPALIVE.items()
        <= dict(
            line.split("=", 1)
            for line in startup.script("worker", "m", "gs://b/f").splitlines()
            if line.startswith("RAY_grpc")
        ).items()
    )


@pytest.mark.parametrize("project", ["proj-1", "example.com:proj-1"])
def test_the_head_is_found_by_its_name(project):
    found = startup.head_address("mine-head", "us-east5-b", project)
    inner = "proj-1.example.com" if ":" in project else "proj-1"
    assert found == f"mine-head.us-east5-b.c.{inner}.internal:6379"
