"""The startup script of a machine: startup.sh behind the values of its fleet."""

from __future__ import annotations

import re
import urllib.parse
from pathlib import Path
from typing import Literal

from launch.source import ROOT

PYTHON = "3.13"
PORT = 6379  # of Ray's head
Role = Literal["alone", "head", "worker"]


def script(
    role: Role,
    machine: str,
    folder: str,
    *,
    head: str = "",
    hours: float = 0.0,
    delete_url: str = "",
    accelerator: str = "",
    topology: str = "",
) -> str:
    """The script of one machine.

    Args:
      folder: gs:// address of the fleet's folder.
      head: address of the head, with the port; "" where there is no cluster.
      hours, delete_url: when it deletes itself, and how; "" where the cloud does that.
      accelerator, topology: of a slice of several hosts, for Ray; else "".
    """
    bucket, _, objects = folder.removeprefix("gs://").partition("/")
    values = {
        "ROLE": role,
        "MACHINE": machine,
        "HEAD": head,
        "BUCKET": bucket,
        "OBJECTS": urllib.parse.quote(objects, ""),
        "EXTRAS": ",".join(
            ("corpora", "gcs")
            + (("ray",) if role != "alone" else ())
            + (("tpu",) if role != "head" else ())
        ),
        "PYTHON": PYTHON,
        "UV": _pinned("uv"),
        "LIFETIME": str(int(3600 * hours)),
        "DELETE_URL": delete_url,
        "ACCELERATOR": accelerator,
        "TOPOLOGY": topology,
    }
    # All in quotes, as shellcheck takes a bare `head` for a forgotten $(head).
    quoted = {n: "'" + v.replace("'", "'\\''") + "'" for n, v in values.items()}
    lines = [f"{name}={value}" for name, value in quoted.items()]
    body = Path(__file__).with_suffix(".sh").read_text()
    return "\n".join(("#!/usr/bin/env bash", *lines, body))


def head_address(machine: str, zone: str, project: str) -> str:
    """The head's address inside its network, by Compute Engine's zonal DNS."""
    domain, _, name = project.rpartition(":")
    inner = f"{name}.{domain}" if domain else name
    return f"{machine}.{zone}.c.{inner}.internal:{PORT}"


def _pinned(package: str) -> str:
    pins = (ROOT / "constraints.txt").read_text()
    found = re.search(rf"^{package}==(\S+)", pins, re.MULTILINE)
    assert found, f"constraints.txt pins {package}"
    return found[1]
