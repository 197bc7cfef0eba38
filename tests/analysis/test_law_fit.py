"""A LawFit as a result object: asked, described, drawn, saved and read again."""

from __future__ import annotations

import matplotlib.figure
import numpy as np
import pandas as pd
import pytest

import analysis
from scaling.errors import UserError


@pytest.fixture(scope="module")
def fit():
    """Of two families, one of which has too few sizes for a law of its own."""
    rng = np.random.default_rng(0)
    rows = [
        {"N": N, "D": D, "loss": loss * np.exp(rng.normal(0, 0.01)), "arch": arch}
        for arch, sizes in (("lstm", (1e6, 4e6, 16e6, 64e6)), ("gru", (1e6,)))
        for N in sizes
        for D in (1e8, 4e8, 16e8, 64e8)
        for loss in [1.7 + 300 * N**-0.34 + 400 * D**-0.28]
    ]
    table = analysis.from_frame(pd.DataFrame(rows))
    return analysis.fit_law(table, "chinchilla", draws=60)


def test_it_says_its_parameters_and_what_it_lacks(fit):
    lstm, gru, counts = fit.summary()
    assert lstm.startswith("chinchilla, lstm, target loss: E = ") and "beta = " in lstm
    assert gru.startswith("No chinchilla law can be fitted to gru, target loss: ")
    assert counts == "Of 20 usable rows, 20 are fitted."
    assert str(fit).splitlines() == [f"- {text}" for text in fit.summary()]
    assert "\n" not in repr(fit) and "chinchilla" in repr(fit)
    assert "1 fits, 1 refused" in repr(fit)
    assert lstm[:30] in fit._repr_html_() and "<table" in fit._repr_html_()


def test_intervals_are_of_the_draws(fit):
    ends = fit.conf_int()
    pd.testing.assert_frame_equal(
        ends[["parameter", "low", "high"]], fit.parameters[["parameter", "low", "high"]]
    )
    narrow = fit.conf_int(alpha=0.5)
    assert (narrow.low >= ends.low).all() and (narrow.high <= ends.high).all()
    assert (narrow.high - narrow.low < ends.high - ends.low).all()
    for alpha in (0, 1, 95):
        with pytest.raises(UserError, match="between 0 and 1"):
            fit.conf_int(alpha)


def test_frames_are_copies_and_described(fit):
    copy = fit.to_frame()
    copy["value"] = 0.0
    assert (fit.parameters.value > 0).all()
    assert list(fit.describe().frame) == ["parameters", "quality", "counts", "refused"]
    for name in fit.describe().frame:
        described = fit.describe(name)
        assert list(described.column) == list(fit.to_frame(name))
        assert described.meaning.all()
    for call in (fit.to_frame, fit.describe):
        with pytest.raises(UserError, match="did you mean 'quality'"):
            call("qualty")


def test_its_figure_has_a_panel_a_fit(fit):
    figure = fit.plot()
    assert isinstance(figure, matplotlib.figure.Figure)
    titles = [axes.get_title("left") for axes in figure.axes]
    assert titles == ["lstm"] and len(figure.axes[0].lines) > 1
    with pytest.raises(UserError, match="of loss"):
        fit.plot("elsewhere")


def test_saved_and_read_it_is_the_same(fit, tmp_path):
    fit.save(tmp_path / "fit.json")
    again = analysis.read(tmp_path / "fit.json")
    assert repr(again) == repr(fit) and str(again) == str(fit)
    for name in fit.describe().frame:
        pd.testing.assert_frame_equal(
            again.to_frame(name), fit.to_frame(name), check_exact=True
        )
    places = {"params": np.array([1e6, 1e9]), "tokens": np.array([1e8, 2e10])}
    pd.testing.assert_frame_equal(
        again.predict(**places), fit.predict(**places), check_exact=True
    )
    pd.testing.assert_frame_equal(again.conf_int(0.1), fit.conf_int(0.1))


def test_what_is_no_result_is_not_read(tmp_path):
    (tmp_path / "no.json").write_text("[1, 2]")
    (tmp_path / "no.txt").write_text("loss,params")
    for name, match in (("no.json", "schema"), ("no.txt", "save"), ("no", "cannot")):
        with pytest.raises(UserError, match=match):
            analysis.read(tmp_path / name)
