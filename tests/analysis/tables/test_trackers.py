"""What trackers export is read as they write it: one row a run, its curve beside it."""

from __future__ import annotations

import json
import math
import sys

import numpy as np
import pandas as pd
import pytest
import yaml

from analysis import main
from analysis.tables.load import load
from scaling.errors import UserError

STEPS = 4


def law(n: float, d: float) -> float:
    return 1.8 + 300 / n**0.33 + 900 / d**0.33


RUNS = {
    f"run-{i}": (n, d)
    for i, (n, d) in enumerate(
        (n, d) for n in (1e7, 1e8, 1e9) for d in (1e9, 4e9, 2e10)
    )
}


def history(n: float, d: float) -> pd.DataFrame:
    """Training loss at each step, and of held-out text in rows of their own."""
    rows = []
    for i in range(1, STEPS + 1):
        seen = d * i / STEPS
        rows.append({"step": 10 * i, "tokens": seen, "train_loss": law(n, seen) - 0.1})
        rows.append({"step": 10 * i, "tokens": seen, "val_loss": law(n, seen)})
    return pd.DataFrame(rows)


def check(table, curves: bool = True) -> None:
    """Every run is one row with its last reading; no row of a curve is a run."""
    made = pd.DataFrame.from_dict(RUNS, orient="index", columns=["n", "d"])
    found = table.runs.set_index("run_id").loc[made.index]
    assert len(table.runs) == len(table.readings) == len(RUNS)
    np.testing.assert_array_equal(found.params, made.n)
    np.testing.assert_array_equal(found.tokens, made.d)
    losses = table.readings.set_index("run_id").loss.loc[made.index]
    np.testing.assert_allclose(losses, law(made.n, made.d), rtol=1e-6)
    if curves:
        assert table.paths.groupby("run_id").size().to_dict() == dict.fromkeys(
            RUNS, STEPS
        )
        last = table.paths.groupby("run_id").last()
        np.testing.assert_allclose(last.tokens.loc[made.index], made.d)
        np.testing.assert_allclose(
            last.loss.loc[made.index], law(made.n, made.d) - 0.1, rtol=1e-6
        )


def histories(folder, facts: str) -> None:
    for name, (n, d) in RUNS.items():
        made = history(n, d)
        if facts == "columns":
            made.assign(params=n).to_csv(folder / f"{name}.csv", index=False)
        elif facts == "beside":
            made.to_json(folder / f"{name}.jsonl", orient="records", lines=True)
            (folder / f"{name}.json").write_text(json.dumps({"model": {"params": n}}))
        elif facts == "folders":
            (folder / name).mkdir()
            made.to_csv(folder / name / "metrics.csv", index=False)
            text = yaml.safe_dump({"n_params": n, "betas": [0.9, 0.95]})
            (folder / name / "hparams.yaml").write_text(text)
        else:
            made.to_csv(folder / f"{name}.csv", index=False)
    if facts == "sidecar":
        sizes = [f"{n / 1e6:g}M" for n, _ in RUNS.values()]
        frame = pd.DataFrame({"run": list(RUNS), "params": sizes})
        frame.to_csv(folder / "runs.csv", index=False)


@pytest.mark.parametrize("facts", ["columns", "beside", "folders", "sidecar"])
def test_a_folder_of_histories(tmp_path, facts):
    histories(tmp_path, facts)
    table = load(tmp_path)
    check(table)
    assert table.mapping["loss"] == "val_loss"
    assert "9 runs, of each its final reading" in table.said[0]


def test_curves_in_one_table_are_a_row_a_run(tmp_path):
    parts = [
        history(n, d).dropna(subset="val_loss").assign(run=name, params=n)
        for name, (n, d) in RUNS.items()
    ]
    pd.concat(parts).to_csv(tmp_path / "curves.csv", index=False)
    table = load(tmp_path / "curves.csv")
    check(table, curves=False)
    assert any("27 rows are of curves" in text for text in table.said)
    every = load(tmp_path / "curves.csv", {"trajectory": "run"})
    assert len(every.runs) == STEPS * len(RUNS)


def test_what_is_missing_is_said_with_how_to_give_it(tmp_path, capsys):
    histories(tmp_path, "none")
    assert main.main(main.parse(["", "fit", str(tmp_path)])) == main.WRONG
    (line,) = capsys.readouterr().err.splitlines()
    assert "map params" in line and "put runs.csv into" in line
    assert "the columns run (run-0, ...) and params" in line


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name,params\nrun-0,1e7\n", "a column `run` with the names of the runs"),
        ("run,params\nrun-0,1e7\nrun-0,1e8\n", "run-0 stands there twice"),
        ("run,params\nrun-99,1e7\n", "run-99 is none"),
    ],
)
def test_a_wrong_sidecar_is_one_line(tmp_path, text, expected):
    histories(tmp_path, "none")
    (tmp_path / "runs.csv").write_text(text)
    with pytest.raises(UserError, match=expected):
        load(tmp_path)


def test_a_reading_before_the_last_step_is_said(tmp_path):
    histories(tmp_path, "columns")
    made = history(*RUNS["run-0"]).iloc[:-1].assign(params=RUNS["run-0"][0])
    made.to_csv(tmp_path / "run-0.csv", index=False)
    said = load(tmp_path).said
    assert any("in 1 of 9 runs (first run-0, 30 of 40)" in text for text in said)


def trainer_state(n: float, d: float, steps: int, counted: bool = True) -> dict:
    """As transformers' Trainer writes it, logging and evaluating every ten steps."""
    log = []
    for i in range(1, steps + 1):
        seen = d * i / STEPS
        entry = {"epoch": i / STEPS, "grad_norm": 0.4, "learning_rate": 3e-4 / i}
        entry |= {"loss": law(n, seen) - 0.1, "step": 10 * i}
        if counted:
            entry["num_input_tokens_seen"] = seen
        log.append(entry)
        log.append(
            {
                **{"epoch": i / STEPS, "eval_loss": law(n, seen), "eval_runtime": 2.5},
                **{"eval_samples_per_second": 40.0, "step": 10 * i},
            }
        )
    log.append(
        {
            **{"epoch": steps / STEPS, "step": 10 * steps, "total_flos": 6 * n * d},
            **{"train_loss": 9.9, "train_runtime": 60.0},
        }
    )
    return {
        **{"best_global_step": None, "best_metric": None, "epoch": steps / STEPS},
        **{"best_model_checkpoint": None, "eval_steps": 10, "global_step": 10 * steps},
        **{"is_hyper_param_search": False, "is_local_process_zero": True},
        **{"is_world_process_zero": True, "log_history": log, "logging_steps": 10},
        **{"max_steps": 10 * STEPS, "num_train_epochs": 1, "save_steps": 20},
        "num_input_tokens_seen": int(d * steps / STEPS) if counted else 0,
        "stateful_callbacks": {"TrainerControl": {"args": {}, "attributes": {}}},
        **{"total_flos": 6.0 * n * d, "train_batch_size": 8},
        **{"trial_name": None, "trial_params": None},
    }


def trainers(folder, counted: bool = True) -> None:
    for name, (n, d) in RUNS.items():
        for place, steps in ((name, 4), (f"{name}/checkpoint-20", 2)):
            (folder / place).mkdir()
            state = trainer_state(n, d, steps, counted)
            (folder / place / "trainer_state.json").write_text(json.dumps(state))
        config = {"architectures": ["GPTNeoXForCausalLM"], "hidden_size": 512}
        config |= {"num_params": n, "loss": "cross entropy"}
        (folder / name / "config.json").write_text(json.dumps(config))


def test_hugging_face_runs_with_their_checkpoints(tmp_path):
    trainers(tmp_path)
    table = load(tmp_path)
    check(table)
    assert table.mapping["loss"] == "eval_loss"
    np.testing.assert_allclose(
        table.runs.flops, 6 * table.runs.params * table.runs.tokens
    )
    assert table.runs.learning_rate.isna().all()


def test_hugging_face_without_counted_tokens_asks_for_them(tmp_path):
    trainers(tmp_path, counted=False)
    with pytest.raises(UserError, match=r"map tokens.*put runs.csv into"):
        load(tmp_path)
    tokens = pd.DataFrame({"run": list(RUNS), "tokens": [d for _, d in RUNS.values()]})
    tokens.to_csv(tmp_path / "runs.csv", index=False)
    check(load(tmp_path))


def test_damaged_states_are_one_line(tmp_path):
    trainers(tmp_path)
    (tmp_path / "run-3" / "trainer_state.json").write_text('{"log_history": [')
    with pytest.raises(UserError, match=r"run-3/trainer_state.json.*JSON that can be"):
        load(tmp_path)


def test_tensorboard_events(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import summary_v2
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    for name, (n, d) in RUNS.items():
        writer = EventFileWriter(str(tmp_path / name))
        writer.add_event(Event(step=0, summary=summary_v2.hparams_pb({"params": n})))
        for row in (
            history(n, d).rename(columns={"tokens": "num_tokens"}).to_dict("records")
        ):
            for tag, value in row.items():
                if tag != "step" and not math.isnan(value):
                    tag = tag.replace("_loss", "/loss")
                    one = Summary.Value(tag=tag, simple_value=value)
                    at = Event(step=int(row["step"]), summary=Summary(value=[one]))
                    writer.add_event(at)
        writer.close()
    table = load(tmp_path)
    check(table)
    assert table.mapping["loss"] == "val/loss"
    assert "tensorflow" not in sys.modules


def test_tensorboard_events_without_their_reader_are_one_line(tmp_path, monkeypatch):
    (tmp_path / "events.out.tfevents.1.host").write_bytes(b"")
    name = "tensorboard.backend.event_processing"
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=r"pip install 'datalaw\[trackers\]'"):
        load(tmp_path)


def wandb_page() -> pd.DataFrame:
    """The runs table that the page exports: all cells quoted, unfinished runs too."""
    rows = [
        {
            **{"Name": f"run-{i}", "State": "finished", "Notes": "-", "User": "ada"},
            **{"Tags": "", "Created": "2026-01-02T03:04:05.000Z", "Runtime": 3600},
            **{"Sweep": "", "n_params": n, "tokens": d, "optimizer.lr": 3e-4},
            **{"betas": "[0.9, 0.95]", "train/loss": law(n, d) - 0.1},
            "eval/loss": law(n, d),
        }
        for i, (n, d) in enumerate(RUNS.values())
    ]
    crashed = {**rows[0], "Name": "dead", "State": "crashed", "eval/loss": ""}
    return pd.DataFrame([*rows, crashed])


def wandb_api() -> pd.DataFrame:
    """As W&B's guide makes a table from its API: records in cells."""
    return pd.DataFrame(
        {
            "summary": [
                {
                    "_step": 40,
                    "eval/loss": law(n, d),
                    "best": math.nan,
                    "image": {"w": 1},
                }
                for n, d in RUNS.values()
            ],
            "config": [
                {"n_params": n, "tokens": d, "betas": [0.9, 0.95], "tied": None}
                for n, d in RUNS.values()
            ],
            "name": list(RUNS),
        }
    )


def test_a_weights_and_biases_table_from_the_page(tmp_path):
    wandb_page().to_csv(tmp_path / "export.csv", index=False, quoting=1)
    table = load(tmp_path / "export.csv")
    dead = table.exclusions
    assert dead.run_id.tolist() == ["dead"] and dead.reason[0] == "status is crashed"
    assert table.mapping["loss"] == "eval/loss"
    rest = table.runs.run_id != "dead"
    np.testing.assert_array_equal(
        table.runs.params[rest], [n for n, _ in RUNS.values()]
    )
    assert (table.runs.learning_rate == 3e-4).all()


@pytest.mark.parametrize("kind", ["python", "json"])
def test_a_weights_and_biases_table_from_the_api(tmp_path, kind):
    made = wandb_api()
    if kind == "json":
        made = made.assign(
            summary=made.summary.map(json.dumps), config=made.config.map(json.dumps)
        )
    made.to_csv(tmp_path / "project.csv")
    check(load(tmp_path / "project.csv"), curves=False)


def test_weights_and_biases_folders(tmp_path):
    """The summary and the configuration that W&B leaves on the machine itself."""
    for name, (n, d) in RUNS.items():
        place = tmp_path / name / "files"
        place.mkdir(parents=True)
        summary = {"_step": 40, "val_loss": law(n, d), "_wandb": {"runtime": 3}}
        (place / "wandb-summary.json").write_text(json.dumps(summary))
        config = {"n_params": {"desc": None, "value": n}, "_wandb": {"value": {}}}
        config["data"] = {"desc": None, "value": {"tokens": d}}
        (place / "config.yaml").write_text(yaml.safe_dump(config))
    check(load(tmp_path), curves=False)


def test_a_folder_without_runs_is_one_line(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing\n")
    (tmp_path / "table.csv").write_text("N,D,loss\n1,2,3\n")
    with pytest.raises(UserError, match="a workdir with records/") as refused:
        load(tmp_path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("kind", ["csv", "parquet", "jsonl"])
def test_histories_that_count_tokens_alone_beside_other_files(tmp_path, kind):
    for name, (n, d) in RUNS.items():
        made = pd.DataFrame({"tokens": [d * i / STEPS for i in range(1, STEPS + 1)]})
        made = made.assign(params=n, **{"eval.loss": law(n, made.tokens)})
        path = tmp_path / f"{name}.{kind}"
        if kind == "csv":
            made.to_csv(path, index=False)
        elif kind == "parquet":
            made.to_parquet(path)
        else:
            made.to_json(path, orient="records", lines=True)
    (tmp_path / "curve.png").write_bytes(b"\x89PNG\r\n\x1a\n\0")
    (tmp_path / "meta.yaml").write_text("status: 3\n")
    pd.DataFrame({"host": ["a"], "hours": [2]}).to_csv(tmp_path / "hosts.csv")
    table = load(tmp_path)
    check(table, curves=False)
    assert not any("loss of training" in text for text in table.said)
    (left,) = [text for text in table.said if "left out" in text]
    assert "hosts.csv" in left


def test_tables_in_a_folder_are_named(tmp_path):
    rows = [(n, d, law(n, d)) for n, d in RUNS.values()]
    frame = pd.DataFrame(rows, columns=["N", "tokens", "loss"])
    frame.to_csv(tmp_path / "all.csv", index=False)
    with pytest.raises(UserError, match=r"all\.csv is no history: give it alone"):
        load(tmp_path)
    (tmp_path / "0" / "f0" / "metrics").mkdir(parents=True)
    (tmp_path / "all.csv").unlink()
    with pytest.raises(UserError, match=r"mlflow\.search_runs"):
        load(tmp_path)
