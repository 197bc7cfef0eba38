"""A server in front of another one, which answers 503 to some of the requests.

    with faulty_http.proxy("http://127.0.0.1:4443", before=3, after=4) as (url, counts):

Every third request is refused, and every fourth is carried out and its answer lost.
What is asked again gets through, as the numbers go on.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_OWN = {"host", "connection", "content-length", "transfer-encoding"}


@contextlib.contextmanager
def proxy(
    behind: str, before: int, after: int
) -> Iterator[tuple[str, collections.Counter[str]]]:
    """Yields its address, and how many requests were passed on, refused and lost."""
    numbers, counts = itertools.count(1), collections.Counter[str]()

    class Answer(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            number = next(numbers)
            if number % before == 0:
                counts["refused"] += 1
                self._send(503, {}, b"")
                return
            status, headers, answer = self._passed_on(body)
            if number % after == 0:
                counts["lost"] += 1
                self._send(503, {}, b"")
                return
            counts["passed on"] += 1
            self._send(status, headers, answer)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _answer

        def _passed_on(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
            headers = {k: v for k, v in self.headers.items() if k.lower() not in _OWN}
            request = urllib.request.Request(
                behind + self.path, body or None, headers, method=self.command
            )
            try:
                with urllib.request.urlopen(request, timeout=30) as reply:
                    return reply.status, dict(reply.headers), reply.read()
            except urllib.error.HTTPError as error:
                return error.code, dict(error.headers), error.read()

        def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                if name.lower() not in _OWN:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """Who asked is gone."""

    with Quiet(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", counts
        finally:
            server.shutdown()
