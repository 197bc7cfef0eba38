"""Predictions: places as numbers, arrays and frames, and intervals of a new run."""

import json

import numpy as np
import pandas as pd
import pytest

from analysis import main
from analysis.surfaces import places
from analysis.surfaces.lawfit import LawFit, fit_law
from analysis.tables.load import from_frame
from scaling.errors import UserError

NOISE = 0.004


def truth(params, tokens, gain=1.0):
    return 1.8 + 300 / params**0.33 + 900 / (tokens * gain) ** 0.33


def made(seed=0, families=("a",), of=truth) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = [
        {"params": n, "tokens": d, "family": family}
        | {"loss": of(n, d, 1.0 + k) * np.exp(rng.normal(0, NOISE))}
        for k, family in enumerate(families)
        for n in np.geomspace(1e7, 6.4e8, 4)
        for d in np.geomspace(2e8, 1.28e10, 5)
    ]
    return pd.DataFrame(rows)


def fitted(law="chinchilla", draws=60, made_of=None, **columns) -> LawFit:
    frame = made(**made_of or {}).assign(**columns)
    return fit_law(from_frame(frame, target="shared"), law, draws=draws)


@pytest.fixture(scope="module")
def joint() -> LawFit:
    return fitted("joint", made_of={"families": ("a", "b")})


def test_numbers_arrays_and_frames_are_the_same_places(joint):
    params, tokens = np.array([1e8, 5e8]), np.array([1e9, 8e9])
    arrays = joint.predict(params, tokens)
    frame = joint.predict(pd.DataFrame({"params": params, "tokens": tokens}))
    pd.testing.assert_frame_equal(arrays, frame)
    one = joint.predict(1e8, 1e9)
    assert one.loss.tolist() == arrays.loss[::2].tolist()
    along = joint.predict(1e8, tokens)
    assert along.loss[0] == one.loss[0] and len(along) == 4


def test_a_frame_may_say_whose_loss_it_asks_for(joint):
    asked = {"params": [1e8, 1e8], "tokens": [1e9, 1e9], "family": ["b", "a"]}
    found = joint.predict(pd.DataFrame(asked))
    assert found.family.tolist() == ["a", "b"]
    with pytest.raises(UserError, match="family"):
        joint.predict(pd.DataFrame(asked | {"family": ["b", "c"]}))


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ((0.0, 1e9), "params"),
        ((1e8, [1e9, -1.0]), "tokens"),
        ((1e8, np.nan), "tokens"),
        ((1e8, "many"), "tokens"),
        ((1e8,), "tokens"),
        (([1e8, 2e8], [1e9, 2e9, 3e9]), "shape"),
        ((pd.DataFrame({"params": [1e8]}),), "column tokens"),
    ],
)
def test_wrong_places_are_the_users_mistake(joint, asked, said):
    with pytest.raises(UserError, match=said):
        joint.predict(*asked)


def test_beyond_the_fitted_runs_it_says_so(joint):
    found = joint.predict(np.array([1e8, 6.4e9, 1e6]), np.array([1e9, 1e9, 6.4e10]))
    inside, larger, smaller = found.beyond[:3]
    assert inside == ""
    assert larger == "params 10 times the largest fitted"
    assert smaller == (
        "params 0.1 times the smallest fitted; tokens 5 times the largest fitted"
    )


def test_laws_of_one_size_answer_for_the_nearest():
    found = fitted("power").predict(np.array([1.1e7, 6.0e8]), 1e9)
    assert len(found) == 2
    np.testing.assert_allclose(found.fitted_params, [1e7, 6.4e8])
    # Five runs for three parameters do not say how well the curve is known.
    assert found[["low", "high", "curve_low", "curve_high"]].isna().all(axis=None)


def test_repeated_data_is_predicted_by_its_own_law_alone():
    fit = fitted("data_constrained", unique_tokens=1e9)
    found = fit.predict(1e8, 4e9, unique_tokens=1e9)
    assert (found.laws == 1).all() and (found.unique_tokens == 1e9).all()
    assert (found.low < found.loss).all() and (found.loss < found.high).all()


def test_intervals_widen_with_the_distance(joint):
    found = joint.predict(np.array([8e7, 8e10]), np.array([1.6e9, 1.6e12]))
    near, far = ((found.high - found.low) / found.loss)[:2]
    assert far > 2 * near
    assert (found.high - found.low > found.curve_high - found.curve_low)[::2].all()


def test_new_runs_fall_where_they_are_predicted():
    """Inside the runs and to four times beyond, on several made tables."""
    inside, narrow, within_curve, count = 0, 0, 0, 0
    for seed in range(4):
        rng = np.random.default_rng(100 + seed)
        params = np.exp(rng.uniform(np.log(1e7), np.log(2.5e9), 150))
        tokens = np.exp(rng.uniform(np.log(2e8), np.log(5e10), 150))
        runs = truth(params, tokens) * np.exp(rng.normal(0, NOISE, 150))
        found = fitted(made_of={"seed": seed}).predict(params, tokens)
        inside += int(((found.low <= runs) & (runs <= found.high)).sum())
        middle, reach = (found.low + found.high) / 2, (found.high - found.low) / 4
        narrow += int(((runs - middle).abs() <= reach).sum())
        curve = (found.curve_low <= runs) & (runs <= found.curve_high)
        within_curve += int(curve.sum())
        count += len(runs)
    assert inside >= 0.88 * count
    # Intervals of half the width, and those of the curve alone, would be caught.
    assert narrow < 0.85 * count and within_curve < 0.85 * count


def test_the_interval_stands_where_the_law_asked_for_is_wrong():
    """Kaplan's, of runs that have a floor: the laws together know better."""
    rng = np.random.default_rng(0)
    params = np.exp(rng.uniform(np.log(6.4e8), np.log(2.5e9), 100))
    tokens = np.exp(rng.uniform(np.log(1.28e10), np.log(5e10), 100))
    runs = truth(params, tokens) * np.exp(rng.normal(0, NOISE, 100))
    found = fitted("kaplan").predict(params, tokens)
    assert ((found.low <= runs) & (runs <= found.high)).mean() > 0.88
    assert (found.high - found.low < 0.5 * (found.curve_high - found.curve_low)).all()
    error = np.abs(np.log(found[["loss", "expected"]]).sub(np.log(runs), axis=0)).mean()
    assert error.expected < 0.3 * error.loss


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("predict") / "runs.csv"
    made().to_csv(path, index=False)
    return str(path)


def command(*words: str) -> int:
    return main.main(main.parse(["scaling-analysis", "predict", *words]))


def test_the_command_says_what_the_python_api_says(path, tmp_path, capsys):
    """Places by name with units, or as a table; to people and to machines."""
    asked = pd.DataFrame({"params": ["1B", "100M"], "tokens": ["20B", "1,000,000,000"]})
    asked.to_csv(tmp_path / "places.csv", index=False)
    words = ("--at", "params=1B,tokens=20B")
    words += ("--at", "params=100M, tokens=1,000,000,000")
    said = []
    for given in (words, ("--at", str(tmp_path / "places.csv"))):
        assert command(path, *given, "--draws", "40", "--json") == main.DONE
        said.append(json.loads(capsys.readouterr().out))
    assert said[0] == said[1]
    expected = fitted(draws=40).predict([1e9, 1e8], [2e10, 1e9])
    body = said[0]["predictions"]
    for name in ("loss", "expected", "low", "high"):
        np.testing.assert_allclose(body[name], expected[name])
    far, near = said[0]["answer"]
    assert "1B parameters and 20B tokens" in far
    assert "beyond the fitted runs: params 1.6 times the largest fitted" in far
    assert "95% of new runs" in near and "beyond" not in near


@pytest.mark.parametrize(
    ("at", "said"),
    [
        ("params=1B", "tokens too"),
        ("params=x,tokens=3", "invalid params 'x'"),
        ("parms=1,tokens=2", "did you mean 'params'"),
        ("params=-1,tokens=3", "above zero"),
        ("params=1,tokens=3,family=z", "known: a"),
        ("no-such-file.csv", "no such file"),
        ("", "say where"),
    ],
)
def test_wrong_places_end_the_command_in_one_line(path, capsys, at, said):
    words = ("--at", at) if at else ()
    assert command(path, *words, "--draws", "40") == main.WRONG
    (line,) = capsys.readouterr().err.strip().splitlines()[-1:]
    assert said in line


def test_a_table_of_places_may_have_the_usual_names(tmp_path):
    named = pd.DataFrame({"N": ["1B"], "D": ["20B"], "U": ["5B"], "model": ["big"]})
    named.to_csv(tmp_path / "places.csv", index=False)
    found = places.read([str(tmp_path / "places.csv")])
    known = pd.DataFrame({"params": [1e9], "tokens": [2e10], "unique_tokens": [5e9]})
    pd.testing.assert_frame_equal(found, known)


def test_one_place_may_name_a_family_and_another_none():
    frame = places.read(["params=1B,tokens=2B,family=a", "params=1B,tokens=2B"])
    asked = places.asked(frame, None)
    assert len(places.of(asked, "a", "d")) == 2
    assert len(places.of(asked, "b", "d")) == 1
