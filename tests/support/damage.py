"""What happens to checkpoints: each kind damages the checkpoints of one run in place.

A kind is a function of the run's folder (checkpoints of two steps), and of the folders
of another run of the same shapes and of one of another model. `KINDS` says of each
which checkpoint is left to go on from: "newest", "before" or "start".
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

Kind = Callable[[Path, Path, Path], None]


def steps(folder: Path) -> list[Path]:
    """The checkpoints of a run, the newest last."""
    found = [path for path in folder.iterdir() if path.name.isdecimal()]
    return sorted(found, key=lambda path: int(path.name))


def largest(folder: Path) -> Path:
    """The file that holds most of a run's state."""
    files = [path for path in (folder / "state").rglob("*") if path.is_file()]
    return max(files, key=lambda path: (path.stat().st_size, path.name))


def _flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(bytes(data))


def flipped_bit(run: Path, *_: Path) -> None:
    path = largest(steps(run)[-1])
    _flip(path, path.stat().st_size // 2)


def flipped_bit_in_manifest(run: Path, *_: Path) -> None:
    path = steps(run)[-1] / "manifest.json"
    _flip(path, path.stat().st_size // 2)


def flipped_bits_in_both(run: Path, *_: Path) -> None:
    for step in steps(run):
        path = largest(step)
        _flip(path, path.stat().st_size // 3)


def truncated_file(run: Path, *_: Path) -> None:
    path = largest(steps(run)[-1])
    os.truncate(path, path.stat().st_size // 2)


def emptied_file(run: Path, *_: Path) -> None:
    os.truncate(largest(steps(run)[-1]), 0)


def missing_file(run: Path, *_: Path) -> None:
    largest(steps(run)[-1]).unlink()


def empty_folder(run: Path, *_: Path) -> None:
    newest = steps(run)[-1]
    shutil.rmtree(newest)
    newest.mkdir()


def missing_manifest(run: Path, *_: Path) -> None:
    (steps(run)[-1] / "manifest.json").unlink()


def manifest_of_another_kind(run: Path, *_: Path) -> None:
    (steps(run)[-1] / "manifest.json").write_text("[1, 2, 3]")


def wrong_progress(run: Path, *_: Path) -> None:
    """Valid JSON of the right form with losses that the run never had."""
    path = steps(run)[-1] / "progress" / "metadata"
    body = json.loads(path.read_text())
    body["curve"] = [0.5 for _ in body["curve"]]
    path.write_text(json.dumps(body))


def another_run(run: Path, other: Path, _: Path) -> None:
    _replace(steps(run)[-1], steps(other)[-1])


def another_model(run: Path, _: Path, model: Path) -> None:
    _replace(steps(run)[-1], steps(model)[-1])


def older_under_a_newer_name(run: Path, *_: Path) -> None:
    before, newest = steps(run)
    _replace(newest, before)


def stray_step_folder(run: Path, *_: Path) -> None:
    (run / "999999").mkdir()


def copy_beyond_the_end(run: Path, *_: Path) -> None:
    shutil.copytree(steps(run)[-1], run / "88888888")


def duplicate(run: Path, *_: Path) -> None:
    """The newest a second time, under its number with a zero before it."""
    newest = steps(run)[-1]
    shutil.copytree(newest, run / f"0{newest.name}")


def fifo_for_a_file(run: Path, *_: Path) -> None:
    path = largest(steps(run)[-1])
    path.unlink()
    os.mkfifo(path)


def folder_for_a_file(run: Path, *_: Path) -> None:
    path = largest(steps(run)[-1])
    path.unlink()
    path.mkdir()


def file_for_the_checkpoint(run: Path, *_: Path) -> None:
    newest = steps(run)[-1]
    shutil.rmtree(newest)
    newest.write_text("not a folder")


def dangling_link(run: Path, *_: Path) -> None:
    newest = steps(run)[-1]
    shutil.rmtree(newest)
    newest.symlink_to(run / "nowhere")


def unreadable(run: Path, *_: Path) -> None:
    """Nobody may read it; where everybody may (root), the manifest is gone."""
    newest = steps(run)[-1]
    if os.geteuid() == 0:
        shutil.rmtree(newest)
        newest.mkdir()
    newest.chmod(0)


def write_cut_short(run: Path, *_: Path) -> None:
    """What a kill in the middle of a write leaves: orbax's temporary folder."""
    newest = steps(run)[-1]
    (newest / "manifest.json").unlink()
    newest.rename(run / f"{newest.name}.orbax-checkpoint-tmp")


def file_for_the_run(run: Path, *_: Path) -> None:
    shutil.rmtree(run)
    run.write_text("not a folder")


def link_for_the_run(run: Path, *_: Path) -> None:
    shutil.rmtree(run)
    run.symlink_to(run.parent / "nowhere")


def _replace(folder: Path, by: Path) -> None:
    if folder != by:
        shutil.rmtree(folder)
        shutil.copytree(by, folder)


KINDS: dict[Kind, str] = {
    flipped_bit: "before",
    flipped_bit_in_manifest: "before",
    flipped_bits_in_both: "start",
    truncated_file: "before",
    emptied_file: "before",
    missing_file: "before",
    empty_folder: "before",
    missing_manifest: "before",
    manifest_of_another_kind: "before",
    wrong_progress: "before",
    another_run: "before",
    another_model: "before",
    older_under_a_newer_name: "before",
    stray_step_folder: "newest",
    copy_beyond_the_end: "newest",
    duplicate: "newest",
    fifo_for_a_file: "before",
    folder_for_a_file: "before",
    file_for_the_checkpoint: "before",
    dangling_link: "before",
    unreadable: "before",
    write_cut_short: "before",
    file_for_the_run: "start",
    link_for_the_run: "start",
}

# After these there is nothing to be said: no checkpoint was taken for a good one.
SILENT = (duplicate, write_cut_short, file_for_the_run, link_for_the_run)
