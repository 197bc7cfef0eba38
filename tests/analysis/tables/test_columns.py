"""What is guessed of a table's columns, what is said of it, and what costs a row."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from analysis import main
from analysis.command_line import mapping
from analysis.questions import equivalents
from analysis.tables import nested, usable
from analysis.tables.load import from_frame, load
from scaling.errors import UserError

SIZES = {"11M": 1.1e7, "34M": 3.4e7, "105M": 1.05e8, "320M": 3.2e8}
BUDGETS = (2.1e8, 6.3e8, 1.9e9, 5.7e9)


def grid(**more) -> pd.DataFrame:
    rows = [(label, n, d) for label, n in SIZES.items() for d in BUDGETS]
    frame = pd.DataFrame(rows, columns=["label", "N", "D"])
    loss = 1.8 + 300 / frame.N**0.33 + 900 / frame.D**0.33
    noise = np.exp(np.random.default_rng(5).normal(0, 0.002, len(frame)))
    return frame[["N", "D"]].assign(loss=loss * noise, **more)


LABELS = [label for label in SIZES for _ in BUDGETS]


@pytest.mark.parametrize(
    ("column", "cells", "ours"),
    [
        ("size", ["tiny", "small", "medium", "large"] * 4, "size"),
        ("size", LABELS, "size"),
        ("C", "1xC", "flops"),
        ("lr", "3e-4 to 3e-5", "learning_rate"),
        ("quality", 87.0, "quality"),
        ("model", [f"net-{label}" for label in LABELS], "family"),
        ("model", [f"run-{i}" for i in range(16)], "family"),
        ("data", BUDGETS * 4, "corpus"),
        ("status", "published", "status"),
    ],
)
def test_a_guess_of_the_wrong_kind_costs_no_row(column, cells, ours):
    table = from_frame(grid(**{column: cells}))
    assert len(table.readings) == 16 and table.exclusions.empty
    assert ours not in table.mapping
    (text,) = table.warnings
    assert column in text and f"--map {ours}={column}" in text
    # Unmapped it is not looked at.
    assert not from_frame(grid(**{column: cells}), {ours: ""}).warnings


def test_a_family_whose_values_share_sizes_is_one():
    twice = pd.concat([grid(model="a"), grid(model="b")])
    twice["loss"] += 0.1 * (twice.model == "b")
    assert from_frame(twice).mapping["family"] == "model"
    # A column that names the size gives way to the next that is of the right kind.
    twice["architecture"] = LABELS * 2
    table = from_frame(twice)
    assert table.mapping["family"] == "model"
    assert "architecture names the size" in table.warnings[0]


def test_of_several_candidates_the_one_of_the_right_kind_is_taken():
    table = from_frame(grid().rename(columns={"D": "d"}).assign(tokens="a few"))
    assert table.mapping["tokens"] == "d"
    assert from_frame(grid(n="many")).mapping["params"] == "N"


def test_a_bad_cell_of_a_guessed_column_counts_as_missing():
    odd = grid(lr=1e-3, C=1e18).astype({"lr": object})
    odd.loc[3, "lr"], odd.loc[5, "C"] = "high", 0.0
    table = from_frame(odd)
    assert len(table.readings) == 16
    assert np.isnan(table.runs.learning_rate[3])
    assert table.runs.flops[5] == 6 * odd.N[5] * odd.D[5]
    assert len(table.warnings) == 2 and "(row 6)" in table.warnings[0]
    # Where the reader named it, such a row is left out and listed.
    named = from_frame(odd, {"learning_rate": "lr", "flops": "C"})
    assert dict(zip(named.exclusions.run_id, named.exclusions.reason, strict=True)) == {
        "row 4": "learning_rate is not a number: 'high'",
        "row 6": "flops is not above zero",
    }


@pytest.mark.parametrize(
    ("condition", "kept"),
    [
        ("split == b", 8),
        ("split != b", 8),
        ("lr <= .001", 4),
        ("lr < 0.001", 0),
        ("split in a, b", 16),
        ("'split' in ('b')", 8),
        ("good == no", 4),
        ("good == 0", 4),
        ("N >= 1.05e8", 8),
    ],
)
def test_conditions_keep_rows_and_list_the_others(condition, kept):
    frame = grid(split=["a", "b"] * 8, lr=[1e-3, 2e-3, 3e-3, 4e-3] * 4)
    frame["good"] = ["yes"] * 12 + ["no"] * 4
    if not kept:
        with pytest.raises(UserError, match="a condition that some row meets"):
            from_frame(frame, where=[condition])
        return
    table = from_frame(frame, where=[condition])
    assert len(table.readings) == kept
    assert set(table.exclusions.reason) <= {f"not kept by --where {condition}"}
    assert len(table.exclusions) == 16 - kept


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("splt == a", "did you mean 'split'"),
        ("split == c", "no row's split is 'c'; it has a, b"),
        ("split < a", "a number behind <"),
        ("split < 3", "holds none"),
        ("split = a", "COLUMN == VALUE"),
        ("__import__('os')", "COLUMN == VALUE"),
    ],
)
def test_a_wrong_condition_is_one_line(condition, expected):
    with pytest.raises(UserError, match=expected) as refused:
        from_frame(grid(split=["a", "b"] * 8), where=[condition])
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("values", [(1, 0), (True, False), ("yes", "no"), (1.0, 0.0)])
def test_flags_are_named_and_a_diverged_one_is_the_status(values):
    yes, no = values
    cells = [no] * 14 + [yes] * 2
    table = from_frame(grid(outlier=cells))
    assert len(table.readings) == 16
    (text,) = table.warnings
    assert "outlier marks 2 rows" in text
    condition = f"outlier == {no}"
    assert f"--where '{condition}'" in text
    assert len(from_frame(grid(outlier=cells), where=[condition]).readings) == 14
    assert not from_frame(grid(outlier=cells), where=[condition]).warnings
    diverged = from_frame(grid(diverged=cells))
    assert diverged.mapping["status"] == "diverged"
    assert diverged.exclusions.reason.tolist() == ["status is diverged"] * 2
    assert len(from_frame(grid(diverged=cells), {"status": ""}).readings) == 16


def test_states_of_runs():
    states = ["finished"] * 14 + ["crashed"] * 2
    (text,) = from_frame(grid(state=states)).warnings
    assert "finished, crashed" in text and "--where 'state == finished'" in text
    left = from_frame(grid(status=states)).exclusions
    assert left.reason.tolist() == ["status is crashed"] * 2


def test_the_command_unmaps_and_keeps_rows(tmp_path, capsys):
    path = str(tmp_path / "t.csv")
    grid(size="tiny", outlier=[0] * 15 + [1]).to_csv(path, index=False)
    asked = ["fit", path, "--law", "chinchilla", "--draws", "40"]
    asked += ["--map", "size=", "--where", "outlier == 0"]
    assert main.main(main.parse(["scaling-analysis", *asked])) == main.DONE
    said = capsys.readouterr()
    assert "rows: 16, of which 15 " in said.out
    assert "left out: not kept by --where outlier == 0: row 16" in said.out
    assert said.err == ""


@pytest.mark.parametrize(
    "names",
    [
        ("# params", "Training tokens", "Test loss"),
        ("non-embedding params", "train-tokens", "final val loss"),
        ("Param count", "Tokens seen", "val-loss"),
        ("params_M", "tokens_B", "loss"),
        ("n_params_millions", "train_tokens_bn", "loss"),
    ],
)
def test_names_as_people_write_them(names):
    frame = grid()
    for power, ends in ((6, ("_M", "_millions")), (9, ("_B", "_bn"))):
        for place, name in zip(("N", "D"), names, strict=False):
            if name.endswith(ends):
                frame[place] /= 10**power
    table = from_frame(frame.set_axis(names, axis=1))
    np.testing.assert_allclose(table.runs.params, grid().N)
    np.testing.assert_allclose(table.runs.tokens, grid().D)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["x", "D", "loss"], "no value for map params: say --map params=COLUMN"),
        (["N", "C", "loss"], "--map tokens=C/6/N computes it"),
        (["N", "D", "goodness"], "say --map loss=COLUMN"),
    ],
)
def test_a_column_that_is_not_found_is_asked_for(names, expected):
    with pytest.raises(UserError, match=expected):
        from_frame(grid().set_axis(names, axis=1))


def test_several_losses_without_a_usual_name_are_targets():
    frame = grid().rename(columns={"loss": "loss_c4"})
    frame["loss_pile"] = frame.loss_c4 * 1.05
    with pytest.raises(UserError, match="--map loss:loss_c4=loss_c4,loss:loss_pile="):
        from_frame(frame)


def test_text_that_makes_rows_differ_may_be_the_family():
    twice = pd.concat([grid(kind="a"), grid(kind="b")])
    (text,) = from_frame(twice).warnings
    assert "--map family=kind compares its values" in text
    assert "family=size" not in from_frame(grid(size="x")).warnings[0]


def test_a_target_whose_rows_are_all_left_out_is_none():
    both = pd.concat([grid(eval_set="first", part="a"), grid(eval_set="z", part="b")])
    table = from_frame(both, where=["part == b"])
    assert table.targets == ("z",) and len(table.exclusions) == 16
    # A column without a number is a target that nothing was read on.
    frame = grid(**{"loss:empty": np.nan}).rename(columns={"loss": "loss:full"})
    table = from_frame(frame)
    assert table.targets == ("full",)
    assert "no row has a loss that can be used on empty" in table.warnings


def test_what_a_comparison_lacks_is_said():
    text = equivalents.nothing(1, 1)
    assert text.endswith(
        "the table has one family and one corpus, and a comparison needs two."
    )
    assert "one corpus" not in equivalents.nothing(1, 3)
    assert (
        equivalents.nothing(2, 2)
        == "Whether architecture or data matters more is undetermined on this grid."
    )


def test_doubling_is_compared_with_what_there_is():
    row = dict(target="t", params=1e8, tokens=1e9, gain=0.2, low=0.1, high=0.3)
    rows = [
        row | dict(family="f", corpus=c, gain=g) for c, g in (("a", 0.2), ("b", 0.3))
    ]
    said = equivalents.doubling_sentence(pd.DataFrame(rows), "t", "nats/token")
    assert said.endswith("the most of all corpora.")


def test_cells_of_records_are_opened_where_nothing_is_left_out():
    frame = pd.DataFrame({"id": ["r"], "config": ['{"model": {"params": 5}}']})
    opened, _ = nested.opened(frame)
    assert list(opened.columns) == ["id", "config.model.params"]


@pytest.mark.parametrize(
    "names",
    [
        ("Number of parameters", "Total no. of tokens", "Final Validation Loss"),
        ("# Params", "training-tokens", "val_loss_c4"),
        ("non_emb_params", "tokens trained", "Perplexity ↓"),
        ("cfg.model.n_params.value", "summary.tokens", "Test Cross-Entropy Loss"),
    ],
)
def test_more_names_as_people_write_them(names):
    frame = grid()
    if "Perplexity" in names[2]:
        frame["loss"] = np.exp(frame.loss)
    table = from_frame(frame.set_axis(names, axis=1))
    np.testing.assert_allclose(table.readings.loss, grid().loss)


def test_a_held_out_loss_is_preferred():
    frame = grid().assign(val_loss=grid().loss + 0.1, train_loss=1.0)
    assert from_frame(frame).mapping["loss"] == "val_loss"


@pytest.mark.parametrize(
    ("made", "formula"),
    [
        ({"steps": 1, "batch_size": 64, "seq_len": 1024}, "steps*batch_size*seq_len"),
        ({"train steps": 1, "tokens_per_batch": 65536}, "train steps*tokens_per_batch"),
        ({"flops": 6}, "flops/6/N"),
        ({"tokens_per_param": 0}, "N*tokens_per_param"),
    ],
)
def test_what_is_missing_is_made_of_other_columns(made, formula):
    frame = grid()
    frame["D"] = frame.D.round(-6) // 65536 * 65536
    columns = dict(made)
    for name, value in made.items():
        if "steps" in name:
            columns[name] = frame.D / 65536
        if name == "flops":
            columns[name] = 6 * frame.N * frame.D
        if value == 0:
            columns[name] = frame.D / frame.N
    other = frame.assign(**columns).drop(columns="D")
    with pytest.raises(UserError, match=re.escape(f"--map tokens={formula}")):
        from_frame(other)
    table = from_frame(other, {"tokens": formula})
    np.testing.assert_allclose(table.runs.tokens, frame.D)
    np.testing.assert_allclose(
        from_frame(frame.assign(w=3.0, l=2), {"params": "12*l*w^2*N/216"}).runs.params,
        frame.N,
    )
    with pytest.raises(UserError, match="map tokens 'step'"):
        from_frame(other, {"tokens": f"step*{formula}"})


def test_names_that_differ_in_case_or_spaces_are_one():
    frame = pd.concat(
        [grid(arch=name) for name in ("LSTM", " lstm ", "GPT-2", "gpt 2")]
    )
    frame["loss"] += np.arange(len(frame)) * 1e-4
    table = from_frame(frame)
    assert set(table.runs.family) == {"LSTM", "GPT-2"}
    assert sum("is read as" in text for text in table.warnings) == 2


def test_runs_of_several_epochs_are_no_seeds_of_runs_of_one():
    frame = pd.concat([grid(epochs=1), grid(epochs=4)], ignore_index=True)
    frame.loc[frame.epochs == 4, "loss"] *= 1.02
    table = from_frame(frame)
    assert len(table.readings) == 16
    (text,) = table.warnings
    assert "--map unique_tokens=D/epochs says that D were seen in epochs" in text
    other = from_frame(frame, {"unique_tokens": "D/epochs"})
    assert len(other.readings) == 32 and set(other.runs.epochs) == {1, 4}


def test_models_named_one_by_one_are_no_families():
    frame = pd.concat([grid(model=f) for f in ("a", "b")], ignore_index=True)
    frame["loss"] *= 1 + 0.1 * (frame.model == "b")
    frame["model"] += "-" + frame.N.map("{:g}".format)
    (text,) = from_frame(frame).warnings
    assert "each value of model has one size" in text


def test_a_state_that_is_used_is_not_said_to_be_kept(tmp_path):
    frame = grid(Name="x", State=["finished"] * 15 + ["crashed"])
    frame.to_csv(tmp_path / "w.csv", index=False)
    table = load(tmp_path / "w.csv")
    assert len(table.readings) == 15 and not table.warnings


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a=b,c=", {"a": "b", "c": ""}),
        ('loss="val loss, x=1",a=b', {"loss": "val loss, x=1", "a": "b"}),
        ("loss=1 - acc , ", {"loss": "1 - acc"}),
        ('apart:"a,b"=x', None),
        ('"apart:a,b"="a,b"', {"apart:a,b": "a,b"}),
    ],
)
def test_a_mapping_as_it_is_typed(text, found):
    if found is None:
        with pytest.raises(UserError, match="ours=theirs"):
            mapping(text)
    else:
        assert mapping(text) == found


def test_flags_with_blank_cells_and_states_of_several_words():
    frame = grid(excluded=["yes" if i % 4 == 0 else "" for i in range(16)])
    (text,) = from_frame(frame.replace("", None)).warnings
    option = re.search(r"--where '(.*?)'", text)[1]
    assert len(from_frame(frame.replace("", None), where=[option]).readings) == 12
    states = ["ok"] * 13 + ["NaN loss", "OOM", "diverged at step 200"]
    table = from_frame(grid(status=states))
    assert len(table.readings) == 13 and not table.warnings
    assert "status is diverged at step 200" in set(table.exclusions.reason)


def test_a_loss_that_rises_is_said_or_refused():
    (text,) = from_frame(grid().assign(loss=6 - grid().loss)).warnings
    assert "rises with size and data" in text
    for scale in (1, 100):
        frame = grid().assign(loss=scale * (1 - grid().loss / 8))
        with pytest.raises(UserError, match=f"'loss={scale} - loss'"):
            from_frame(frame)


def test_flops_in_mixed_units_are_said():
    flops = 6 * grid().N * grid().D * np.where(np.arange(16) % 2, 1, 1e9)
    (text,) = from_frame(grid(flops=flops)).warnings
    assert "units look mixed" in text
    assert not from_frame(grid(flops=6 * grid().N * grid().D)).warnings
    # Those of a workdir are our own counts, and n-grams need next to none.
    runs = from_frame(grid(flops=flops)).runs
    assert usable._unit_warnings(runs, foreign=True) == (text,)
    assert not usable._unit_warnings(runs, foreign=False)


def test_a_negative_seed_is_one_line(tmp_path, capsys):
    grid().to_csv(tmp_path / "runs.csv", index=False)
    line = ["scaling-analysis", "fit", str(tmp_path / "runs.csv"), "--seed", "-1"]
    assert main.main(main.parse(line)) == 2
    assert (
        capsys.readouterr().err == "scaling-analysis: invalid seed -1: give 0 or more\n"
    )
