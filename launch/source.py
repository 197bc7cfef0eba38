"""The study that is launched, and the archive of source that is copied for it."""

from __future__ import annotations

import dataclasses
import re
import shlex
import subprocess
import tarfile
from io import BytesIO
from pathlib import Path

from launch.gcloud import note
from scaling.errors import UserError

ROOT = Path(__file__).resolve().parents[1]


@dataclasses.dataclass(frozen=True)
class Study:
    """What to run: the study file, its workdir, the user's own families and corpora."""

    path: str
    workdir: str
    include: tuple[str, ...] = ()


def check_workdir(workdir: str) -> None:
    bucket = r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]"
    if not re.fullmatch(rf"gs://{bucket}/[^\n/][^\n]*", workdir):
        raise UserError(
            "workdir",
            workdir,
            "the VM's disk is deleted with the VM; give gs://BUCKET/FOLDER",
        )


def check_study(study: Study, devices: int) -> None:
    """Raises what `scaling run` would raise on the VM, before a VM is requested."""
    from scaling import plugins
    from scaling import study as studies
    from scaling.scheduling import layouts

    for path in study.include:
        plugins.include(path)
    runs = studies.load(study.path).runs(studies.Results(lambda run: None))
    studies.validate(runs)
    studies.check_layout(runs, layouts.assumed("tpu", devices))


def study_script(study: Study) -> str:
    """The script with the study's commands that lies beside the source on the VM."""
    words = ["run", _placed(study.path), "--workdir", study.workdir]
    for path in study.include:
        words += ["--include", _placed(path)]
    return (
        "# Made by scaling-launch: this study's commands on this machine.\n"
        'cd -- "$(dirname -- "$0")" || exit\n'
        "case $1 in\n"
        f"run) exec ../venv/bin/scaling {shlex.join(words)} ;;\n"
        f"status) exec ../venv/bin/scaling {shlex.join(['status', study.workdir])} ;;\n"
        "esac\n"
    )


def _placed(path: str) -> str:
    """The place, in the copied tree, of a file that the user named."""
    file = Path(path).expanduser().resolve()
    if file.is_relative_to(ROOT):
        return file.relative_to(ROOT).as_posix()
    return f"given/{file.name}"


def pack(study: Study, archive: Path) -> None:
    """Writes the tar: the files git tracks, as they are now, and those of the study.

    Records made from it name the commit that it came from.

    Raises:
      UserError: no git checkout, or two files that would lie in one place.
    """
    from scaling.source import source_commit

    tracked = _git_files()
    if "install.sh" not in tracked:
        raise UserError(
            "source",
            str(ROOT),
            "files that git tracks are copied: install from a git checkout (pip -e)",
        )
    files = {name: ROOT / name for name in tracked if (ROOT / name).is_file()}
    for path in (study.path, *study.include):
        file = Path(path).expanduser().resolve()
        if files.setdefault(_placed(path), file).resolve() != file:
            raise UserError(
                "include", path, f"rename it: two files are called {file.name}"
            )
    for name in _git_files("--others", "--exclude-standard", "--", "scaling"):
        note(f"not copied: git does not track {name}; `git add` it, or --include it")
    archive.parent.mkdir(parents=True, exist_ok=True)
    # Packed quickly: it is a megabyte or two, and is sent once.
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        for name, file in files.items():
            tar.add(file, name)
        made = {"study.sh": study_script(study), "COMMIT": source_commit()}
        for name, text in made.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text.encode())
            tar.addfile(entry, BytesIO(text.encode()))


def _git_files(*options: str) -> list[str]:
    command = ["git", "-C", str(ROOT), "ls-files", "-z", *options]
    listed = subprocess.run(command, capture_output=True, text=True)
    return [name for name in listed.stdout.split("\0") if name]
