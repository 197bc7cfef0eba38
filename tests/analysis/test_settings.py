"""All settings of a cell are tuned over; none is taken for a seed."""

import numpy as np
import pandas as pd
import pytest

from analysis.design.cells import cells_frame, settings_frame, target_frame
from analysis.inference.intervals import sample
from analysis.pipeline import analyse
from analysis.questions import tuning
from analysis.surfaces.lawfit import fit_law
from analysis.tables.load import from_frame

SIZES, BUDGETS = (1.1e7, 3.4e7, 1.05e8, 3.2e8), (2.1e8, 6.3e8, 1.9e9, 5.7e9)


def sweep(seeds: int = 1, batch: str = "bs", noise: float = 0.002) -> pd.DataFrame:
    """Three rates by three batches in 16 cells; the best of both follows the law."""
    rng = np.random.default_rng(7)
    rows = []
    for n in SIZES:
        for d in BUDGETS:
            for size, worse in ((32, 0.0), (128, 0.01), (512, 0.05)):
                for lr, off in ((1e-3, 0.02), (3e-3, 0.0), (1e-2, 0.04)):
                    for seed in range(seeds):
                        loss = 1.8 + 300 / n**0.33 + 900 / d**0.33
                        loss *= (1 + worse + off) * np.exp(rng.normal(0, noise))
                        row = {"N": n, "D": d, "peak_lr": lr, batch: size}
                        rows.append(row | {"loss": loss, "seed": seed})
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def analysis():
    return analyse(from_frame(sweep(), target="shared"), draws=60)


@pytest.mark.parametrize("batch", ["bs", "batch_size", "wd", "schedule"])
def test_the_best_of_all_settings_is_fitted(batch):
    frame = sweep(batch=batch)
    if batch == "schedule":
        frame[batch] = frame[batch].map({32: "cosine", 128: "linear", 512: "wsd"})
    table = from_frame(frame, target="shared")
    assert len(table.settings) == 2 and table.settings[0] == "learning_rate"
    found = fit_law(table, draws=60)
    assert found.quality["runs"].tolist() == [16]
    alpha = found.parameters.set_index("parameter").loc["alpha"]
    assert alpha.low < 0.33 < alpha.high and 0.27 < alpha.low < alpha.high < 0.40


def test_settings_are_no_seeds(analysis):
    assert analysis.noise.empty and analysis.fitness.seed_noise.isna().all()
    assert (analysis.cells.seeds == 1).all() and (analysis.cells.settings == 9).all()
    reasons = analysis.exclusions.reason.value_counts()
    assert reasons["not at its cell's best setting"] == 15 * 8


def test_the_edge_of_every_numeric_setting_is_said(analysis):
    said = [note.text for note in analysis.notes if note.kind == "edge"]
    assert len(said) == 1
    assert "The best batch of all lies at the edge of its grid in 16 of 16" in said[0]
    assert "low end at 32 (11M parameters and 210M tokens)" in said[0]


def test_the_best_setting_is_by_its_mean_over_seeds():
    table = from_frame(sweep(seeds=3), target="shared")
    cells = cells_frame(sample(target_frame(table, "loss")), "loss")
    assert len(cells) == 16 and (cells.seeds == 3).all()
    assert (cells.learning_rate == 3e-3).all() and (cells.batch == 32).all()
    found = analyse(table, draws=40)
    assert (found.noise.seeds == 3).all()
    # Of repeats of one setting alone: the planted .2%.
    assert found.fitness.seed_noise.iloc[0] == pytest.approx(0.002, rel=0.3)


def test_a_budget_that_batches_round_is_one_cell():
    frame = sweep()
    step = frame.bs * 1024 * 8
    rounded = (frame.D // step + 1) * step
    frame = frame.assign(D=rounded)
    cells = target_frame(from_frame(frame, target="shared"), "loss")
    assert cells.tokens.nunique() > 4
    assert cells.cell.nunique() == 16


def test_checkpoints_of_one_batch_stay_apart():
    frame = sweep()
    later = frame.assign(D=frame.D * 1.01, loss=frame.loss * 0.999)
    cells = target_frame(from_frame(pd.concat([frame, later]), target="shared"), "loss")
    assert cells.cell.nunique() == 32


def test_text_is_a_setting_without_an_edge():
    frame = sweep(batch="schedule")
    frame["schedule"] = frame.schedule.map({32: "cosine", 128: "linear", 512: "wsd"})
    table = from_frame(frame, target="shared")
    tried = settings_frame(sample(target_frame(table, "loss")), "loss")
    mine = tried[tried.setting == "schedule"]
    assert (mine.value == "cosine").all() and (mine.edge == "").all()
    cells = cells_frame(sample(target_frame(table, "loss")), "loss")
    assert not [n for n in tuning.of_cells(cells, tried) if n.kind == "edge"]
