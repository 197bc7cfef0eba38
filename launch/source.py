"""The study that is launched, and the archive of source that is copied for it."""

from __future__ import annotations

import dataclasses
import shlex
import subprocess
import tarfile
from io import BytesIO
from pathlib import Path

from launch.machines import note
from scaling.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
STARTS = 5  # of the study in a day, as startup.sh has it


@dataclasses.dataclass(frozen=True)
class Study:
    """What to run: the study file, its workdir, the user's own families and corpora.

    Attributes:
      cluster: whether it runs over the machines of a Ray cluster.
      folder: gs:// address of its fleet's folder.
    """

    path: str
    workdir: str
    include: tuple[str, ...] = ()
    cluster: bool = False
    folder: str = ""


def check_study(study: Study, devices: int) -> None:
    """Raises what `scaling run` would raise there, before a machine is asked for."""
    from scaling import plugins
    from scaling import study as studies
    from scaling.scheduling import layouts

    for path in study.include:
        plugins.include(path)
    runs = studies.load(study.path).runs(studies.Results(lambda run: None))
    studies.validate(runs)
    studies.check_layout(runs, layouts.assumed("tpu", devices))


def study_script(study: Study) -> str:
    """The script with the study's commands that lies beside the source on a machine."""
    words = ["run", _placed(study.path), "--workdir", study.workdir]
    words += ["--engine", "ray"] if study.cluster else []
    for path in study.include:
        words += ["--include", _placed(path)]
    return (
        "# Made by scaling-launch: this study's commands on this machine.\n"
        'cd -- "$(dirname -- "$0")" || exit\n'
        "case $1 in\n"
        f"run) exec ../venv/bin/scaling {shlex.join(words)} ;;\n"
        # systemd's words for how it ended: `up` deletes the machines after 0, after 2,
        # and after failures so many that systemd starts it no more (startup.sh). 143
        # and 130 are a stop: the machine is preempted, or starts again.
        "ended)\n"
        '  case "$EXIT_CODE $EXIT_STATUS" in\n'
        '  "exited 0" | "exited 2") code=$EXIT_STATUS ;;\n'
        '  "exited 143" | "exited 130" | "killed TERM") exit 0 ;;\n'
        "  *)\n"
        "    now=$(date +%s) code=1\n"
        '    echo "$now" >> ../failures\n'
        "    recent=$(awk -v now=\"$now\" '$1 > now - 86400' ../failures | wc -l)\n"
        f'    [ "$recent" -ge {STARTS} ] || exit 0 ;;\n'
        "  esac\n"
        "  exec ../venv/bin/python -m launch.bucket "
        f'{shlex.quote(study.folder)} "$code" ;;\n'
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
