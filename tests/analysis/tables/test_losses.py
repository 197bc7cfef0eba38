"""What a loss is, what it was read on, and what makes rows different experiments."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.questions import runs
from analysis.tables.load import from_frame
from scaling.errors import UserError


def grid(**more) -> pd.DataFrame:
    rows = [(n, d) for n in (1e7, 3e7, 1e8, 3e8) for d in (2e8, 6e8, 2e9, 6e9)]
    frame = pd.DataFrame(rows, columns=["N", "D"])
    frame["loss"] = 1.8 + 300 / frame.N**0.33 + 900 / frame.D**0.33
    return frame.assign(**more)


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("loss", "nats/token"),
        ("bpb", "bits/byte"),
        ("val_bpb", "bits/byte"),
        ("bits_per_byte", "bits/byte"),
        ("bpc", "bits/character"),
        ("loss (bits/byte)", "bits/byte"),
    ],
)
def test_the_unit_is_read_from_the_column(name, unit):
    frame = grid().rename(columns={"loss": name})
    assert from_frame(frame).unit == unit
    assert from_frame(frame, unit="bits/dim").unit == "bits/dim"


@pytest.mark.parametrize(("name", "given"), [("val_ppl", None), ("loss", "perplexity")])
def test_perplexities_become_nats(name, given):
    frame = grid()
    reported = frame.assign(loss=np.exp(frame.loss)).rename(columns={"loss": name})
    table = from_frame(reported, unit=given)
    np.testing.assert_allclose(table.readings.loss, frame.loss)
    assert table.unit == "nats/token"
    assert any("natural logarithm" in text for text in table.said)


def test_what_is_above_any_loss_in_nats_is_asked_about():
    frame = grid()
    with pytest.raises(UserError, match="--unit perplexity"):
        from_frame(frame.assign(loss=np.exp(frame.loss)))
    # One that was named is taken at the reader's word.
    assert from_frame(frame.assign(loss=30 * frame.loss), unit="nats/image")


def test_an_accuracy_is_no_loss():
    frame = grid()
    right = frame.assign(accuracy=1 - frame.loss / 12).drop(columns="loss")
    with pytest.raises(UserError, match="'loss=1 - accuracy' takes the error"):
        from_frame(right)
    with pytest.raises(UserError, match="higher is better"):
        from_frame(right, {"loss": "accuracy"})
    table = from_frame(right, {"loss": "1 - accuracy"})
    np.testing.assert_allclose(table.readings.loss, frame.loss / 12)
    assert table.unit == "error rate"
    # Whatever it is called, it rises with size and data.
    with pytest.raises(UserError, match="rises with size"):
        from_frame(frame.assign(loss=1 - frame.loss / 12))


def test_columns_of_several_units_are_refused():
    frame = grid().rename(columns={"loss": "loss:a"})
    frame["loss:bpb"] = frame["loss:a"] / 3
    with pytest.raises(UserError, match="a in nats/token, bpb in bits/byte"):
        from_frame(frame)


def test_flops_that_are_put_in_are_said():
    (text,) = from_frame(grid()).said
    assert "6 x parameters x tokens is put in" in text
    assert not from_frame(grid(flops=1e18)).said


def two_corpora() -> pd.DataFrame:
    both = pd.concat([grid(corpus="web"), grid(corpus="code")], ignore_index=True)
    return both.assign(loss=both.loss + 0.3 * (both.corpus == "code"))


def test_no_corpus_effect_until_it_is_said_what_the_losses_were_read_on():
    table = from_frame(two_corpora())
    assert table.targets == ("code", "web")
    of = table.readings.merge(table.runs[["run_id", "corpus"]])
    assert (of.target == of.corpus).all() and len(of) == 32
    (text,) = table.asked
    assert "--target shared" in text and "--target own" in text
    said = runs.of_table(table, table.exclusions)
    assert [note.text for note in said if note.kind == "asked"] == [text]
    own = from_frame(two_corpora(), target="own")
    assert own.targets == ("code", "web") and not own.asked
    shared = from_frame(two_corpora(), target="shared")
    assert shared.targets == ("loss",) and not shared.asked
    assert not from_frame(grid(corpus="web")).asked
    with pytest.raises(UserError, match="give own or shared"):
        from_frame(grid(), target="both")


def test_evaluation_sets_are_targets():
    read = pd.concat(
        [two_corpora().assign(eval_set=name) for name in ("c4", "ptb")],
        ignore_index=True,
    )
    table = from_frame(read)
    assert table.targets == ("c4", "ptb") and not table.asked
    assert table.readings.groupby("target").size().tolist() == [32, 32]


def test_rows_that_differ_in_an_unused_column_are_no_seeds():
    both = pd.concat([grid(context=c) for c in (512, 2048)], ignore_index=True)
    both["loss"] += 0.1 * (both.context == 512)
    both["wall_hours"] = np.linspace(1, 2, 32).round(1)
    table = from_frame(both)
    assert table.mapping["apart:context"] == "context"
    assert table.runs["apart:context"].nunique() == 2
    (text,) = table.warnings
    assert "context" in text and "not for seeds" in text and "--where" in text
    assert len(table.readings) == 16
    tuned = from_frame(both, {"setting:context": "context"})
    assert "setting:context" in tuned.runs and not tuned.warnings
    plain = from_frame(both, {"apart:context": ""})
    assert not [c for c in plain.runs if "context" in c] and not plain.warnings
    # Of seeds nothing is said, nor of what does not vary within a cell.
    seeds = pd.concat([grid(seed=s) for s in (0, 1)]).assign(depth=lambda f: f.N / 1e6)
    seeds["loss"] += 0.01 * seeds.seed
    assert not from_frame(seeds).warnings
