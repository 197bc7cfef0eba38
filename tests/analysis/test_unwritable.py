"""A report that cannot be written: one line, exit code 2, and its answer stands."""

import errno
import os
from contextlib import nullcontext

import pytest

from analysis import main
from analysis.report import build, figures
from tests.support.made_analysis import made_analysis
from tests.support.made_answers import answers
from tests.support.small_disks import mounted


@pytest.fixture
def report(monkeypatch, capsys):
    """The command on a made analysis: its exit code, and what it says."""
    one = made_analysis().replace(**answers()).replace(targets=("mixture",))
    drawn = {"fits": ("<svg />", b"png")}
    monkeypatch.setattr(figures, "drawing", lambda *_: nullcontext(lambda: drawn))

    def run(folder):
        arguments = ["scaling-analysis", "report", "any.csv", "--out", str(folder)]
        code = main.main(main.parse(arguments))
        said = capsys.readouterr()
        return code, said.out, [n for n in said.err.splitlines() if n != "drawing"]

    monkeypatch.setattr(main, "_analyse", lambda args: one)
    run.never = lambda args: pytest.fail("fitted before the folder was looked at")
    return run


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_disk_that_fails_at_the_end_costs_the_page_alone(
    report, tmp_path, monkeypatch, number
):
    folder = tmp_path / "report"
    assert report(folder)[0] in (0, 3)
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    write = build.write_atomic

    def full(path, data):
        if path.name == "report.json":
            raise OSError(number, os.strerror(number), str(path))
        write(path, data)

    monkeypatch.setattr(build, "write_atomic", full)
    code, out, (line,) = report(folder)
    assert code == 2 and os.strerror(number) in line and str(folder) in line
    assert "report: not written" in out and "\n- " in out
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


def test_a_full_folder_is_one_line(report, tmp_path):
    with mounted(tmp_path / "full", "size=8k") as folder:
        code, out, (line,) = report(folder / "r")
        assert code == 2 and "No space left" in line and str(folder) in line
        assert "\n- " in out and not list(folder.rglob("*.html"))


@pytest.mark.parametrize("below", ["", "r", "r/s"])
def test_what_is_no_folder_is_said_before_anything_is_fitted(
    report, tmp_path, monkeypatch, below
):
    monkeypatch.setattr(main, "_analyse", report.never)
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("file", "link"):
        code, out, (line,) = report(tmp_path / name / below)
        assert code == 2 and f"{tmp_path / name} is no folder" in line and not out
    with mounted(tmp_path / "ro", "ro") as folder:
        code, out, (line,) = report(folder / below)
        assert code == 2 and f"{folder} is read-only" in line and not out
