"""`scaling watch`: the live page of a workdir, on this machine alone."""

from __future__ import annotations

import errno
import json
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from typing import Any

from scaling.address import unanswered
from scaling.errors import UserError
from scaling.watching.state import State

HOST = "127.0.0.1"


def server(workdir: str, port: int) -> ThreadingHTTPServer:
    """Serves / (the page) and /state?after=NUMBER (JSON) until it is shut down.

    Raises:
      UserError: the folder holds no study, or the port cannot be had.
    """
    if not 0 <= port < 65_536:
        raise UserError("port", port, "give a number from 0 to 65535; 0 for a free one")
    state, lock = State(workdir), threading.Lock()
    page = resources.files("scaling.watching").joinpath("watch.html").read_bytes()

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            # A page of another site may not read this one under a name of its own.
            host = self.headers.get("Host", "").rpartition(":")[0]
            path, _, query = self.path.partition("?")
            if host not in (HOST, "localhost"):
                self._send(403, "text/plain", b"only by 127.0.0.1 or localhost\n")
            elif path == "/":
                self._send(200, "text/html; charset=utf-8", page)
            elif path == "/state":
                self._send(200, "application/json", self._state(query))
            else:
                self._send(404, "text/plain", b"there is / and /state?after=NUMBER\n")

        def _state(self, query: str) -> bytes:
            after = urllib.parse.parse_qs(query).get("after", ["0"])[0]
            with lock:
                try:
                    state.update()
                    body = state.since(int(after) if after.isdecimal() else 0)
                except unanswered() as error:  # the next question may be answered
                    body = {"wrong": f"the workdir cannot be read: {error}"}
            return json.dumps(body).encode()

        def _send(self, code: int, kind: str, body: bytes) -> None:
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None: ...

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True
        allow_reuse_address = True

        def handle_error(self, *_: Any) -> None:
            """A page that was closed meanwhile is no matter."""

    try:
        return Quiet((HOST, port), Answer)
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        why = "is in use" if taken else f"cannot be had ({error.strerror})"
        raise UserError("port", port, f"{why}; give another one, --port") from error


def watch(workdir: str, port: int) -> int:
    """Serves until Ctrl-C. Raises as `server` does."""
    with server(workdir, port) as serving:
        print(f"http://{HOST}:{serving.server_port}/ (Ctrl-C ends it)", flush=True)
        serving.serve_forever()
    return 0
