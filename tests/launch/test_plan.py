"""`plan` prints what `up` does, and does none of it."""

import shlex
import subprocess

import pytest

from launch import commands, main
from tests.support.launching import MACHINES, ORDERS, WHERE, WORKDIR

CALLS = {
    "CreateQueuedResource": "queued resource",
    "instances.insert": "instance",
    "resourcePolicies.insert": "workload policy",
    "regionInstanceTemplates.insert": "template",
    "instanceGroupManagers.insert": "instance group",
}


@pytest.mark.parametrize("order", ORDERS)
def test_a_plan_prints_every_call_and_makes_none(
    launcher, cloud, study, order, tmp_path, capsys, monkeypatch
):
    planned = []

    def run(words, **_):
        planned.append(words)
        return subprocess.CompletedProcess(words, 0)

    monkeypatch.setattr(commands.subprocess, "run", run)
    monkeypatch.setenv("HOME", str(tmp_path))
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    words = ["plan", study, *WHERE, "--workdir", WORKDIR, *ORDERS[order]]
    words += ["--max_hours", 40, "--scripts", scripts, "--project", "proj-1"]
    before = set(tmp_path.rglob("*"))
    assert main.main(main.parse(["scaling-launch", *map(str, words)])) == 0
    changed = set(tmp_path.rglob("*")) - before
    assert changed == {scripts / f"{name}.sh" for name in MACHINES[order]}
    assert not cloud.calls and not cloud.things
    lines = capsys.readouterr().out.splitlines()
    assert "# budget: 40 machine-hours, without the head" in lines
    said = [line for line in lines if line.startswith("# ") and "googleapis" in line]
    printed = [shlex.split(line) for line in lines if line.startswith("gcloud ")]
    assert len(said) == len(printed)
    assert any(line.startswith("scaling-launch down ") for line in lines)
    ((*_, verb, path, flag, target, _, count, _, scratch),) = planned
    assert (verb, path, flag) == ("plan", str(study), "--target")
    assert target.partition("-")[0] == ORDERS[order][1].partition("-")[0]
    assert count == ORDERS[order][3]
    assert scratch != WORKDIR  # `scaling plan` keeps estimates where it works
    # What `up` makes is what was printed.
    assert launcher.up(study, *ORDERS[order]).returncode == 0
    made = [(thing.kind, thing.name) for thing in cloud.made]
    kinds = [CALLS[line.split()[-1]] for line in said]
    names = [next(w for w in words if w in MACHINES[order]) for words in printed]
    assert made == list(zip(kinds, names, strict=True))
