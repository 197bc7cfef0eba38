"""The command as users meet it: a real parent, a real child, made-up training."""

import importlib.util
import json
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scaling.record import substance
from scaling.store import Store
from scaling.watching.state import State

SUPPORT = Path(__file__).parents[1] / "support"

STUDY = """
from scaling.run import Data, EvaluationSet, Model, Optimiser, Run, options
from scaling.study import corpus, vary

def study(results):
    run = Run(
        model=Model("transformer", 8_000, options=options({act})),
        data=Data(corpus("kjv"), 1024),
        optimiser=Optimiser({rate}, name="{optimiser}"),
        batch={batch}, length=8,
        evaluation=(EvaluationSet("kjv", corpus("kjv")),),
    )
    rates = vary(run, {{"optimiser.learning_rate": (0.005, 0.01, 0.02)}})
    yield from rates
    yield from vary(results.best(rates), {{"data.tokens": (1024, 2048, 4096)}})
    {more}
"""


@pytest.fixture
def write_study(tmp_path):
    def write(name="little", **changes):
        settings = {"act": "", "rate": 0.01, "optimiser": "adamw", "batch": 4}
        text = STUDY.format(**settings | {"more": ""} | changes)
        path = tmp_path / f"{name}.py"
        path.write_text(text)
        return str(path)

    return write


def command(*arguments):
    return [sys.executable, str(SUPPORT / "fake_scaling.py"), *map(str, arguments)]


def environment():
    return os.environ | {"PYTHONPATH": str(SUPPORT)}


def scaling(*arguments):
    return subprocess.run(
        command(*arguments), env=environment(), capture_output=True, text=True
    )


def test_a_study_ends_with_its_records(write_study, tmp_path):
    workdir = tmp_path / "w"
    done = scaling("run", write_study(), "--workdir", workdir)
    assert done.returncode == 0, done.stderr
    assert "5 of 5 runs are done" in done.stderr
    records, _ = Store(workdir).records()
    assert len(records) == 5
    # The rate 0.01 is the best of the made-up ones; all budgets follow it.
    longer = [r for r in records if r.run["data.tokens"] > 1024]
    assert {r.run["optimiser.learning_rate"] for r in longer} == {0.01}
    body = Store(workdir).studies()["little"]
    assert sorted(body["runs"]) == [r.run_id for r in records]

    state = State(str(workdir))  # what `scaling watch` shows
    state.update()
    assert {run.state for run in state.runs.values()} == {"done"}
    assert {run.host for run in state.runs.values()} == {platform.node()}
    assert state.since(0)["begun"] is False

    logged = ("--workdir", workdir, "--tracker", "tensorboard")
    again = scaling("run", write_study(), *logged)
    assert again.returncode == 0 and Store(workdir).records()[0] == records
    assert not (workdir / "tensorboard").exists()  # nothing was trained

    status = scaling("status", workdir)
    assert status.stdout == "little: 5 done, 0 diverged, 0 missing\n"


@pytest.mark.skipif(
    importlib.util.find_spec("tensorboard") is None,
    reason="tensorboard is not installed",
)
def test_a_tracker_that_cannot_write_stops_no_run(write_study, tmp_path):
    logged = ("--workdir", tmp_path / "w", "--tracker", "tensorboard")
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "tensorboard").write_text("in the way")
    done = scaling("run", write_study(), *logged)
    assert done.returncode == 0 and "5 of 5 runs are done" in done.stderr, done.stderr
    assert done.stderr.count("tensorboard is told no more, the study goes on") == 1
    assert "Traceback" not in done.stderr


def test_the_plan_says_what_is_provisional(write_study, tmp_path):
    plan = scaling("plan", write_study(), "--workdir", tmp_path / "w")
    assert plan.returncode == 0, plan.stderr
    assert "5 runs: 3 left, 2 provisional" in plan.stdout
    # 64 and 128 steps that wait for a rate: four fifths of the shorter are shared.
    assert "shared trunks: 51 of 288 steps" in plan.stdout
    assert not (tmp_path / "w" / "records").exists()
    as_json = scaling("plan", write_study(), "--workdir", tmp_path / "w", "--json")
    rows = json.loads(as_json.stdout)
    assert [row["state"] for row in rows].count("provisional") == 2
    assert [row["shared_steps"] for row in rows] == [0, 0, 0, 51, 0]
    assert rows[0]["cost"]["params_total"] == 8_000


def test_failures_are_summed_up_and_the_rest_is_trained(write_study, tmp_path):
    more = """
    import dataclasses
    model = Model("transformer", 16_000, options=options(act="raise"))
    yield dataclasses.replace(run, model=model)
    model = Model("transformer", 16_000, options=options(act="exhausted"))
    yield dataclasses.replace(run, model=model)
"""
    path, workdir = write_study(more=more), tmp_path / "w"
    done = scaling("run", path, "--workdir", workdir)
    assert done.returncode == 1
    assert "5 of 7 runs are done" in done.stderr
    assert done.stderr.count("  missing:") == 2
    causes = [attempt.cause for attempt in Store(workdir).attempts()]
    assert causes.count("crash") == 3  # tried three times
    # Twice: in a pack with an empty slot, then in a pack of one.
    assert causes.count("out of memory") == 2

    status = scaling("status", workdir).stdout
    assert "5 done, 0 diverged" in status
    assert "1 failed (crash)" in status and "1 failed (out of memory)" in status
    assert "RuntimeError: a bug in a family" in status


def test_what_ran_out_of_memory_is_tried_again_on_request_only(write_study, tmp_path):
    path, workdir = write_study(act='act="exhausted"'), tmp_path / "w"
    path = narrowed(path)
    for flags, attempts in ((), 1), ((), 1), (("--retry_oom",), 2):
        done = scaling("run", path, "--workdir", workdir, *flags)
        assert done.returncode == 1 and "out of memory" in done.stderr
        assert len(list(Store(workdir).attempts())) == attempts


def narrowed(path):
    """The study with a single run."""
    text = Path(path).read_text().replace("(1024, 2048, 4096)", "(1024,)")
    Path(path).write_text(text.replace("(0.005, 0.01, 0.02)", "(0.01,)"))
    return path


def test_a_killed_child_is_retried_from_its_checkpoint(write_study, tmp_path):
    path, workdir = write_study(act='act="kill_once"'), tmp_path / "w"
    done = scaling("run", path, "--workdir", workdir)
    assert done.returncode == 0, done.stderr
    assert {record.attempt for record in Store(workdir).records()[0]} >= {2}
    assert all(attempt.cause == "crash" for attempt in Store(workdir).attempts())


def test_packs_are_halved_until_memory_suffices(write_study, tmp_path):
    path, workdir = write_study(act='act="crowded"'), tmp_path / "w"
    done = scaling("run", path, "--workdir", workdir)
    assert done.returncode == 0, done.stderr
    layouts = [record.layout for record in Store(workdir).records()[0]]
    assert [layout["width"] for layout in layouts] == [1] * 5


def test_a_diverged_run_is_a_result(write_study, tmp_path):
    path, workdir = write_study(act='act="diverge"'), tmp_path / "w"
    done = scaling("run", path, "--workdir", workdir)
    assert done.returncode == 0
    assert "5 of 5 runs are done, 5 of them diverged" in done.stderr


def wait_for(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_study_stopped_anywhere_ends_with_the_same_records(
    write_study, tmp_path, number
):
    path = narrowed(write_study("slow", act='act="slow"'))
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    assert scaling("run", path, "--workdir", straight).returncode == 0
    parent = subprocess.Popen(
        command("run", path, "--workdir", broken),
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(lambda: (broken / "begun").exists())
    parent.send_signal(number)
    _, said = parent.communicate(timeout=30)
    assert not substances(broken)
    if number == signal.SIGKILL:
        assert parent.returncode == -number
        assert not list(Store(broken).attempts())
    else:
        assert parent.returncode == 128 + number, said
        assert "stopped: 0 of 1 runs are done; the same command goes on" in said
        (attempt,) = Store(broken).attempts()
        assert attempt.cause == "preemption" and attempt.step > 0
    assert scaling("run", path, "--workdir", broken).returncode == 0
    assert substances(broken) == substances(straight)


PHASES = ("probe", "describe", "measure")


@pytest.mark.parametrize(
    ("phase", "number"),
    [(phase, signal.SIGTERM) for phase in PHASES] + [("measure", signal.SIGINT)],
)
def test_a_stop_before_training_is_one_line(write_study, tmp_path, phase, number):
    path, workdir, begun = write_study(), tmp_path / "w", tmp_path / "begun"
    parent = subprocess.Popen(
        command("run", path, "--workdir", workdir),
        env=environment() | {"FAKE_AT": f"{phase} slow", "FAKE_BEGUN": str(begun)},
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(begun.exists)
    parent.send_signal(number)
    _, said = parent.communicate(timeout=30)
    lines = [line for line in said.splitlines() if not line.startswith("measuring")]
    assert lines == ["scaling: stopped; the same command goes on from here"]
    assert parent.returncode == 128 + number
    assert not (workdir / "layout.json").exists()
    assert scaling("run", path, "--workdir", workdir).returncode == 0
    kept = json.loads((workdir / "layout.json").read_text())["all programs"]["tried"]
    assert all(entry["tokens_per_second"] for entry in kept)


@pytest.mark.parametrize("subcommand", ["plan", "run"])
def test_a_stop_while_the_study_thinks_is_one_line(write_study, tmp_path, subcommand):
    begun = tmp_path / "begun"
    path = write_study(more=f"open({str(begun)!r}, 'w'); __import__('time').sleep(99)")
    parent = subprocess.Popen(
        command(subcommand, path, "--workdir", tmp_path / "w"),
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(begun.exists)
    parent.send_signal(signal.SIGTERM)
    _, said = parent.communicate(timeout=30)
    assert said == "scaling: stopped; the same command goes on from here\n"
    assert parent.returncode == 128 + signal.SIGTERM


@pytest.mark.parametrize("phase", PHASES)
def test_a_child_killed_before_training_is_replaced_once(write_study, tmp_path, phase):
    path, workdir, begun = write_study(), tmp_path / "w", tmp_path / "begun"

    def run(what):
        return subprocess.run(
            command("run", path, "--workdir", workdir),
            env=environment()
            | {"FAKE_AT": f"{phase} {what}", "FAKE_BEGUN": str(begun)},
            capture_output=True,
            text=True,
        )

    ended = run("kill")
    said = [x for x in ended.stderr.splitlines() if not x.startswith("measuring")]
    assert ended.returncode == 1 and len(said) == 2, ended.stderr
    assert all("the child ended with signal 9; log: " in line for line in said)
    assert not (workdir / "layout.json").exists()
    begun.unlink()
    ended = run("kill_once")
    assert ended.returncode == 0 and "trying again in a new one" in ended.stderr
    kept = json.loads((workdir / "layout.json").read_text())["all programs"]["tried"]
    assert all(entry["tokens_per_second"] for entry in kept)


def substances(workdir):
    return [substance(record) for record in Store(workdir).records()[0]]


def test_a_second_study_waits_for_the_first(write_study, tmp_path):
    workdir = tmp_path / "w"
    path = write_study(act='act="slow"')
    first = subprocess.Popen(
        command("run", path, "--workdir", workdir),
        env=environment(),
        stderr=subprocess.DEVNULL,
    )
    wait_for(lambda: (workdir / "lock").exists() and (workdir / "lock").read_text())
    second = scaling("run", path, "--workdir", workdir)
    first.kill()
    first.wait()
    assert second.returncode == 2
    assert second.stderr.count("\n") == 1
    assert f"process {first.pid} is running a study there" in second.stderr
    # The lock of a dead process is no lock.
    quick = write_study("quick")
    assert scaling("run", quick, "--workdir", workdir).returncode == 0


def test_a_corrupt_record_is_set_aside_and_its_run_trained_again(write_study, tmp_path):
    workdir = tmp_path / "w"
    scaling("run", write_study(), "--workdir", workdir)
    before = substances(workdir)
    path = sorted((workdir / "records").glob("*.json"))[0]
    path.write_text(path.read_text()[:100])
    assert str(path) in scaling("status", workdir).stdout
    done = scaling("run", write_study(), "--workdir", workdir)
    assert done.returncode == 0
    assert f"corrupt record {path}" in done.stderr
    assert len(list((workdir / "records" / "corrupt").glob("*"))) == 1
    assert substances(workdir) == before


def test_a_record_of_a_newer_version_is_neither_set_aside_nor_trained_over(
    write_study, tmp_path
):
    workdir = tmp_path / "w"
    scaling("run", write_study(), "--workdir", workdir)
    path = sorted((workdir / "records").glob("*.json"))[0]
    newer = json.dumps(json.loads(path.read_text()) | {"schema": 2})
    path.write_text(newer)
    done = scaling("run", write_study(), "--workdir", workdir)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert f"{path} was written by a newer version (schema 2;" in done.stderr
    assert path.read_text() == newer
    assert "was written by a newer version" in scaling("status", workdir).stdout


WRONG = {
    "family": ({"more": 'yield vary(run, {"model.family": ("rnn",)})[0]'}, "rnn"),
    "corpus": (
        {"more": 'yield vary(run, {"data.corpus": (corpus("kjw"),)})[0]'},
        "kjv",
    ),
    "size": ({"more": 'yield vary(run, {"model.size": (-1,)})[0]'}, "model.size"),
    "optimiser": ({"optimiser": "adamv"}, "known: adamw"),
    "field": ({"more": 'yield vary(run, {"data.token": (1,)})[0]'}, "did you mean"),
    "rate": ({"more": 'yield vary(run, {"optimiser.learning_rate": (0,)})[0]'}, "zero"),
    "budget": ({"more": 'yield vary(run, {"data.tokens": (10**7,)})[0]'}, "1,000,000"),
    "code": ({"more": "1 / 0"}, "line 16: ZeroDivisionError"),
    "yields": ({"more": "yield 3"}, "no Run"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_study_is_one_clear_line(write_study, tmp_path, case):
    changes, says = WRONG[case]
    done = scaling("run", write_study(**changes), "--workdir", tmp_path / "w")
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1 and says in done.stderr
    assert not list(Store(tmp_path / "w").records()[0])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("run", "nowhere.py"), "give the path of a Python file"),
        (("plan", __file__), "must define `study(results)`"),
        (("run", __file__, "--include", "mine.py"), "invalid include '"),
        (("status", "/nowhere"), "no study was run there"),
        (("watch", "/nowhere"), "no study was run there"),
        (("plan", __file__, "--count", "4"), "give the --target"),
        (("plan", __file__, "--target", "cpu", "--count", "0"), "1 or more"),
    ],
)
def test_a_wrong_argument_is_one_clear_line(arguments, says):
    done = scaling(*arguments)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert says in done.stderr


@pytest.mark.parametrize("workdir", ["a file/w", "/proc/w"])
def test_a_workdir_that_cannot_be_written_is_one_clear_line(
    write_study, tmp_path, workdir
):
    (tmp_path / "a file").write_text("in the way")
    done = scaling("run", write_study(), "--workdir", tmp_path / workdir)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "cannot write to" in done.stderr


def test_a_full_disk_is_one_clear_line(write_study, tmp_path):
    """Files may grow to 8 kB and no further: the plan of the study does not fit."""
    path = write_study(more="yield from vary(run, {'init_seed': range(1, 20)})")
    limited = ["bash", "-c", 'ulimit -f 8; trap "" XFSZ; exec "$@"', "-"]
    done = subprocess.run(
        [*limited, *command("run", path, "--workdir", tmp_path / "w")],
        env=environment() | {"PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert "File too large" in done.stderr and "cannot write to" in done.stderr


@pytest.mark.parametrize("arguments", [("--help",), ("status", "WORKDIR")])
def test_light_commands_import_nothing_heavy(arguments, write_study, tmp_path):
    Store(tmp_path).write_study("s", {"runs": [], "planned": {}, "provisional": 0})
    called = [str(tmp_path) if word == "WORKDIR" else word for word in arguments]
    script = (
        "import sys\n"
        "from scaling import main\n"
        "try:\n"
        f"    sys.argv = ['scaling', *{called!r}]; main.entry()\n"
        "finally:\n"
        "    heavy = {'jax', 'tensorflow_datasets', 'pandas', 'orbax'}\n"
        "    print('heavy:', sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True
    )
    assert done.returncode == 0 and "heavy: []" in done.stdout


def test_a_study_may_be_narrowed_to_families(write_study, tmp_path):
    path, workdir = write_study(), tmp_path / "w"
    more = 'yield vary(run, {"model.family": ("lstm",)})[0]'
    path = write_study(more=more)
    done = scaling("run", path, "--workdir", workdir, "--families", "lstm")
    assert done.returncode == 0, done.stderr
    assert [r.run["model.family"] for r in Store(workdir).records()[0]] == ["lstm"]
    scaling("run", path, "--workdir", workdir)
    scaling("run", path, "--workdir", workdir, "--families", "lstm")
    assert len(Store(workdir).studies()["little"]["runs"]) == 6
    wrong = scaling("run", path, "--workdir", workdir, "--families", "lstn")
    assert wrong.returncode == 2 and "did you mean 'lstm'" in wrong.stderr


def test_a_real_study_is_trained_and_goes_on_after_its_child_was_killed(
    write_study, tmp_path
):
    """The one test here with the real trainer, corpus and compiled programs."""
    path, workdir = write_study(), tmp_path / "w"
    text = Path(path).read_text().replace('"kjv", corpus("kjv")', "*KJV")
    Path(path).write_text(text + '\nKJV = ("kjv", corpus("kjv"), 2_048)\n')
    script = "from scaling import main; main.entry()"
    real = [sys.executable, "-c", script, "run", path]
    real += ["--workdir", str(workdir), "--data_dir", str(tmp_path / "data")]
    parent = subprocess.Popen(real, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: any((workdir / "records").glob("*.json")), 120)
    parent.kill()
    parent.communicate()
    kept = {r.run_id: r for r in Store(workdir).records()[0]}
    done = subprocess.run(real, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    records = {r.run_id: r for r in Store(workdir).records()[0]}
    assert len(records) == 5 and kept.items() <= records.items()
    assert all(
        r.status == "done" and r.reading("kjv").value > 0 for r in records.values()
    )
