"""The command and the Python interface, on tables that somebody else measured."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

import analysis
from analysis import laws, main
from scaling.errors import UserError

BETA, ALPHA = 0.28, 0.34


def runs(families=("a", "b"), corpora=("web", "code"), sizes=4, budgets=4):
    """Tables whose data multipliers are 1 and 2 by family, 1 and 1.5 by corpus."""
    rows = [
        {"N": n, "D": d, "arch": family, "dataset": corpus, "rng": 1}
        for family in families
        for corpus in corpora
        for n in np.geomspace(1e6, 64e6, sizes)
        for d in np.geomspace(1e8, 64e8, budgets)
    ]
    frame = pd.DataFrame(rows)
    gain = frame.arch.map({"a": 1.0, "b": 2.0}) * frame.dataset.map(
        {"web": 1.0, "code": 1.5}
    )
    noise = np.exp(np.random.default_rng(0).normal(0, 0.001, len(frame)))
    loss = 1.7 + 300 * frame.N**-ALPHA + 400 * (gain * frame.D) ** -BETA
    return frame.assign(val_loss=loss * noise)


def command(*arguments: str) -> int:
    return main.main(main.parse(["scaling-analysis", *arguments]))


@pytest.fixture
def table(tmp_path):
    runs().to_csv(tmp_path / "runs.csv", index=False)
    return str(tmp_path / "runs.csv")


def test_importing_the_package_is_quick():
    """No pandas before it is asked for."""
    code = "import sys, analysis.main; assert 'pandas' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_exported_name_is_there():
    assert all(hasattr(analysis, name) for name in analysis.__all__)
    assert set(analysis.__all__) == set(analysis.HOMES)
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        _ = analysis.lode


def test_the_mapping_units_and_exclusions_are_printed(tmp_path, capsys):
    bad = runs(("a",), ("web",))
    bad.loc[2, "val_loss"] = -1.0
    bad.to_csv(tmp_path / "t.csv", index=False)
    path = str(tmp_path / "t.csv")
    asked = ("--law", "chinchilla", "--draws", "40", "--unit", "bits/byte")
    assert command("fit", path, *asked, "--map", "seed=rng") == main.DONE
    said = capsys.readouterr().out
    assert "columns: seed=rng, params=N, tokens=D, loss=val_loss, family=arch" in said
    assert "losses in bits/byte" in said
    assert "rows: 16, of which 15 have a loss that can be used" in said
    assert "left out: loss is negative: row 3" in said.replace(" on loss", "")


def test_fit_prints_json_at_full_precision(table, capsys):
    asked = ("--law", "chinchilla", "--draws", "40")
    assert command("fit", table, *asked, "--json") == main.DONE
    body = json.loads(capsys.readouterr().out)
    fits = pd.DataFrame(body["fits"])
    again = analysis.fit_law(analysis.load(table), "chinchilla", draws=40)
    assert fits.value.tolist() == again.parameters.value.tolist()
    assert set(fits.family) == {"a", "b"} and set(fits.corpus) == {"web", "code"}
    frames = {"fits", "quality", "counts", "excluded", "exclusions"}
    assert set(body) == {"answer"} | frames


def test_the_curve_is_predicted_with_its_interval(table):
    fit = analysis.fit_law(analysis.load(table, target="shared"), "joint", draws=60)
    at = fit.predict(params=8e6, tokens=8e8).set_index(["family", "corpus"])
    truth = 1.7 + 300 * 8e6**-ALPHA + 400 * (3.0 * 8e8) ** -BETA
    row = at.loc["b", "code"]
    assert row.loss == pytest.approx(truth, rel=2e-3)
    assert row.low < row.loss < row.high
    with pytest.raises(UserError, match="tokens"):
        fit.predict(params=8e6, tokens=0.0)


@pytest.mark.parametrize("law", laws.names())
def test_every_law_can_be_asked_for(law, capsys, tmp_path):
    """Each gives numbers, or says why this table cannot."""
    frame = runs(("a",), ("web",), sizes=5, budgets=5)
    frame.to_csv(tmp_path / "t.csv", index=False)
    code = command(
        *("fit", str(tmp_path / "t.csv"), "--law", law, "--draws", "40", "--json")
    )
    body = json.loads(capsys.readouterr().out)
    if code == main.DONE:
        assert body["fits"]["value"]
    else:
        assert code == main.NOTHING and "is refused" in body["answer"][0]


@pytest.mark.parametrize("command_", ["fit", "compare", "report"])
def test_a_design_that_gives_no_law_is_exit_3(tmp_path, capsys, command_):
    """Three runs for five parameters: every word says why, no number is made up."""
    path = tmp_path / "few.csv"
    runs(("a",), ("web",)).head(3).to_csv(path, index=False)
    more = ("--out", str(tmp_path / "out")) if command_ == "report" else ()
    assert command(command_, str(path), "--draws", "40", *more) == main.NOTHING
    said = capsys.readouterr()
    assert "cannot be fitted" in said.out or "No law could be fitted" in said.out
    assert "nan" not in said.out and "–" not in said.out


@pytest.mark.parametrize(
    ("families", "corpora"), [(("a",), ("web", "code")), (("a", "b"), ("web",))]
)
def test_one_family_or_one_corpus_is_compared_as_far_as_it_goes(
    tmp_path, capsys, families, corpora
):
    runs(families, corpora).to_csv(tmp_path / "t.csv", index=False)
    asked = ("compare", str(tmp_path / "t.csv"), "--draws", "40", "--json")
    asked += ("--target", "shared")
    assert command(*asked) == main.DONE
    body = json.loads(capsys.readouterr().out)
    kind = "corpus" if len(families) == 1 else "architecture"
    assert set(body["equivalents"]["kind"]) == {kind}
    assert not body["ratios"].get("lambda")


def test_the_bootstrap_is_chosen_on_the_command_line(table, capsys):
    asked = ("fit", table, "--law", "chinchilla", "--draws", "40", "--json")
    found = {}
    for scheme in ("wild", "pairs"):
        assert command(*asked, "--bootstrap", scheme) == main.DONE
        found[scheme] = json.loads(capsys.readouterr().out)["fits"]
    assert found["wild"]["value"] == found["pairs"]["value"]
    assert found["wild"]["low"] != found["pairs"]["low"]
    assert command(*asked, "--bootstrap", "jackknife") == main.WRONG
    said = capsys.readouterr().err
    assert "bootstrap" in said and "wild, pairs" in said


# Two runs that differ in everything, and each alone in its first and last words.
GAP = ("arch=a,corpus=web,params=1e6,tokens=1e8", "family=b,dataset=code,N=64e6,D=64e8")


def test_a_gap_is_attributed_between_two_named_runs(table, capsys):
    asked = ("compare", table, "--draws", "40", "--json", "--target", "shared")
    assert command(*asked, "--from", GAP[0], "--to", GAP[1]) == main.DONE
    body = json.loads(capsys.readouterr().out)
    found = pd.DataFrame(body["attribution"]).set_index("factor")
    measured = runs().val_loss
    assert found.nats["total"] == pytest.approx(measured.iloc[-1] - measured.iloc[0])
    assert found.nats.drop("total").sum() == pytest.approx(found.nats["total"])
    assert (found.nats[["architecture", "corpus", "params", "tokens"]] < 0).all()
    assert set(found.baseline) == {"row 1"} and set(found.alternative) == {
        f"row {len(runs())}"
    }
    assert "tokens" in body["answer"][0] and "architecture" in body["answer"][0]


def test_a_gap_is_attributed_in_words(table, capsys):
    last = f"row {len(runs())}"
    asked = ("--target", "shared", "--from", "row 1", "--to", last)
    assert command("compare", table, *asked) == main.DONE
    said = capsys.readouterr().out
    assert f"On loss, {last} less row 1 is" in said and "unexplained" in said


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("--from", "row 1"), "no value for to: "),
        (("--from", "row", "--to", "row 2"), "64 runs fit"),
        (("--from", "xyz", "--to", "row 2"), "no run fits"),
        (("--from", "arch=a", "--to", "row 2"), "32 runs fit"),
        (("--from", "colour=red", "--to", "row 2"), "column=value"),
        (("--from", "tokens=many", "--to", "row 2"), "a number for tokens"),
    ],
)
def test_runs_that_cannot_be_told_are_one_clear_line(table, capsys, asked, said):
    assert command("compare", table, "--target", "shared", *asked) == main.WRONG
    line = capsys.readouterr().err
    assert said in line and line.count("\n") == 1 and "Traceback" not in line


def test_help_documents_the_exit_codes(capsys):
    with pytest.raises(SystemExit):
        main.parse(["scaling-analysis", "fit", "--help"])
    said = capsys.readouterr().out
    assert "exit codes: 0 done; 2 wrong" in " ".join(said.split())


def test_many_rows_are_all_accounted_for():
    """A row a run, some of them unusable, every one of them accounted for."""
    rows = 200_000
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "N": rng.uniform(1e6, 1e9, rows),
            "D": rng.uniform(1e8, 1e11, rows),
            "loss": rng.normal(3, 1, rows),
        }
    )
    table = analysis.from_frame(frame, rows=rows, target="shared")
    assert len(table.readings) + len(table.exclusions) == rows
    assert (table.exclusions.reason == "loss is negative").all()
    assert len(table.exclusions) == (frame.loss < 0).sum() > 0
