"""Prepared corpora in a bucket: put there once, read by every host of a study.

A folder of the bucket holds
    NAME-DIGEST/       token files, index of documents, vocabulary, manifest.json
    versions/*.json    the digest of what each version of a corpus became
The manifest is written after the files that it lists, and a version after its manifest:
what was cut short does not count. A corpus of one digest is the same for all, so that
two that put it there at once do no harm.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import fsspec
from etils import epath

from scaling import intact
from scaling.address import absolute
from scaling.writing import write_atomic

MANIFEST = "manifest.json"


class NotThere(Exception):
    """The bucket does not have a corpus as it should be; the message says why."""


def places(data_dir: str | None, workdir: str) -> tuple[str, str]:
    """The local data folder of a command, and the bucket's folder beside it or "".

    Where the data folder that is named is in a bucket, the usual one keeps copies. With
    a workdir in a bucket, corpora are shared there.

    Raises:
      UserError: an address that is not gs://.
    """
    given = [text for text in (data_dir, os.environ.get("SCALING_DATA")) if text]
    remote = [text for text in given[:1] if intact.is_remote(text)]
    local = next((text for text in given if not intact.is_remote(text)), DEFAULT)
    here = os.path.abspath(os.path.expanduser(local))
    if remote:
        return here, absolute(remote[0], "data_dir").rstrip("/")
    if intact.is_remote(workdir):
        return here, f"{workdir.rstrip('/')}/corpora"
    return here, ""


DEFAULT = "~/.cache/datalaw"


def digest_of(shared: str, version: str) -> str:
    """The digest of what a version of a corpus became; "" where nobody said so."""
    path = _version(shared, version)
    try:
        digest = intact.json_object(path)["digest"]
    except (FileNotFoundError, intact.Unreadable, KeyError):
        return ""
    return digest if isinstance(digest, str) else ""


def put(folder: Path, shared: str, name: str, version: str) -> str:
    """Puts a prepared corpus into the bucket, if it is not there yet.

    Args:
      folder: of its token files.
      name: of the corpus; version: names what was prepared.

    Returns: where it was put; "" where it was there.
    """
    manifest = (folder / MANIFEST).read_bytes()
    digest = json.loads(manifest)["digest"]
    there = _folder(shared, name, digest)
    new = not (there / MANIFEST).exists() or (there / MANIFEST).read_bytes() != manifest
    if new:
        bucket, root = fsspec.core.url_to_fs(os.fspath(there))
        for file in json.loads(manifest)["files"]:
            bucket.put_file(os.fspath(folder / file), f"{root}/{file}")
        write_atomic(there / MANIFEST, manifest)
    if digest_of(shared, version) != digest:
        body = json.dumps({"digest": digest}).encode()
        write_atomic(_version(shared, version), body)
    return os.fspath(there) if new else ""


def get(shared: str, name: str, digest: str, folder: Path) -> str:
    """Copies a corpus from the bucket into an empty folder; returns where it was.

    Raises:
      NotThere: it is not there, or not as it was put.
    """
    there = _folder(shared, name, digest)
    try:
        manifest = (there / MANIFEST).read_bytes()
    except FileNotFoundError as error:
        raise NotThere(f"{there} has no {MANIFEST}") from error
    bucket, root = fsspec.core.url_to_fs(os.fspath(there))
    for file_name, sha256 in _listed(there, manifest, digest).items():
        path = folder / file_name
        try:
            bucket.get_file(f"{root}/{file_name}", os.fspath(path))
        except FileNotFoundError as error:
            raise NotThere(f"{there} lacks its file {file_name}") from error
        with open(path, "rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                raise NotThere(f"{there / file_name} is not what was put there")
    (folder / MANIFEST).write_bytes(manifest)
    return os.fspath(there)


def forget(shared: str, name: str, digest: str) -> None:
    """Takes the manifest of a corpus that is damaged, so that it is put there again."""
    with contextlib.suppress(FileNotFoundError):
        (_folder(shared, name, digest) / MANIFEST).unlink()


def _listed(there: epath.Path, manifest: bytes, digest: str) -> dict[str, str]:
    """The files of a manifest and their sha256. Raises NotThere for another content."""
    try:
        body: dict[str, Any] = json.loads(manifest)
        listed = {name: str(file["sha256"]) for name, file in body["files"].items()}
        its_own = body["digest"] == digest
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise NotThere(f"{there / MANIFEST} cannot be read") from error
    if not its_own:
        raise NotThere(f"{there / MANIFEST} is that of another text")
    if any("/" in name or name.startswith(".") for name in listed):
        raise NotThere(f"{there / MANIFEST} lists files outside of its folder")
    return listed


def folder_name(name: str, digest: str) -> str:
    """Of the corpus of a digest, in the bucket and where it is copied to."""
    return f"{name}-{digest[:16]}"


def _folder(shared: str, name: str, digest: str) -> epath.Path:
    return epath.Path(shared) / folder_name(name, digest)


def _version(shared: str, version: str) -> epath.Path:
    return epath.Path(shared) / "versions" / f"{version}.json"
