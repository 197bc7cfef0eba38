"""A page opened in Chromium, where there is one, and what its console says."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
BROWSER = next((path for path in map(shutil.which, NAMES) if path), None)
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"),
    *("--no-first-run", "--disable-background-networking", "--disable-sync"),
    *("--disable-component-update", "--enable-logging=stderr"),
)


def opened(
    page: Path, script: str, anchor: str = "", real_time: bool = False
) -> tuple[str, list[str]]:
    """The page's HTML after `script` ran at its end, and what the console had to say.

    Args:
      real_time: clocks run as they do; else waiting takes no time.
    """
    assert BROWSER is not None
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "page.html"
        body = page.read_text().replace("</body>", f"<script>{script}</script></body>")
        copy.write_text(body)
        wait = () if real_time else ("--virtual-time-budget=5000",)
        command = [BROWSER, *FLAGS, *wait, "--dump-dom", f"--user-data-dir={folder}/of"]
        done = subprocess.run(
            [*command, f"{copy.as_uri()}{anchor}"],
            capture_output=True,
            text=True,
            timeout=180,
        )
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]
