"""What a fleet's machines find and leave in its workdir: source, token, how it ended.

    python -m launch.bucket FOLDER CODE

is what a machine runs when the study has ended there.
"""

from __future__ import annotations

import contextlib
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path

from etils import epath

from launch.machines import Lost
from scaling.address import absolute, unanswered
from scaling.errors import UserError

SOURCE, TOKEN, ENDED, FAILED = "source.tar.gz", "token", "ended", "failed-"


def folder(workdir: str, fleet: str) -> str:
    return f"{workdir.rstrip('/')}/launch/{fleet}"


class Folder:
    """The folder of one fleet in its workdir.

    Every method raises Lost where the bucket does not answer, or refuses.
    """

    def __init__(self, address: str):
        self.address = address
        self._path = epath.Path(absolute(address))

    @contextlib.contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except unanswered() as error:
            why = " ".join(str(error).split())[:400] or type(error).__name__
            raise Lost(f"{self.address} cannot be used: {why}") from error

    def publish(self, archive: Path) -> str:
        """Puts the source there, and a token unless there is one; returns the token.

        Raises:
          UserError: there is no such bucket.
        """
        with self._answering():
            self._path.mkdir(parents=True, exist_ok=True)
            try:
                (self._path / SOURCE).write_bytes(archive.read_bytes())
            except FileNotFoundError as error:
                raise UserError(
                    "workdir", self.address, "there is no such bucket; make it first"
                ) from error
            token = self._path / TOKEN
            if not token.exists():
                token.write_text(secrets.token_hex(32))
            return str(token.read_text())

    def begin(self) -> None:
        """No machine is there: how an earlier life of the fleet ended says nothing."""
        with self._answering():
            (self._path / ENDED).unlink(missing_ok=True)

    def ended(self) -> int | None:
        """The exit code with which the study ended, None while it runs."""
        path = self._path / ENDED
        with self._answering():
            return int(path.read_text()) if path.exists() else None

    def end(self, code: int) -> None:
        with self._answering():
            (self._path / ENDED).write_text(str(code))

    def failures(self) -> dict[str, str]:
        """For each machine that could not start, the command that failed there."""
        with self._answering():
            found = self._path.glob(f"{FAILED}*")
            return {p.name.removeprefix(FAILED): str(p.read_text()) for p in found}

    def forget(self, machine: str) -> None:
        with self._answering():
            (self._path / f"{FAILED}{machine}").unlink(missing_ok=True)

    def remove(self) -> None:
        with self._answering():
            if self._path.exists():
                self._path.rmtree()


def check_workdir(workdir: str) -> None:
    """Raises UserError for an address that the machines could not reach."""
    import re

    bucket = r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]"
    if not re.fullmatch(rf"gs://{bucket}/[^\n/][^\n]*", workdir):
        raise UserError(
            "workdir",
            workdir,
            "the disks are deleted with the machines; give gs://BUCKET/FOLDER",
        )


if __name__ == "__main__":
    Folder(sys.argv[1]).end(int(sys.argv[2]))
