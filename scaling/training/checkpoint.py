"""Checkpoints of unfinished runs: the only file that imports orbax.

A checkpoint belongs to one run, not to a pack, so that a run can go on in any slot, at
another pack width or on other devices. It holds the run's train state and its progress
so far (loss curve, readings, seconds). Only the step is kept of the data: batches are a
pure function of it.

Beside orbax's files there is a manifest.json, written last, with the checkpoint's run
and step and the sha256 of every file. A checkpoint is used only where all of this is
right. Any other is removed, since orbax would count it among the latest, and the one
before it is used, or none.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint import checkpoint_managers

from scaling import chaos
from scaling.store import Store
from scaling.training import mesh
from scaling.writing import write_atomic

MANIFEST = "manifest.json"
FORMAT = 1  # of the manifest and of the checkpoint's content
LONGEST = 4096  # bytes of a path

# What orbax and tensorstore raise where an undamaged checkpoint has other shapes than
# the model, as after a change of code.
_OTHER_SHAPE = (ValueError, OSError, KeyError, TypeError)


class Damaged(Exception):
    """A checkpoint cannot be used; the message says why."""


@dataclasses.dataclass(frozen=True)
class Saved:
    """A restored run: its train state, its step and its progress."""

    step: int
    state: Any
    progress: dict[str, Any]


def _manager(folder: epath.Path) -> ocp.CheckpointManager:
    options = ocp.CheckpointManagerOptions(
        preservation_policy=checkpoint_managers.LatestN(2),
        enable_async_checkpointing=False,  # the next step donates the buffers
        cleanup_tmp_directories=False,  # in a thread that nobody waits for: see restore
    )
    return ocp.CheckpointManager(folder, options=options)


def save(
    store: Store, run_id: str, step: int, state: Any, progress: dict[str, Any]
) -> None:
    """Keeps the state of one run (no run axis) at `step`; the two latest stay.

    Those of other attempts go that are no further: whoever wrote them is gone, or was
    given up.
    """
    arguments = ocp.args.Composite(
        state=ocp.args.StandardSave(_by_name(state)),
        progress=ocp.args.JsonSave(progress),
    )
    with _manager(store.checkpoints(run_id)) as manager:
        if step in manager.all_steps():
            return  # the one that the run went on from
        manager.save(step, args=arguments, force=True)
    chaos.point("child: checkpoint without manifest")
    if jax.process_index():
        return  # the first process signs what all have written
    sign(store, run_id, step)
    for folder in store.all_checkpoints(run_id):
        if folder != store.checkpoints(run_id):
            for path in _steps(folder):
                if int(path.name) <= step:
                    _remove(path)


def sign(store: Store, run_id: str, step: int) -> None:
    """Writes the manifest: until it is there, the checkpoint does not count."""
    folder = store.checkpoints(run_id) / str(step)
    files = {_relative(path, folder): _sha256(path) for path in _files(folder)}
    body = {"format": FORMAT, "run_id": run_id, "step": step, "files": files}
    text = json.dumps({"sha256": _seal(body), "body": body}, indent=1)
    write_atomic(folder / MANIFEST, text.encode())


def restore(
    store: Store,
    run_id: str,
    steps: int,
    abstract: Any,
    shardings: Any,
    say: Callable[[str], None],
) -> Saved | None:
    """The newest checkpoint that is whole and the run's own; None where there is none.

    Others are removed, and `say` is given one line about them.

    Args:
      steps: of the whole run.
      abstract: shapes and dtypes of one run's train state.
      shardings: a tree like it; need not be those it was saved with.
    """
    wrong: list[str] = []

    def say_wrong(path: epath.Path, error: Damaged) -> None:
        wrong.append(f"checkpoint {path.name} of run {run_id} {error}")
        # Else it is not ours to remove.
        if path.parent == store.checkpoints(run_id) and not jax.process_index():
            _remove(path)

    saved = None
    for path in _whole(store, run_id, steps, say_wrong):
        try:
            saved = _read(path.parent, int(path.name), abstract, shardings)
            break
        except Damaged as error:
            say_wrong(path, error)
    if wrong:
        start = f"step {saved.step}" if saved else "the start"
        say(f"{'; '.join(wrong)}: not used, the run goes on from {start}")
    return saved


def delete(store: Store, run_id: str) -> None:
    """Drops the checkpoints of a finished run."""
    if jax.process_index():
        return
    folder = store.path("checkpoints", run_id)
    try:
        folder.rmtree(missing_ok=True)
    except OSError as error:  # the record stands: what is left over does no harm
        logging.warning("the checkpoints in %s could not be removed: %s", folder, error)


# --- Which checkpoints count --------------------------------------------------


def _whole(
    store: Store, run_id: str, steps: int, say: Callable[[epath.Path, Damaged], None]
) -> Iterator[epath.Path]:
    """The undamaged checkpoints, the highest first; `say` is told of the others.

    Of several processes the first one looks, and tells the others where.
    """
    found = _undamaged(store, run_id, steps, say)
    if jax.process_count() == 1:
        yield from found
        return
    while True:
        path = "" if jax.process_index() else os.fspath(next(found, ""))
        text = np.frombuffer(path.encode().ljust(LONGEST, b"\0"), np.uint8)
        told = mesh.agreed(text).astype(np.uint8).tobytes().rstrip(b"\0").decode()
        if not told:
            return
        yield epath.Path(told)


def _undamaged(
    store: Store, run_id: str, steps: int, say: Callable[[epath.Path, Damaged], None]
) -> Iterator[epath.Path]:
    for path in _candidates(store, run_id):
        try:
            _checked(path, run_id, steps)
        except Damaged as error:
            say(path, error)
        else:
            yield path


def _candidates(store: Store, run_id: str) -> list[epath.Path]:
    """All that has the name of a step in the run's folders, the highest first.

    Remains of interrupted writes, and numbers that orbax would not write, are removed
    from the folder that this process writes to; no checkpoint is lost with them.
    """
    folder = store.path("checkpoints", run_id)
    if not folder.is_dir():
        if folder.exists() or _is_link(folder):  # would be in the way of a folder
            folder.unlink()
        return []
    own = store.checkpoints(run_id)
    steps = _steps(own)
    for path in own.iterdir() if own.is_dir() else ():
        odd = path.name.isdecimal() and path.name != str(int(path.name))
        if odd or ".orbax-checkpoint-tmp" in path.name:
            _remove(path)
    for other in store.all_checkpoints(run_id):
        if other != own:
            steps += _steps(other)
    return sorted(steps, key=lambda path: int(path.name), reverse=True)


def _steps(folder: epath.Path) -> list[epath.Path]:
    """What has the name of a step."""
    paths = folder.iterdir() if folder.is_dir() else ()
    return [p for p in paths if p.name.isdecimal() and p.name == str(int(p.name))]


def _checked(folder: epath.Path, run_id: str, steps: int) -> int:
    """The step of a checkpoint. Raises Damaged with what is wrong with it."""
    try:
        step, files = _manifest(folder, run_id)
        if str(step) != folder.name:
            raise Damaged(f"says that it is of step {step}")
        if not 0 < step <= steps:
            raise Damaged(f"lies beyond the end of the run, {steps}")
        for name, sha256 in files.items():
            path = folder / name
            if not path.exists():
                raise Damaged(f"lacks its file {name}")
            if not _is_regular(path) or _sha256(path) != sha256:
                raise Damaged(f"has a changed file {name}")
    except OSError as error:
        raise Damaged(f"cannot be read ({error})") from error
    return step


def _manifest(folder: epath.Path, run_id: str) -> tuple[int, dict[str, str]]:
    """The step and the digests of files that a checkpoint says it has."""
    path = folder / MANIFEST
    if not folder.is_dir():
        raise Damaged("is no folder")
    if not path.exists() or not _is_regular(path):
        raise Damaged("was not finished (it has no manifest)")
    try:
        whole = json.loads(path.read_bytes())
        body = whole["body"]
        if whole["sha256"] != _seal(body):
            raise Damaged("has a changed manifest")
        if body["format"] != FORMAT:
            raise Damaged(f"is of format {body['format']}, not {FORMAT}")
        owner, step, files = body["run_id"], body["step"], body["files"]
    except (ValueError, KeyError, TypeError) as error:
        raise Damaged("has a manifest that cannot be read") from error
    if owner != run_id:
        raise Damaged(f"belongs to run {owner}")
    return step, files


def _read(folder: epath.Path, step: int, abstract: Any, shardings: Any) -> Saved:
    """The content of a checkpoint whose files are undamaged."""
    target = jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(
            leaf.shape, leaf.dtype, sharding=sharding
        ),
        abstract,
        shardings,
    )
    arguments = ocp.args.Composite(
        state=ocp.args.StandardRestore(_by_name(target)),
        progress=ocp.args.JsonRestore(),
    )
    with _manager(folder) as manager:
        try:
            restored = manager.restore(step, args=arguments)
        except _OTHER_SHAPE as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise Damaged(f"does not fit this model ({reason[:200]})") from error
    leaves = [leaf for _, leaf in sorted(restored["state"].items())]
    state = jax.tree.unflatten(jax.tree.structure(abstract), leaves)
    return Saved(step, state, restored["progress"])


def _remove(path: epath.Path) -> None:
    """Takes a checkpoint out of orbax's sight, if it cannot be deleted by its name."""
    try:
        if path.is_dir() and not _is_link(path):
            path.rmtree()
        else:
            path.unlink()
    except PermissionError:
        taken = {other.name for other in path.parent.iterdir()}
        names = (f"damaged.{path.name}.{i}" for i in range(len(taken) + 1))
        path.rename(path.parent / next(name for name in names if name not in taken))


def _files(folder: epath.Path) -> Iterator[epath.Path]:
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            yield from _files(path)
        else:
            yield path


def _relative(path: epath.Path, folder: epath.Path) -> str:
    return os.fspath(path).removeprefix(os.fspath(folder)).lstrip("/")


def _is_regular(path: epath.Path) -> bool:
    """Whether reading it ends: a fifo would be waited for."""
    return "://" in os.fspath(path) or os.path.isfile(path)


def _is_link(path: epath.Path) -> bool:
    return "://" not in os.fspath(path) and os.path.islink(path)


def _sha256(path: epath.Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _seal(body: Any) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _by_name(tree: Any) -> dict[str, Any]:
    """Leaves by their number: survives renamed classes and keeps the order."""
    return {f"{i:05d}": leaf for i, leaf in enumerate(jax.tree.leaves(tree))}
