"""A study is stopped and started again as users do it: the real command, real signals,
a relative workdir, another folder, and the bits of one that nobody stopped."""

import os
import signal
import time
from pathlib import Path

from scaling.store import Store
from tests.support import real_studies

FLAGS = ("--layout", "run=1,width=1", "--checkpoint_seconds", "0.2")


def wait_for(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def newest(workdir):
    """The step of the newest finished checkpoint of a workdir's only run."""
    found = workdir.glob("checkpoints/*/*/manifest.json")
    return max((int(path.parent.name) for path in found), default=0)


def stopped(number, study, workdir, cwd):
    """Starts the study from `cwd`, stops it once it has come further; what it said."""
    before = newest(workdir)
    arguments = ("run", os.path.relpath(study, cwd))
    arguments += ("--workdir", os.path.relpath(workdir, cwd), *FLAGS)
    arguments += ("--data_dir", os.path.relpath(study.parent / "data", cwd))
    parent = real_studies.start(*arguments, cwd=cwd)
    wait_for(lambda: newest(workdir) > before or parent.poll() is not None)
    parent.send_signal(number)
    said, _ = parent.communicate(timeout=60)
    assert parent.returncode == 128 + number, said
    assert "Traceback" not in said
    assert "stopped: 0 of 1 runs are done; the same command goes on" in said
    return said


def test_a_relative_path_of_text_is_seen_from_the_study_file(tmp_path):
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    real_studies.write_text(home / "text")
    real_studies.write_study(home / "little.py", Path("text"), steps=8, evaluations=1)
    # What lies where the command is typed has nothing to do with the study.
    real_studies.write_text(elsewhere / "text", lines=900)
    said, attempts = [], []
    for study, cwd in (("little.py", home), ("../home/little.py", elsewhere)):
        workdir = os.path.relpath(home / "runs", cwd)
        data = os.path.relpath(home / "data", cwd)
        options = ("--workdir", workdir, "--data_dir", data)
        code, text = real_studies.run("run", study, *options, cwd=cwd)
        assert code == 0 and "1 of 1 runs are done" in text, text
        said.append("prepared files" in text)
        attempts.append(len(list(Store(home / "runs").attempts())))
    (record,) = Store(home / "runs").records()[0]
    assert said == [True, False] and record.attempt == 1 and attempts[1] == 0


def test_a_relative_workdir_goes_on_from_another_folder_in_the_same_bits(tmp_path):
    home = tmp_path / "a home, [its] ünïcode * and ~"
    text = real_studies.write_text(home / "text")
    study = real_studies.write_study(home / "little.py", text, steps=2_000)
    straight, cut = home / "runs" / "straight", home / "runs" / "cut"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    code, said = real_studies.run(
        *("run", "little.py", "--workdir", "runs/straight", "--data_dir", "data"),
        *FLAGS,
        cwd=home,
    )
    assert code == 0 and "1 of 1 runs are done" in said, said

    stopped(signal.SIGTERM, study, cut, home)
    stopped(signal.SIGINT, study, cut, elsewhere)
    attempts = list(Store(cut).attempts())
    assert [attempt.cause for attempt in attempts] == ["preemption"] * 2
    assert 0 < attempts[0].step < attempts[1].step < 2_000

    code, said = real_studies.run(
        *("run", "../" + str(study.relative_to(tmp_path)), *FLAGS),
        *("--workdir", "../" + str(cut.relative_to(tmp_path))),
        *("--data_dir", str(home / "data")),
        cwd=elsewhere,
    )
    assert code == 0, said
    (record,) = Store(cut).records()[0]
    assert record.attempt == 3
    assert real_studies.substances(cut) == real_studies.substances(straight)
    assert newest(cut) == 0  # nothing is left of what the record replaced


def test_too_large_an_evaluation_set_is_refused_before_anything_is_measured(tmp_path):
    text = real_studies.write_text(tmp_path / "text", lines=100)
    study = real_studies.write_study(tmp_path / "s.py", text, steps=10, tokens=10**9)
    code, said = real_studies.run("run", study, "--data_dir", "data", cwd=tmp_path)
    assert code == 2 and "measuring" not in said, said
    assert said.splitlines()[-1].startswith(
        "scaling: invalid evaluation.tokens 1000000000: "
    )
