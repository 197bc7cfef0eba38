"""Limits the log output of libraries to warnings and errors."""

from __future__ import annotations

from logging import CRITICAL, getLogger

from absl import flags, logging


def libraries() -> None:
    """Makes libraries log warnings and errors only. To be called before `app.run`."""
    # Assigned, since absl takes a mere default for INFO.
    flags.FLAGS["verbosity"].value = logging.WARNING
    flags.FLAGS["verbosity"].using_default_value = False
    getLogger("gcsfs").setLevel(CRITICAL)  # it logs what it raises, with its traceback
