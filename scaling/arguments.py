"""The options of all commands: a mistake in them is one line, as other wrong input."""

from __future__ import annotations

from typing import NoReturn

from absl.flags import argparse_flags


class Parser(argparse_flags.ArgumentParser):  # type: ignore[misc]
    """An ArgumentParser whose errors are one line with the exit code 2, without usage.

    Its subparsers are of this class too.
    """

    def error(self, message: str) -> NoReturn:
        command = self.prog.partition(" ")[0]
        self.exit(2, f"{command}: {message} (see {self.prog} --help)\n")
        raise AssertionError  # `exit` does not return
