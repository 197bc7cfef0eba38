"""A machine of a fleet in a folder: its startup script runs as it would there.

The script's own bash, curl, sed and tar are the real ones; the metadata server and the
bucket are a server on loopback; what changes a system (systemctl, uv, Ray) only writes
down how it was called.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import shutil
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

from launch import startup

LOGIN, TOKEN = "ya29.login-of-the-machine", "5ecret-of-the-cluster"
FOLDER = "gs://bucket/it's mine/launch/mine"
METADATA = "/computeMetadata/v1/instance/"

# One script under many names; what it is called by and with goes to a file.
TOOL = """#!/bin/bash
name=${0##*/}
printf '%s\\0' "$name" "$@" >> "$CALLED"
printf '\\n' >> "$CALLED"
case "$name $*" in
python*launch.node) echo node-17 ;;
ray*status*) [ "$(tr '\\0' ' ' < "$CALLED" | grep -c '^ray status')" -gt 2 ] ;;
fuser*) [ "$(grep -c '^fuser' "$CALLED")" -le 2 ] ;;
esac
"""
INSTALL = """#!/bin/bash
printf '%s\\0' install.sh "$@" >> "$CALLED"; printf '\\n' >> "$CALLED"
mkdir -p "$1/bin"
for name in python ray scaling; do cp "$SANDBOX/bin/systemctl" "$1/bin/$name"; done
"""
CURL = """#!/bin/bash
printf '%s\\0' curl "$@" >> "$CALLED"; printf '\\n' >> "$CALLED"
exec {curl} "$@"
"""


class Machine:
    """The folder of a machine.

    Attributes:
      preempted: what the metadata server says; asked: every request, with its login.
      refuses: so many requests to delete something.
    """

    def __init__(self, folder: Path, url: str):
        self.folder, self.url = folder, url
        self.root, self.etc = folder / "opt", folder / "etc"
        self.preempted, self.asked = "FALSE", list[tuple[str, str, str]]()
        self.attributes: dict[str, str] = {}
        self.refuses = 0
        (self.etc / "systemd" / "system").mkdir(parents=True)
        (folder / "tmp").mkdir()
        tools = folder / "bin"
        tools.mkdir()
        for name in ("systemctl", "systemd-run", "fuser"):
            _program(tools / name, TOOL)
        _program(tools / "curl", CURL.format(curl=shutil.which("curl")))
        (self.root / "bin").mkdir(parents=True)
        _program(self.root / "bin" / "uv", TOOL)

    @functools.cached_property
    def archive(self) -> bytes:
        """The source, whose install.sh only writes down how it was called."""
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w:gz") as tar:
            entry = tarfile.TarInfo("install.sh")
            entry.size = len(INSTALL)
            tar.addfile(entry, io.BytesIO(INSTALL.encode()))
        return out.getvalue()

    def start(self, role: startup.Role, **more: str) -> subprocess.Popen[str]:
        """The script's process, at boot; `verb` for another of its parts."""
        verb = more.pop("verb", "boot")
        head = "mine-head.z.c.p.internal:6379" if role == "worker" else ""
        text = startup.script(role, "mine-0", FOLDER, head=head, hours=2, **more)
        script = self.folder / "script.sh"
        script.write_text(text)
        environment = {
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "HOME": str(self.folder),
            "TMPDIR": str(self.folder / "tmp"),
            "CALLED": str(self.folder / "called"),
            "SANDBOX": str(self.folder),
            "DATALAW_ROOT": str(self.root),
            "DATALAW_ETC": str(self.etc),
            "DATALAW_DEV": str(self.folder / "dev"),
            "DATALAW_PAUSE": "0",
            "DATALAW_GRACE": "0",
            "DATALAW_REST": "0",
            "GCE_METADATA_HOST": self.url.removeprefix("http://"),
            "STORAGE_EMULATOR_HOST": self.url,
            "MEGASCALE_NUM_SLICES": "2",
        }
        return subprocess.Popen(
            ["bash", str(script), verb],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, role: startup.Role, **more: str) -> str:
        """What the script prints; it must end well."""
        process = self.start(role, **more)
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0, out
        return out

    @property
    def called(self) -> list[list[str]]:
        lines = (self.folder / "called").read_text().split("\0\n")
        return [line.split("\0") for line in lines if line]

    def unit(self, name: str) -> list[str]:
        path = self.etc / "systemd" / "system" / f"{name}.service"
        return path.read_text().splitlines() if path.exists() else []

    def answer(self, method: str, path: str) -> bytes | None:
        """What the metadata server or the bucket says; None for nothing there."""
        plain, _, query = path.partition("?")
        if plain.startswith(METADATA):
            return self._metadata(plain.removeprefix(METADATA), query)
        if method == "DELETE" and self.refuses:
            self.refuses -= 1
            return None
        if method in ("DELETE", "POST"):
            return b"{}"
        name = unquote(plain.rpartition("/")[2])
        prefix = FOLDER.removeprefix("gs://bucket/")
        objects = {
            f"{prefix}/source.tar.gz": self.archive,
            f"{prefix}/token": TOKEN.encode(),
        }
        return objects.get(name)

    def _metadata(self, what: str, query: str) -> bytes | None:
        if what == "service-accounts/default/token":
            return f'{{"access_token":"{LOGIN}","expires_in":3599}}'.encode()
        if what == "preempted":
            before = self.preempted
            while "wait_for_change" in query and self.preempted == before == "FALSE":
                time.sleep(0.02)
            return self.preempted.encode()
        value = self.attributes.get(what.removeprefix("attributes/"))
        return value.encode() if value is not None else None


def _program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


@contextlib.contextmanager
def machine(folder: Path) -> Iterator[Machine]:
    """A machine, while its metadata server and its bucket answer."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            login = self.headers.get("Authorization", "")
            made.asked.append((self.command, self.path, login))
            metadata = self.path.startswith(METADATA)
            allowed = (
                self.headers.get("Metadata-Flavor") == "Google"
                if metadata
                else login == f"Bearer {LOGIN}"
            )
            body = made.answer(self.command, self.path) if allowed else None
            code = 200 if body is not None else 404 if allowed else 403
            with contextlib.suppress(ConnectionError):
                self.send_response(code)
                self.end_headers()
                self.wfile.write(body or b"")

        do_GET = do_DELETE = do_POST = _answer

        def log_message(self, *words: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    made = Machine(folder, f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
