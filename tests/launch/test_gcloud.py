"""The printed gcloud commands: by the grammar of their documentation, and by gcloud.

The grammar below was written from the pages that launch/README.md lists. Where gcloud
is installed, its own table of commands and flags is read, and (slow) the commands that
it knows are run against Compute Engine's fake: its requests are then those of `up`.
"""

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from launch.cloud_tpu import CloudTpu
from launch.compute_engine import ComputeEngine
from launch.machines import Want
from scaling.planning import hardware
from tests.support.fake_cloud import PROJECT, REGION, ZONE

TPU, COMPUTE = CloudTpu(PROJECT, ZONE), ComputeEngine(PROJECT, ZONE)
NAME = r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?"
SECONDS = r"\d+s"
LABELS = rf"datalaw={NAME},datalaw-machine={NAME}"
IMAGES = (
    r"ubuntu-(2404-lts-amd64|accel-(2204-amd64-tpu-v5e-v5p-v6e|2404-amd64-tpu-tpu7x))"
)
TYPES = r"e2-standard-4|ct6e-standard-[148]t|ct5p-hightpu-4t|tpu7x-standard-4t"
PLACE = {"--zone": ZONE, "--project": PROJECT}
# What an instance and a template of instances take; all of it is given.
INSTANCE = {
    "--machine-type": TYPES,
    "--image-project": "ubuntu-os-(cloud|accelerator-images)",
    "--image-family": IMAGES,
    "--boot-disk-size": r"\d+GB",
    "--boot-disk-type": "pd-balanced|hyperdisk-balanced",
    "--provisioning-model": "STANDARD|SPOT|FLEX_START",
    "--instance-termination-action": "DELETE",
    "--max-run-duration": SECONDS,
    "--maintenance-policy": "TERMINATE|MIGRATE",
    "--no-restart-on-failure": "",
    "--labels": LABELS,
    "--metadata-from-file": rf"startup-script={NAME}\.sh",
    "--scopes": r"https://www\.googleapis\.com/auth/cloud-platform",
}
TAG = {"--description": f"datalaw fleet {NAME}"}
PARTS = rf"projects/{PROJECT}/regions/{REGION}"
GRAMMAR = {
    "compute tpus queued-resources create": {
        "--node-id": NAME,
        "--accelerator-type": r"(v4|v5litepod|v5p|v6e)-\d+",
        "--runtime-version": "tpu-ubuntu2204-base|v2-alpha-tpuv(5-lite|5|6e)",
        "--valid-until-duration": r"\d+m",
        "--labels": LABELS,
        "--metadata-from-file": rf"startup-script={NAME}\.sh",
        "--spot?": "",
        **PLACE,
    },
    "compute instances create": {
        "--request-valid-for-duration?": SECONDS,
        **INSTANCE,
        **PLACE,
    },
    "compute instance-templates create": {
        "--instance-template-region": REGION,
        "--project": PROJECT,
        **INSTANCE,
        **TAG,
    },
    "compute resource-policies create workload-policy": {
        "--type": "HIGH_THROUGHPUT",
        "--accelerator-topology": r"\d+x\d+(x\d+)?",
        "--region": REGION,
        "--project": PROJECT,
        **TAG,
    },
    "compute instance-groups managed create": {
        "--base-instance-name": NAME,
        "--template": f"{PARTS}/instanceTemplates/{NAME}",
        "--size": r"\d+",
        "--target-size-policy-mode": "bulk",
        "--default-action-on-vm-failure": "do-nothing",
        "--workload-policy": f"{PARTS}/resourcePolicies/{NAME}",
        **PLACE,
        **TAG,
    },
}
# Flags that are documented and that gcloud 528 (June 2025) does not have yet.
NEWER = {"--target-size-policy-mode", "--request-valid-for-duration"}


def want(name="", model="standard", hours=24.0, wait_hours=24.0):
    found = hardware.lookup(name) if name else None
    machine = "mine-0" if name else "mine-head"
    return Want("mine", machine, found, model, hours, wait_hours, "#!/bin/bash\n")


ASKED = [
    *(
        (TPU, want(n, m))
        for n in ("v4-8", "v5e-1", "v6e-16")
        for m in ("spot", "standard")
    ),
    (COMPUTE, want()),
    *(
        (COMPUTE, want(n, m))
        for n in ("v5p-8", "v5p-32", "v6e-1", "v6e-8", "v6e-16", "tpu7x-8", "tpu7x-64")
        for m in ("spot", "standard", "flex-start")
    ),
]


def parsed(words):
    """A command's verbs, its name and its flags."""
    assert words[0] == "gcloud"
    plain = [w for w in words[1:] if not w.startswith("--")]
    flags = [w.partition("=")[::2] for w in words[1:] if w.startswith("--")]
    assert len(dict(flags)) == len(flags), "a flag stands twice"
    return " ".join(plain[:-1]), plain[-1], dict(flags)


def commands():
    for api, asked in ASKED:
        for step in api.steps(asked):
            yield asked, *parsed(step.gcloud)


def test_every_command_has_the_documented_form():
    seen = set()
    for asked, verbs, name, flags in commands():
        seen.add(verbs)
        grammar = GRAMMAR[verbs]
        assert re.fullmatch(NAME, name) and len(name) <= 63
        needed = {flag for flag in grammar if not flag.endswith("?")}
        assert needed <= set(flags), (verbs, needed - set(flags))
        for flag, value in flags.items():
            form = grammar.get(flag, grammar.get(f"{flag}?"))
            assert form is not None, (verbs, flag)
            assert re.fullmatch(form, value), (verbs, flag, value)
        if verbs == "compute instances create":
            flex = asked.model == "flex-start"
            assert ("--request-valid-for-duration" in flags) == flex
            tpu = asked.accelerator is not None
            assert (flags["--maintenance-policy"] == "TERMINATE") == tpu
    assert seen == set(GRAMMAR)


def test_flex_start_keeps_to_its_limits():
    asked = want("v6e-8", "flex-start", hours=168.0, wait_hours=0.001)
    _, _, flags = parsed(COMPUTE.steps(asked)[0].gcloud)
    assert flags["--max-run-duration"] == "604800s"  # seven days
    assert flags["--request-valid-for-duration"] == "90s"
    asked = want("v6e-8", "flex-start", wait_hours=100.0)
    _, _, flags = parsed(COMPUTE.steps(asked)[0].gcloud)
    assert flags["--request-valid-for-duration"] == "7200s"


@pytest.mark.parametrize(
    "name, machine, disk, topology, size",
    [
        ("v6e-16", "ct6e-standard-4t", "hyperdisk-balanced", "4x4", "4"),
        ("v6e-256", "ct6e-standard-4t", "hyperdisk-balanced", "16x16", "64"),
        ("v5p-16", "ct5p-hightpu-4t", "pd-balanced", "2x2x2", "2"),
        ("tpu7x-64", "tpu7x-standard-4t", "hyperdisk-balanced", "2x4x4", "8"),
    ],
)
def test_slices_of_several_hosts_have_the_documented_shapes(
    name, machine, disk, topology, size
):
    policy, template, group = (parsed(s.gcloud)[2] for s in COMPUTE.steps(want(name)))
    assert policy["--accelerator-topology"] == topology
    assert template["--machine-type"] == machine
    assert template["--boot-disk-type"] == disk
    assert group["--size"] == size


# --- By gcloud itself -----------------------------------------------------------------


def installed():
    """The folder of the installed gcloud, None where there is none."""
    found = shutil.which("gcloud")
    return Path(found).resolve().parents[1] if found else None


needs_gcloud = pytest.mark.skipif(
    not installed(), reason="gcloud, whose commands are printed, is not installed"
)


@needs_gcloud
def test_gcloud_knows_every_command_and_flag():
    table = installed() / "data" / "cli" / "gcloud_completions.py"
    spec = importlib.util.spec_from_file_location("gcloud_completions", table)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for _, verbs, _, flags in commands():
        node = module.STATIC_COMPLETION_CLI_TREE
        known = set(node.get("flags", {}))
        for verb in verbs.split():
            node = node["commands"][verb]
            known |= set(node.get("flags", {}))
        known |= {f"--no-{flag[2:]}" for flag in known}
        assert set(flags) - known <= NEWER, verbs


SAME = [want(), want("v6e-8", "spot"), want("v5p-8"), want("v6e-16", "spot")]


@needs_gcloud
@pytest.mark.slow
def test_gcloud_asks_for_what_the_launcher_asks_for(cloud, tmp_path, monkeypatch):
    for name, value in cloud.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("CLOUDSDK_AUTH_DISABLE_CREDENTIALS", "true")
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("CLOUDSDK_CORE_DISABLE_PROMPTS", "1")
    ours, theirs = [], []
    for asked in SAME:
        cloud.empty()
        COMPUTE.ask(asked)
        ours += [plain(thing) for thing in cloud.made if thing.kind != "instance group"]
        cloud.empty()
        (tmp_path / f"{asked.name}.sh").write_text(asked.script)
        address = cloud.environment["CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE"]
        monkeypatch.setenv(
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE", f"{address}compute/v1/"
        )
        for step in COMPUTE.steps(asked):
            if not NEWER & set(parsed(step.gcloud)[2]):
                done = subprocess.run(
                    step.gcloud, cwd=tmp_path, capture_output=True, text=True
                )
                # What it prints of the thing then needs more than the fake has.
                assert "Created [" in done.stderr, done.stderr
        monkeypatch.setenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE", address)
        theirs += [plain(thing) for thing in cloud.made]
    assert len(ours) == 5 and ours == theirs


def plain(thing):
    """What a creation asks for, in words that both ways of saying it share."""
    body = thing.body
    if thing.kind == "workload policy":
        return (thing.name, body["description"], body["workloadPolicy"])
    asked = body.get("properties", body)
    disk = asked["disks"][0]["initializeParams"]
    last = lambda text: text.rpartition("/")[2]
    schedule = asked["scheduling"]
    return (
        thing.name,
        last(asked["machineType"]),
        last(disk["sourceImage"]),
        str(disk["diskSizeGb"]),
        last(disk["diskType"]),
        asked["labels"],
        schedule["provisioningModel"],
        schedule["instanceTerminationAction"],
        str(schedule["maxRunDuration"]["seconds"]),
        schedule["onHostMaintenance"],
        schedule["automaticRestart"],
        [(i["key"], i["value"]) for i in asked["metadata"]["items"]],
        asked["serviceAccounts"],
        [last(n["network"]) for n in asked["networkInterfaces"]],
        [len(n["accessConfigs"]) for n in asked["networkInterfaces"]],
    )
