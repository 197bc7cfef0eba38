"""Processes that share work end with the one that started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

WAITS = """
import os, signal, sys, time
from analysis import forks
# Ignored where the tests run in the background of a shell.
signal.signal(signal.SIGINT, signal.default_int_handler)
def wait(_):
    time.sleep(600)
def begin(folder):
    open(f"{folder}/{os.getpid()}", "w").close()
try:
    with forks.pool(forks.context(2), 2, begin, sys.argv[1]) as pool:
        list(pool.map(wait, range(4)))
except KeyboardInterrupt:
    sys.exit(130)
"""


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(") ", 1)[1][0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel is asked in Linux")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_their_parent(tmp_path, number):
    parent = subprocess.Popen([sys.executable, "-c", WAITS, str(tmp_path)])
    deadline = time.monotonic() + 60
    while len(os.listdir(tmp_path)) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    children = [int(name) for name in os.listdir(tmp_path)]
    assert len(children) == 2 and all(map(alive, children))
    parent.send_signal(number)
    assert parent.wait(30) == (130 if number == signal.SIGINT else -number)
    while any(map(alive, children)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(alive, children))
