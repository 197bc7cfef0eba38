"""Addresses of workdirs, in the one form that all code behind a command works with."""

from __future__ import annotations

import importlib.util
import os

import fsspec

from scaling.errors import UserError


def absolute(workdir: str | os.PathLike[str]) -> str:
    """A workdir's address in that form.

    A local path is made absolute, so that it means the same folder to every process and
    library that is given it; "~" is the home folder. gs:// and the like stay as they
    are.

    Raises:
      UserError: the home folder of a user that there is not, or an address that is
        not gs://.
    """
    text = os.fspath(workdir)
    if "://" in text:
        _check_address(text)
        return text
    expanded = os.path.expanduser(text)
    if expanded.startswith("~"):
        raise UserError(
            "workdir", text, "there is no such user; write ./~... for a name"
        )
    return os.path.abspath(expanded)


def _check_address(address: str) -> None:
    """Raises UserError where an address is none that a workdir can be at."""
    scheme, _, rest = address.partition("://")
    if scheme != "gs":
        raise UserError("workdir", address, "give a local folder or gs://BUCKET/FOLDER")
    if not rest.strip("/"):
        raise UserError("workdir", address, "give a bucket: gs://BUCKET/FOLDER")
    if set("[]*?") & set(rest):  # gcsfs takes them for patterns, so it finds no file
        raise UserError("workdir", address, "a gs:// name without [, ], * and ?")
    if importlib.util.find_spec("gcsfs") is None:
        raise UserError("workdir", address, "gs:// needs: pip install 'datalaw[gcs]'")
    # A listing that is kept does not show what the child wrote since. It has to be said
    # before the first gs:// path is opened, which fixes it for the process.
    fsspec.config.conf.setdefault("gs", {})["use_listings_cache"] = False
