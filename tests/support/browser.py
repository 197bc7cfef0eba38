"""A page opened in Chromium, where there is one, and what its console says."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
BROWSER = next((path for path in map(shutil.which, NAMES) if path), None)
# Seconds that a page may take.
LONGEST = 180
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"),
    *("--no-first-run", "--disable-background-networking", "--disable-sync"),
    *("--disable-component-update", "--enable-logging=stderr"),
)


@contextmanager
def _loading() -> Iterator[str]:
    """An address with an image, /held, that comes once anything else is asked for.

    Chromium reads a page when it has loaded, whatever its scripts still wait for.
    """
    asked = threading.Event()

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/held":
                asked.wait(LONGEST)
            asked.set()
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            asked.set()
            server.shutdown()


def visited(address: str) -> tuple[str, list[str]]:
    """The HTML of a served page some seconds after it was opened, and its console."""
    assert BROWSER is not None
    with tempfile.TemporaryDirectory() as folder:
        wait = ("--virtual-time-budget=5000", f"--user-data-dir={folder}")
        done = subprocess.run(
            [BROWSER, *FLAGS, *wait, "--dump-dom", address],
            capture_output=True,
            text=True,
            timeout=LONGEST,
        )
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def opened(
    page: Path, script: str, anchor: str = "", real_time: bool = False
) -> tuple[str, list[str]]:
    """The page's HTML after `script` ran at its end, and what the console had to say.

    Args:
      real_time: clocks run as they do, and the page is read when the script calls
        `done()`; else waiting takes no time.
    """
    assert BROWSER is not None
    with tempfile.TemporaryDirectory() as folder, _loading() as url:
        if real_time:
            begin = f'new Image().src = "{url}/held";'
            script = f'{begin} const done = () => new Image().src = "{url}/";{script}'
        copy = Path(folder) / "page.html"
        body = page.read_text().replace("</body>", f"<script>{script}</script></body>")
        copy.write_text(body)
        wait = () if real_time else ("--virtual-time-budget=5000",)
        command = [BROWSER, *FLAGS, *wait, "--dump-dom", f"--user-data-dir={folder}/of"]
        done = subprocess.run(
            [*command, f"{copy.as_uri()}{anchor}"],
            capture_output=True,
            text=True,
            timeout=LONGEST,
        )
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]
