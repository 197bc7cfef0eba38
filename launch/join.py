"""Joins this machine, reached by ssh, to a cluster: `scaling-launch join ADDRESS`.

The cluster's token comes by standard input and goes to a file that its owner alone can
read. It stands in no command line, which every user of a machine can list, and in no
log.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from pathlib import Path
from typing import TextIO

from scaling.errors import UserError

# Ray notices a lost host after seconds, as on the machines of startup.sh.
KEEPALIVE = {
    f"RAY_grpc_{which}keepalive_{what}_ms": "5000"
    for which in ("", "client_")
    for what in ("time", "timeout")
}


def check_address(address: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9.-]+:\d{1,5}", address):
        raise UserError(
            "address", address, "give HOST:PORT of the head, such as 10.0.0.2:6379"
        )


def command(address: str) -> list[str]:
    return [
        str(Path(sys.executable).with_name("ray")),
        "start",
        f"--address={address}",
        "--block",
    ]


def join(address: str, given: TextIO, dry_run: bool) -> int:
    """Becomes a node of the cluster until it is stopped.

    Args:
      given: where the token is read from, where it is not a terminal.
      dry_run: print the command and run nothing.
    """
    check_address(address)
    words = command(address)
    if dry_run:
        print(shlex.join(words))
        return 0
    if not Path(words[0]).exists():
        raise UserError(
            "address", address, "joining needs Ray: pip install 'datalaw[ray]'"
        )
    path = token_path()
    token = "" if given.isatty() else given.readline().strip()
    if token:
        keep_token(path, token)
    elif not path.exists():
        raise UserError("token", "", "give it by standard input: ... < TOKEN_FILE")
    given_names = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(path)}
    os.execve(words[0], words, os.environ | KEEPALIVE | given_names)


def token_path() -> Path:
    return Path.home() / ".ray" / "auth_token"


def keep_token(path: Path, token: str) -> None:
    """Writes the token where only its owner can read it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    new = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600)
    with os.fdopen(new, "w") as file:
        file.write(token)


def printed(token_file: Path, address: str) -> str:
    """The one command that joins another machine from here."""
    remote = shlex.quote(f"scaling-launch join {address}")
    return f"ssh USER@MACHINE {remote} < {shlex.quote(str(token_file))}"
