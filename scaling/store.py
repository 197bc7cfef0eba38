"""A workdir: the records of studies with what belongs to them, each file in its place.

A workdir, local or gs://, holds
    studies/NAME.json      the ids of a study's runs
    layout.json            how runs are laid out on this machine
    records/RUN_ID.json    the records
    artifacts/RUN_ID/      nats per document, loss curve, predictions, samples
    probes/DIGEST.npz      positions at which predictions are kept (probe_file.py)
    samples/DIGEST.npz     noises and pictures of samples (corpora/_samples.py)
    frozen/NAME.json       the plan of a study before it trained (frozen.py)
    attempts/RUN_ID/N.json failed attempts
    checkpoints/RUN_ID/    of unfinished runs; where two attempts at a run may write at
                           once, as in a cluster, each in a folder of its own there

What two attempts both write is decided by the disk or the bucket: a record or attempt
is made only where there is none of that name, and an artifact of other bytes than the
one that is there gets another name, so that a record's artifacts are its own.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

from etils import epath

from scaling import intact
from scaling.address import absolute
from scaling.record import Artifact, Attempt, Newer, Record, attempt_of, parsed
from scaling.writing import write_atomic, write_once

OF_ATTEMPT = "attempt-"  # begins the name of a folder of one attempt's checkpoints


class Store:
    """The records of a workdir, local or gs://, each written once.

    Args:
      workdir: the folder that `scaling run --workdir` was given.
      attempt: names the folder of this process's own checkpoints, if another process
        may train the same runs.

    Raises:
      UserError: an address that no workdir can have.

    Attributes:
      root: the folder.
      problems: by path, what is wrong with a file, and what is done about it.
      newer: ids of records that a newer version wrote, as last listed, by path.

    >>> store = Store("runs/of-no-study")
    >>> store.records()  # the records, and what is wrong with files that are none
    ([], {})
    >>> store.exists("0123456789abcdef")
    False
    """

    def __init__(self, workdir: str | os.PathLike[str], attempt: str = ""):
        self.root, self.attempt = epath.Path(absolute(workdir)), attempt
        self.problems: dict[str, str] = {}
        self.newer: dict[str, str] = {}
        self._reported: set[str] = set()

    def complaints(self) -> list[str]:
        """A line for each problem that no earlier call returned."""
        new = {p: why for p, why in self.problems.items() if p not in self._reported}
        self._reported |= set(new)
        return [f"{path} {why}" for path, why in new.items()]

    def path(self, *parts: str) -> epath.Path:
        return self.root.joinpath(*parts)

    def exists(self, run_id: str) -> bool:
        return self.path("records", f"{run_id}.json").exists()

    def run_ids(self) -> set[str]:
        """Ids that have a record: one listing, where `exists` asks for each."""
        names = _listed(self.path("records"))
        return {name.removesuffix(".json") for name in names if _is_json(name)}

    def write(self, record: Record) -> bool:
        """Keeps `record`; False if one with this id is there already (it stays)."""
        text = json.dumps(record.to_json(), indent=1, sort_keys=True)
        target = self.path("records", f"{record.run_id}.json")
        return write_once(target, text.encode())

    def write_artifact(self, run_id: str, name: str, data: bytes) -> Artifact:
        """Writes a file beside the record; before the record, so none dangles."""
        sha256 = hashlib.sha256(data).hexdigest()
        stem, _, ending = name.partition(".")
        if not self._holds(self.path("artifacts", run_id, name), data):
            name = f"{stem}-{sha256[:12]}.{ending}"
            write_atomic(self.path("artifacts", run_id, name), data)
        return Artifact(stem, f"artifacts/{run_id}/{name}", sha256)

    def _holds(self, path: epath.Path, data: bytes) -> bool:
        """Whether a file has this content; it is made where there is none."""
        if write_once(path, data):
            return True
        try:
            return intact.data(path, len(data)) == data
        except (intact.Unreadable, FileNotFoundError):
            return False

    def read(self, run_id: str) -> Record:
        """The record of one run.

        Raises:
          FileNotFoundError: there is none.
          ValueError: what is there is not that run's record; says why.
        """
        return parsed(self.path("records", f"{run_id}.json"))

    def records(self) -> tuple[list[Record], dict[str, str]]:
        """All records, ordered by id, and for each corrupt file what is wrong.

        Those of a newer version are neither; see `newer` and `problems`.
        """
        good, corrupt = [], {}
        self.newer = {}
        folder = self.path("records")
        for path in _json_files(folder):
            try:
                good.append(parsed(path))
            except Newer as error:
                self.newer[str(path)] = path.stem
                self.problems[str(path)] = str(error)
            except ValueError as error:
                corrupt[str(path)] = str(error)
        for name in _listed(folder):
            other = name != "corrupt" and not _is_json(name)
            if other and (folder / name).is_dir():
                self.problems[str(folder / name)] = (
                    "is a folder: no record in it is read"
                )
        return good, corrupt

    def cached(self, *parts: str) -> dict[str, Any]:
        """A JSON object that can be recomputed; {} where it is missing or damaged."""
        path = self.path(*parts)
        try:
            return intact.json_object(path)
        except FileNotFoundError:
            return {}
        except intact.Unreadable as error:
            self.problems[str(path)] = f"{error}: not used"
            return {}

    def set_aside(self, path: str) -> epath.Path:
        """Moves a corrupt record to records/corrupt/ under a name not yet taken."""
        source = epath.Path(path)
        folder = self.path("records", "corrupt")
        if not intact.is_remote(folder):  # a bucket has no folders
            folder.mkdir(parents=True, exist_ok=True)
        here = folder.iterdir() if folder.is_dir() else ()
        taken = [path.name for path in here]
        number = sum(name.startswith(f"{source.stem}.") for name in taken)
        target = folder / f"{source.stem}.{number}.json"
        if intact.is_remote(source):
            target.write_bytes(source.read_bytes())
            source.unlink()
        else:
            os.rename(source, target)  # whatever it is: a link, a fifo, a folder
        return target

    def add_attempt(self, attempt: Attempt) -> None:
        """Keeps a failed attempt, under the next number that nobody else has taken."""
        for number in itertools.count(attempt.number):
            path = self.path("attempts", attempt.run_id, f"{number}.json")
            body = dataclasses.asdict(attempt) | {"number": number}
            if write_once(path, json.dumps(body, indent=1).encode()):
                return

    def checkpoints(self, run_id: str) -> epath.Path:
        """Where this process keeps the checkpoints of a run."""
        folder = self.path("checkpoints", run_id)
        return folder / f"{OF_ATTEMPT}{self.attempt}" if self.attempt else folder

    def all_checkpoints(self, run_id: str) -> list[epath.Path]:
        """The folders in which any attempt at a run keeps its checkpoints."""
        folder = self.path("checkpoints", run_id)
        apart = [name for name in _listed(folder) if name.startswith(OF_ATTEMPT)]
        return [folder, *(folder / name for name in sorted(apart))]

    def checkpoint_step(self, run_id: str) -> int:
        """Step of the newest checkpoint of an unfinished run, 0 where there is none."""
        names = [n for f in self.all_checkpoints(run_id) for n in _listed(f)]
        return max((int(name) for name in names if name.isdecimal()), default=0)

    def attempts(self, run_id: str | None = None) -> Iterator[Attempt]:
        """Failed attempts in order, of one run or of all."""
        root = self.path("attempts")
        if run_id is not None:
            folders = [root / run_id]
        else:
            folders = sorted(root.iterdir()) if root.is_dir() else []
        for folder in folders:
            numbered = [p for p in _json_files(folder) if p.stem.isdecimal()]
            for path in sorted(numbered, key=lambda p: int(p.stem)):
                try:
                    yield attempt_of(intact.json_object(path), folder.name)
                except ValueError as error:
                    self.problems[str(path)] = f"{error}: this attempt is not counted"

    def write_study(self, name: str, body: Mapping[str, Any]) -> None:
        path = self.path("studies", f"{name}.json")
        write_atomic(path, json.dumps(body, indent=1).encode())

    def studies(self) -> dict[str, dict[str, Any]]:
        """The files of the studies by name; `runs` is the list of ids."""
        read = {}
        for path in _json_files(self.path("studies")):
            try:
                read[path.stem] = _study(intact.json_object(path))
            except ValueError as error:
                self.problems[str(path)] = (
                    f"{error}: not used; `scaling run` writes it anew"
                )
        return read

    def artifact(self, record: Record, name: str, most: int) -> bytes | None:
        """The bytes of a record's file; None where it has none of that name.

        Args:
          most: bytes that it may have.

        Raises:
          Unreadable: it lies outside the workdir, or is not what the record says.
        """
        for artifact in record.artifacts:
            if artifact.name == name:
                path = self._inside(artifact.path)
                try:
                    body = intact.data(path, most)
                except FileNotFoundError as error:
                    raise intact.Unreadable("is gone") from error
                if hashlib.sha256(body).hexdigest() != artifact.sha256:
                    raise intact.Unreadable("is not what the record was written with")
                return body
        return None

    def _inside(self, relative: str) -> epath.Path:
        """A path of the workdir. Raises Unreadable for one that leads out of it."""
        parts = relative.split("/")
        if parts[0] != "artifacts" or ".." in parts or "" in parts:
            raise intact.Unreadable("is not among the workdir's artifacts: not opened")
        path = self.path(*parts)
        if not intact.is_remote(path):
            root = os.path.realpath(self.root)
            if not os.path.realpath(path).startswith(root.rstrip("/") + "/"):
                raise intact.Unreadable("leads out of the workdir: not opened")
        return path


def _json_files(folder: epath.Path) -> list[epath.Path]:
    """Those of a folder, by name. No pattern is matched: a path may hold [ and *."""
    return [folder / name for name in sorted(_listed(folder)) if _is_json(name)]


def _listed(folder: epath.Path) -> list[str]:
    """Names in a folder; a local one is listed by the system, which is quick."""
    if not folder.is_dir():
        return []
    if intact.is_remote(folder):
        return [path.name for path in folder.iterdir()]
    return os.listdir(folder)


def _is_json(name: str) -> bool:
    return name.endswith(".json") and name != ".json"


def _study(body: dict[str, Any]) -> dict[str, Any]:
    """Raises ValueError where it lacks what a study's file holds."""
    kinds = {"runs": list, "planned": dict, "provisional": int, "truth": list}
    for name, kind in kinds.items():
        if not isinstance(body.get(name, kind()), kind):
            raise ValueError(f"is no study ({name} is {body[name]!r})"[:200])
    if not all(isinstance(run_id, str) for run_id in body.get("runs", (None,))):
        raise ValueError("is no study (it lists no runs)")
    return body
