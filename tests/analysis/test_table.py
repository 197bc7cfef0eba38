"""Tables: what is read, what is left out and why, and what is refused."""

import io
import itertools
import json

import numpy as np
import pandas as pd
import pytest

from analysis.tables import workdir
from analysis.tables.guesses import guess_mapping
from analysis.tables.load import from_frame, load
from scaling.errors import UserError
from scaling.record import Attempt, Reading, Record
from scaling.run import (
    Data,
    EvaluationSet,
    Model,
    Optimiser,
    Part,
    Run,
    options,
)
from scaling.store import Store


def frame(rows: int = 6) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "N": np.geomspace(1e6, 1e8, rows),
            "D": np.geomspace(1e8, 1e10, rows),
            "val_loss": np.linspace(4.0, 3.0, rows),
            "arch": "mlp",
        }
    )


def test_columns_are_guessed_and_the_rest_filled_in():
    table = from_frame(frame())
    assert table.mapping == {
        "params": "N",
        "tokens": "D",
        "loss": "val_loss",
        "family": "arch",
    }
    assert table.targets == ("loss",)
    assert (table.runs.family == "mlp").all() and (table.runs.corpus == "all").all()
    assert (table.runs.unique_tokens == table.runs.tokens).all()
    np.testing.assert_allclose(
        table.runs.flops, 6 * table.runs.params * table.runs.tokens
    )
    assert table.runs.trajectory.is_unique
    assert table.exclusions.empty


def test_several_losses_are_several_targets():
    wide = frame().rename(columns={"val_loss": "loss:code"})
    wide["loss:prose"] = wide["loss:code"] + 1.0
    assert from_frame(wide).targets == ("code", "prose")
    mapped = from_frame(frame(), {"loss:web": "val_loss"})
    assert mapped.targets == ("web",)
    assert mapped.readings.target.unique().tolist() == ["web"]


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("val_loss", np.nan, "loss is missing or NaN"),
        ("val_loss", 0.0, "loss is zero"),
        ("val_loss", -1.0, "loss is negative"),
        ("val_loss", np.inf, "loss is infinite"),
        ("N", np.nan, "params is missing"),
        ("N", -5.0, "params is not above zero"),
        ("D", 0.0, "tokens is not above zero"),
        ("D", np.inf, "tokens is not finite"),
        ("status", "diverged", "status is diverged"),
        ("status", "provisional", "status is provisional"),
        ("val_loss", "oops", "loss is not a number: 'oops'"),
        ("D", "3 bananas", "tokens is not a number: '3 bananas'"),
    ],
)
def test_every_row_left_out_is_listed_with_its_reason(column, value, reason):
    more = {"flops": 1e18, "size": 1e6, "learning_rate": 1e-3}
    bad = frame().assign(status="done", **more).astype({column: object})
    bad.loc[2, column] = value
    table = from_frame(bad)
    assert table.exclusions.run_id.tolist() == ["row 3"]
    assert table.exclusions.reason.tolist() == [reason]
    assert "row 3" not in set(table.readings.run_id)
    assert len(table.runs) == 6 and len(table.readings) == 5


def test_duplicates_are_left_out_and_listed():
    twice = pd.concat([frame(), frame().iloc[[1]]], ignore_index=True)
    table = from_frame(twice)
    assert table.exclusions.run_id.tolist() == ["row 7"]
    assert table.exclusions.reason.tolist() == ["duplicate of an earlier row"]


def test_counts_in_billions_are_warned_of():
    table = from_frame(frame().assign(D=np.linspace(1.0, 100.0, 6)))
    assert len(table.warnings) == 1 and "tokens" in table.warnings[0]


def write(path, text: bytes) -> str:
    path.write_bytes(text)
    return str(path)


def test_wrong_files_raise_a_user_error(tmp_path):
    parquet = io.BytesIO()
    frame().to_parquet(parquet)
    header = ",".join(f"c{i}" for i in range(10_001)).encode()
    cases = {
        "empty.csv": (b"", "empty"),
        "headers.csv": (b"N,D,loss\n", "at least one row"),
        "binary.csv": (parquet.getvalue()[:-9], "Parquet"),
        "text.parquet": (b"PAR1N,D,loss\n1,2,3\n", "a Parquet file"),
        "wide.csv": (header + b"\n", "at most 10000 columns"),
        "other.csv": (b"x,y\n1,2\n", "say --map params=COLUMN"),
        "bad.csv": (b"N,D,loss\n1,2,-3\n1,2,nan\n", "no row can be used"),
    }
    for name, (text, expected) in cases.items():
        with pytest.raises(UserError, match=expected):
            load(write(tmp_path / name, text))
    with pytest.raises(UserError, match="no such file"):
        load(tmp_path / "absent.csv")
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match="workdir"):
        load(tmp_path / "none")


def test_wrong_mappings_raise_a_user_error():
    columns = frame()[["N", "D"]].assign(loss=3.0)
    with pytest.raises(UserError, match="did you mean 'loss'"):
        guess_mapping(columns, {"loss": "los"})
    with pytest.raises(UserError, match="tokens"):
        guess_mapping(columns, {"token": "D"})
    with pytest.raises(UserError, match="only once"):
        guess_mapping(columns.set_axis(["N", "N", "loss"], axis=1))


def test_csv_parquet_and_jsonl_read_alike(tmp_path):
    frame().to_csv(tmp_path / "t.csv", index=False)
    frame().to_parquet(tmp_path / "t.parquet")
    frame().to_json(tmp_path / "t.jsonl", orient="records", lines=True)
    tables = [load(tmp_path / f"t.{kind}") for kind in ("csv", "parquet", "jsonl")]
    for table in tables[1:]:
        pd.testing.assert_frame_equal(table.readings, tables[0].readings)
        pd.testing.assert_frame_equal(table.runs, tables[0].runs, check_dtype=False)


PROSE = EvaluationSet("prose", (Part("kjv"),), tokens=4096)
KJV = "kjv:4096"  # what the documents of that part are kept under


def record(run_id="r1", status="done", loss=2.5, **data) -> Record:
    run = Run(
        model=Model("lstm", 8000),
        data=Data(**({"corpus": (Part("code"),), "tokens": 6400} | data)),
        optimiser=Optimiser(1e-3),
        batch=4,
        length=16,
        evaluation=(PROSE,),
    )
    final = Reading("prose", "loss", "final", loss, 0.01, "nats/token", 100, 100)
    best = Reading("prose", "loss", "best", 1.0, 0.01, "nats/token", 100, 50)
    bits = Reading("prose", "bits_per_byte", "final", 3.6, 0.01, "bits/byte", 100, 100)
    return Record(
        run_id=run_id,
        status=status,
        run=json.loads(json.dumps(run.flat())),
        digests={},
        trajectory=run_id,
        params_total=10_000,
        params_active=10_000,
        params_embedding=2_000,
        steps=run.steps,
        tokens=run.tokens,
        unique_tokens=run.unique_tokens,
        epochs=1.0,
        flops=1e9,
        flops_xla=None,
        flops_xla_reason="scan",
        readings=(final, best, bits),
        artifacts=(),
        attempt=1,
        layout={},
        wall_seconds=1.0,
        finished="",
        host="",
        device="",
        versions={},
        commit="",
    )


def npz(**arrays) -> bytes:
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


def with_artifacts(store: Store, one: Record) -> Record:
    curve = npz(step=np.arange(1, 101), loss=np.linspace(5, 2.5, 100))
    nats = npz(
        **{f"{KJV}:nats": np.array([3.0, 4.0]), f"{KJV}:tokens": np.array([1, 2])}
    )
    kept = (
        store.write_artifact(one.run_id, "loss_curve.npz", curve),
        store.write_artifact(one.run_id, "nats.npz", nats),
    )
    return Record(**(one.__dict__ | {"artifacts": kept}))


def test_a_workdir_says_what_was_done_to_the_training_text(tmp_path):
    store = Store(tmp_path)
    store.write(record())
    bad = record("r2", quality="random_bytes", quality_level=0.5)
    store.write(Record(**(bad.__dict__ | {"damage": 0.498})))
    store.write(record("r3", quality="random_bytes", quality_level=0.0))
    runs = load(tmp_path).runs.set_index("run_id")
    assert dict(runs.damage) == {"r1": "", "r2": "random_bytes 0.5", "r3": ""}
    assert dict(runs.quality) == {"r1": 1.0, "r2": pytest.approx(0.502), "r3": 1.0}
    assert set(runs.corpus) == {"code"}


def test_where_predictions_are_kept_is_no_setting(tmp_path):
    store = Store(tmp_path)
    for run_id, at in (("r1", [1.0]), ("r2", [0.5, 1.0])):
        one = record(run_id)
        probes = [{"name": "p", "parts": [], "positions": 8, "at": at}]
        store.write(Record(**(one.__dict__ | {"run": one.run | {"probes": probes}})))
    assert not [name for name in load(tmp_path).runs.columns if "probes" in name]


def test_a_workdir_keeps_one_length_and_says_how_to_see_the_other(tmp_path):
    store = Store(tmp_path)
    for i, (size, tokens) in enumerate(itertools.product((1, 2, 3), (1, 2, 3))):
        for length in (16, 32)[: 1 if i == 4 else 2]:
            one = record(f"{i} at {length}", loss=3 - 0.1 * i, tokens=1000 * tokens)
            run = one.run | {"length": length}
            counts = {"run": run, "params_total": 9000 * size, "tokens": 1000 * tokens}
            store.write(Record(**(one.__dict__ | counts)))
    table = load(tmp_path)
    assert len(table.readings) == 9 and len(table.exclusions) == 8
    assert set(table.exclusions.reason) == {
        "of another experiment: --where 'length == 32' fits it instead"
    }
    other = load(tmp_path, where=["length == 32"])
    assert len(other.readings) == 8 and set(other.runs["apart:length"]) == {16, 32}
    with pytest.raises(UserError, match="length"):
        load(tmp_path, where=["length == 64"])


def test_a_workdir_gives_final_losses_curves_and_documents(tmp_path):
    store = Store(tmp_path)
    store.write(with_artifacts(store, record()))
    mixed = (Part("code", 0.5), Part("kjv", 0.5, options(part="nt")))
    store.write(record("r2", corpus=mixed))
    store.write(record("r3", status="diverged", loss=None))
    store.write_study("first", {"runs": ["r1", "r2", "r3", "r4", "r5", "r7"]})
    why = ("r4", 2, "out of memory", "", "", "cpu", "")
    store.add_attempt(Attempt(*why))
    store.path("records", "r6.json").write_text("{")
    store.path("records", "r7.json").write_text('{"schema": 2}')
    table = load(tmp_path)
    assert any("a newer version (schema 2;" in text for text in table.warnings)
    runs = table.runs.set_index("run_id")
    assert runs.loc["r1", "params"] == 8_000
    assert runs.loc["r1", "params_total"] == 10_000
    assert runs.loc["r1", ["family", "corpus"]].tolist() == ["lstm", "code"]
    assert runs.loc["r2", "corpus"] == "0.5 code + 0.5 kjv[part=nt]"
    assert table.readings.set_index("run_id").loss.to_dict() == {"r1": 2.5, "r2": 2.5}
    reasons = table.exclusions.set_index("run_id").reason.to_dict()
    assert reasons["r3"] == "diverged"
    assert reasons["r4"] == "failed: out of memory in attempt 2"
    assert reasons["r5"].startswith("no record")
    corrupt = [text for text in reasons.values() if text.startswith("corrupt record")]
    assert reasons["r7"] == "record of a newer version"
    assert len(corrupt) == 1 and len(reasons) == 5
    assert len(table.paths) == 100 and table.paths.tokens.max() == 6400
    nats, tokens = table.documents["r1"][KJV]
    assert nats.tolist() == [3.0, 4.0] and tokens.tolist() == [1.0, 2.0]
    assert table.parts == {"prose": {KJV: 1.0}}
    assert load(tmp_path, embeddings=True).runs.params.max() == 10_000
    with pytest.raises(UserError, match="did you mean 'first'"):
        load(tmp_path, study="frist")


def test_a_cut_of_a_study_is_not_in_the_title():
    studies = {"all": {"runs": list("abc")}, "cut": {"runs": ["a"]}}
    assert workdir._titled(studies) == "all"
    assert workdir._titled(studies | {"other": {"runs": ["d"]}}) == "all + other"
    assert workdir._titled({}) == ""
