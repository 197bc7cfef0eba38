"""Normalises workdir addresses (local paths and gs://) once, at the command line."""

from __future__ import annotations

import importlib.util
import os

import fsspec

from scaling.errors import UserError

# A listing that is kept does not show what the child wrote since. It has to be said
# before the first gs:// path is opened, which fixes it for the process.
fsspec.config.conf.setdefault("gs", {})["use_listings_cache"] = False


def absolute(workdir: str | os.PathLike[str], field: str = "workdir") -> str:
    """A workdir's address, absolute where it is a local path.

    An absolute path means the same folder to every process and library that is given
    it; "~" is the home folder. A gs:// address is returned unchanged.

    Args:
      field: what the address is given for.

    Raises:
      UserError: "~name" of a user who does not exist, or a remote address that is not
        gs://.
    """
    text = os.fspath(workdir)
    if "://" in text:
        _check_address(text, field)
        return text
    expanded = os.path.expanduser(text)
    if expanded.startswith("~"):
        raise UserError(field, text, "there is no such user; write ./~... for a name")
    return os.path.abspath(expanded)


def unanswered() -> tuple[type[Exception], ...]:
    """What is raised where a bucket does not answer, or refuses, after all tries.

    gcsfs passes on what lies below it, and of that not all is an OSError: its own error
    for an answer such as 503, a login that cannot be renewed, a connection that ends.
    """
    try:
        from aiohttp import ClientError
        from gcsfs.retry import HttpError
        from google.auth.exceptions import GoogleAuthError
    except ImportError:  # there are no buckets without gcsfs
        return (OSError,)
    return OSError, HttpError, ClientError, GoogleAuthError


def _check_address(address: str, field: str) -> None:
    """Raises UserError for an address at which no workdir can be."""
    scheme, _, rest = address.partition("://")
    if scheme != "gs":
        raise UserError(field, address, "give a local folder or gs://BUCKET/FOLDER")
    if not rest.strip("/"):
        raise UserError(field, address, "give a bucket: gs://BUCKET/FOLDER")
    if set("[]*?") & set(
        rest
    ):  # gcsfs reads these characters as patterns and would find no file
        raise UserError(field, address, "a gs:// name without [, ], * and ?")
    if importlib.util.find_spec("gcsfs") is None:
        raise UserError(field, address, "gs:// needs: pip install 'datalaw[gcs]'")
