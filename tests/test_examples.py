"""The files in examples/ work as users would run them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import analysis
from scaling import families, plugins

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
BIN = Path(sys.executable).parent


@pytest.fixture
def window(monkeypatch):
    """The example family, included as a user would."""
    monkeypatch.setattr(plugins, "_included", {})
    plugins.include(str(EXAMPLES / "window.py"))
    return families.load("window")


def test_the_family_is_a_family(window):
    assert "window" in families.names()
    spec = families.Tokens(257, 32)
    sizes = [window.params(window.ladder(n, spec)) for n in (8_000, 72_000, 10**9)]
    np.testing.assert_allclose(sizes, (8_000, 72_000, 10**9), rtol=0.1)
    config = window.ladder(8_000, spec)
    build = lambda: window.Model(config, spec, nnx.Rngs(jax.random.key(0)))
    model = build()
    ids = jnp.arange(32)[None]
    y = model(ids).y
    late = model(ids.at[0, 20].set(200)).y
    np.testing.assert_array_equal(y[0, :20], late[0, :20])
    assert not np.array_equal(y[0, 20], late[0, 20])


def test_the_family_trains(window, made, tmp_path):
    from tests.scaling.training.test_trainer import curve, trained

    (record,) = trained(made, [made.run("window")], tmp_path / "work")
    losses = curve(record, tmp_path / "work")
    assert losses[-1] < losses[0] - 0.5
    assert record.flops_xla == pytest.approx(record.flops, rel=0.05)


def command(folder: Path, *arguments: str) -> str:
    """What a command prints, run in `folder` as a user would type it."""
    name, *rest = arguments
    call = [str(BIN / name), *rest]
    env = os.environ | {"XLA_FLAGS": ""}
    done = subprocess.run(call, cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_own_family_corpus_law_and_question_end_in_a_report(tmp_path):
    """Only relative paths, in a folder that has nothing but the examples."""
    for path in EXAMPLES.glob("*.py"):
        (tmp_path / path.name).write_text(path.read_text())
    included = ("--include", "window.py", "--include", "stdlib.py")
    places = ("--workdir", "runs/little", "--data_dir", "data")
    run = ("scaling", "run", "little_study.py", *places, *included)
    assert "24 of 24 runs are done" in command(tmp_path, *run)
    law = ("--law", "log_linear", "--include", "log_linear.py", "--draws", "40")
    fitted = command(tmp_path, "scaling-analysis", "fit", "runs/little", *law)
    assert "window stdlib stdlib log_linear" in fitted
    report = ("scaling-analysis", "report", "runs/little", "--draws", "40")
    included = ("--include", "log_linear.py", "--include", "straight_line.py")
    printed = command(tmp_path, *report, *included)
    assert "window → ngram on stdlib is worth" in printed
    folder = tmp_path / "runs/little/report"
    page = (folder / "report.html").read_text()
    assert "window → ngram on stdlib" in page
    assert "Straight lines against Chinchilla" in page
    assert "Straight lines miss the losses of window on stdlib by " in page
    assert "Errors of the two laws, by family" in page
    body = json.loads((folder / "report.json").read_text())
    assert set(body["frames"]["straightness"]["law"]) == {"log_linear", "chinchilla"}
    # Where the file of the question is not included, its frame can still be read.
    frame = analysis.read(folder / "report.json").to_frame("straightness")
    assert set(frame.family) == {"window", "ngram"} and (frame.error > 0).all()


def test_contributing_shows_the_question():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    question = (EXAMPLES / "straight_line.py").read_text()
    assert f"```python\n{question}```" in text
    assert question.count("\n") < 80


def test_the_notebook_finds_the_planted_multiplier(tmp_path):
    reported = command(tmp_path, "python", str(EXAMPLES / "own_table.py"))
    factors = [
        float(line.split()[3]) for line in reported.splitlines() if "lstm  tr" in line
    ]
    assert factors and all(1.5 < factor < 2.5 for factor in factors)
