"""Speed of the fitting engine, beside other tools and the published recipe.

    python -m tests.benchmarks.fit_speed [--all-starts] [--no-peers]

On the 240 points of the Chinchilla table (SCALING_TABLES/chinchilla_epoch.csv without
the five that the reference fit drops; without the folder a made surface of 240 points
from the reference constants), in one process, medians:

    one certified fit                        at most 10 ms
    4,000 Huber bootstraps                   at most 1 s warm, 2 s from a cold process
    joint law, 3 families x 3 corpora, 144 runs, 15 parameters, 4,000 bootstraps
                                             at most 1 s least squares, 2 s Huber

then how far the fit's objective lies above the best of 1,000 random starts, and the
same fit by the PyPI packages `chinchilla` and `simple-scaling-laws` (installed into a
temporary folder, each skipped with a sentence where that fails) and by Hoffmann et
al.'s recipe: L-BFGS from 4,500 starts on a grid, of which every 50th is run and the
time scaled up unless --all-starts is given. Limits are those of a machine with 2 cores
that does nothing else.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from analysis import laws
from analysis.fitting.descent import minimise
from analysis.fitting.fit import DELTA, Fit, fit, refit
from analysis.fitting.objective import bounds
from analysis.laws import Array, Law

# Besiroglu et al. 2024: E, A, B, alpha, beta.
REFERENCE = (1.8172, 482.01, 2085.43, 0.3478, 0.3658)
DRAWS = 4000
SHARE = 50
Table = tuple[dict[str, Array], Array]


def published(folder: str) -> Table | None:
    """The 240 points of the table, or None where it is not there."""
    path = Path(folder, "chinchilla_epoch.csv")
    if not folder or not path.is_file():
        return None
    rows = np.genfromtxt(path, delimiter=",", names=True, dtype=None, encoding="utf8")
    rows = rows[rows["drop_in_reference_fit"] == 0]
    columns = {name: rows[name].astype(float) for name in ("params", "tokens")}
    return columns, rows["loss"].astype(float)


def made() -> Table:
    """240 points of the reference surface along 12 budgets of compute."""
    rng = np.random.default_rng(0)
    flops = np.repeat(np.geomspace(1e18, 3e21, 12), 20)
    tokens = np.sqrt(flops / 6) * np.tile(np.geomspace(0.1, 30, 20), 12)
    columns = {"params": flops / (6 * tokens), "tokens": tokens}
    e, a, b, alpha, beta = REFERENCE
    loss = e + a / columns["params"] ** alpha + b / tokens**beta
    return columns, loss * np.exp(0.005 * rng.standard_t(3, 240))


def joint_table() -> Table:
    """3 families x 3 corpora x 4 sizes x 4 budgets."""
    rng = np.random.default_rng(0)
    e, a, b, alpha, beta = REFERENCE
    grid = itertools.product(
        range(3), range(3), np.geomspace(5e7, 2e10, 4), np.geomspace(1e9, 1e12, 4)
    )
    family, corpus, params, tokens = (np.array(x) for x in zip(*grid, strict=True))
    size = np.array([1.0, 0.8, 1.2])[family] * np.array([1.0, 1.1, 0.9])[corpus]
    data = np.array([1.0, 1.3, 0.7])[family] * np.array([1.0, 0.6, 1.5])[corpus]
    floor = e + np.array([0.0, 0.2, -0.1])[corpus]
    loss = floor + a / (size * params) ** alpha + b / (data * tokens) ** beta
    columns = {"family": family, "corpus": corpus, "params": params, "tokens": tokens}
    return columns, loss * np.exp(0.005 * rng.standard_t(3, loss.size))


def bound(name: str, columns: dict[str, Array]) -> Law:
    centre = {key: float(np.log(columns[key]).mean()) for key in ("params", "tokens")}
    levels = {"family": tuple("abc"), "corpus": tuple("def")}
    return laws.load(name).bind(levels, centre)


def draws(rows: int) -> Array:
    rng = np.random.default_rng(0)
    return rng.multinomial(rows, np.full(rows, 1 / rows), DRAWS).astype(float)


def seconds(work: Callable[[], object], times: int) -> float:
    """Median wall time of some calls, after one that warms up."""
    work()
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return float(np.median(taken))


def say(what: str, taken: float, limit: float) -> bool:
    verdict = "holds" if taken <= limit else "DOES NOT HOLD"
    print(f"{what:<52} {taken:8.4f} s; limit {limit:g} s {verdict}", flush=True)
    return taken <= limit


def ours(columns: dict[str, Array], loss: Array) -> tuple[Fit, float, list[bool]]:
    """Prints this engine's times; returns the fit, its time and what held."""
    law = bound("chinchilla", columns)
    found = fit(law, columns, loss)
    assert isinstance(found, Fit), found
    one = seconds(lambda: fit(law, columns, loss), 31)
    held = [say(f"one certified fit, {loss.size} points", one, 0.010)]
    weights = draws(loss.size)
    many = seconds(lambda: refit(found, columns, loss, weights), 3)
    held.append(say("4,000 Huber bootstraps, warm", many, 1.0))
    held.append(say("the same from a cold process", cold(columns, loss), 2.0))
    table, losses = joint_table()
    law = bound("joint", table)
    weights = draws(losses.size)
    for delta, limit, name in ((np.inf, 1.0, "least squares"), (DELTA, 2.0, "Huber")):
        joint = fit(law, table, losses, delta=delta)
        assert isinstance(joint, Fit), joint
        taken = seconds(lambda f=joint: refit(f, table, losses, weights), 3)
        parameters = len(law.parameters)
        text = f"joint law, {losses.size} runs, {parameters} parameters, {name}"
        held.append(say(text, taken, limit))
    return found, one, held


def cold(columns: dict[str, Array], loss: Array) -> float:
    """Wall time of a process that reads the points, fits and refits 4,000 times."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "points.npz")
        np.savez(path, loss=loss, params=columns["params"], tokens=columns["tokens"])
        start = time.perf_counter()
        command = [sys.executable, "-m", "tests.benchmarks.fit_speed"]
        subprocess.run([*command, "--cold", str(path)], check=True)
        return time.perf_counter() - start


def cold_child(path: str) -> None:
    with np.load(path) as points:
        columns = {key: points[key] for key in ("params", "tokens")}
        loss = points["loss"]
    found = fit(bound("chinchilla", columns), columns, loss)
    assert isinstance(found, Fit), found
    refit(found, columns, loss, draws(loss.size))


def random_starts(found: Fit, columns: dict[str, Array], loss: Array) -> None:
    """How far the fit lies above the best of 1,000 starts anywhere in a wide box."""
    rng = np.random.default_rng(1)
    low, high = bounds(found.law)
    low, high = np.maximum(low, -3.0), np.minimum(high, 2.0)
    starts = rng.uniform(low, high, (1000, low.size))
    weights = np.ones((1000, loss.size))
    rough = minimise(found.law, columns, loss, weights, starts, np.inf, 60)
    end = minimise(found.law, columns, loss, weights, rough.theta, DELTA)
    best = float(end.objective.min())
    near = float(np.mean(end.objective <= best * 1.001))
    print(
        f"objective {found.objective:.13g}; best of 1,000 random starts {best:.13g}: "
        f"gap {found.objective / best - 1:+.1e}; {near:.0%} of them ended there"
    )


def recipe(columns: dict[str, Array], loss: Array, every: bool) -> tuple[float, float]:
    """Hoffmann et al. 2022, appendix D.3: seconds for all starts, best objective."""
    from scipy.optimize import minimize

    log_n, log_d, log_l = (
        np.log(x) for x in (columns["params"], columns["tokens"], loss)
    )

    def objective(x: Array) -> tuple[float, Array]:
        a, b, e, alpha, beta = x
        terms = np.stack([a - alpha * log_n, b - beta * log_d, np.full(loss.size, e)])
        top = terms.max(axis=0)
        powers = np.exp(terms - top)
        total = powers.sum(axis=0)
        shares = powers / total
        residual = top + np.log(total) - log_l
        pull = np.clip(residual, -DELTA, DELTA)
        size = np.minimum(np.abs(residual), DELTA)
        value = np.sum(size * (np.abs(residual) - size / 2))
        parts = shares * pull
        a_slope, b_slope, e_slope = parts.sum(axis=1)
        slopes = [a_slope, b_slope, e_slope, -parts[0] @ log_n, -parts[1] @ log_d]
        return float(value), np.array(slopes)

    starts = list(
        itertools.product(
            np.arange(0, 30, 5),
            np.arange(0, 30, 5),
            np.arange(-1, 1.5, 0.5),
            np.arange(0, 2.5, 0.5),
            np.arange(0, 2.5, 0.5),
        )
    )
    used = starts if every else starts[:: SHARE + 1]
    start = time.perf_counter()
    best = min(minimize(objective, x, jac=True, method="L-BFGS-B").fun for x in used)
    taken = time.perf_counter() - start
    return taken * len(starts) / len(used), float(best)


CHINCHILLA = """
import json, sys, tempfile, time
import numpy as np
from chinchilla import Chinchilla
from chinchilla._metrics import log_huber
points = json.load(open(sys.argv[1]))
grid = dict(e=(0.3, 0.9), a=(3.0, 9.0), b=(3.0, 9.0), alpha=(0.2, 0.6), beta=(0.2, 0.6))
with tempfile.TemporaryDirectory() as folder:
    tool = Chinchilla(folder, param_grid=grid, log_level=50,
                      loss_fn=lambda y, p: log_huber(y, p, 1e-3))
    for n, d, loss in zip(points["params"], points["tokens"], points["loss"]):
        tool.database.append(C=6 * n * d, N=n, D=d, loss=loss)
    start = time.perf_counter()
    tool.fit()
    taken = time.perf_counter() - start
values = tool.get_params()
print(json.dumps([taken, [values[k] for k in ("E", "A", "B", "alpha", "beta")]]))
"""

SIMPLE = """
import json, sys, time
import polars as pl
from simple_scaling_laws import fit
points = json.load(open(sys.argv[1]))
frame = pl.DataFrame({
    "training_run_id": [str(i) for i in range(len(points["loss"]))],
    "model_size__n": points["params"], "dataset_size__d": points["tokens"],
    "test_loss__nats": points["loss"]})
start = time.perf_counter()
model = fit(frame, n_draws=int(sys.argv[2]))
taken = time.perf_counter() - start
values = model.params("test_loss__nats")
print(json.dumps([taken, list(values.values())]))
"""

# What each package is asked for: its program, the draws, and what the ratio is to.
PEERS = (
    ("chinchilla", CHINCHILLA, 0, "one Huber fit from 32 starts"),
    ("simple-scaling-laws", SIMPLE, 200, "one least-squares fit with 200 draws"),
)


def peers(columns: dict[str, Array], loss: Array, one: float) -> None:
    """Times of other packages, or why there are none."""
    points = {name: columns[name].tolist() for name in ("params", "tokens")}
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary, "points.json")
        path.write_text(json.dumps(points | {"loss": loss.tolist()}))
        for name, program, count, what in PEERS:
            folder = str(Path(temporary, name))
            install = [sys.executable, "-m", "pip", "install", "--quiet", "--target"]
            done = subprocess.run(
                [*install, folder, name], capture_output=True, text=True
            )
            if done.returncode:
                print(f"{name}: skipped, pip could not install it")
                continue
            environment = os.environ | {"PYTHONPATH": folder}
            command = [sys.executable, "-c", program, str(path), str(count)]
            done = subprocess.run(
                command, capture_output=True, text=True, env=environment, cwd=temporary
            )
            if done.returncode:
                last = (done.stderr.strip().splitlines() or ["no output"])[-1]
                print(f"{name}: skipped, it failed: {last}")
                continue
            taken, values = json.loads(done.stdout.strip().splitlines()[-1])
            said = ", ".join(f"{value:.5g}" for value in values)
            print(
                f"{name}, {what}: {taken:.3g} s, {taken / one:,.0f} times one "
                f"certified fit; {said}",
                flush=True,
            )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--all-starts", action="store_true")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--cold", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.cold:
        cold_child(arguments.cold)
        return 0
    folder = os.environ.get("SCALING_TABLES", "")
    table = published(folder)
    if table is None:
        print("SCALING_TABLES has no chinchilla_epoch.csv: a made surface instead")
    columns, loss = table or made()
    found, one, held = ours(columns, loss)
    random_starts(found, columns, loss)
    taken, best = recipe(columns, loss, arguments.all_starts)
    scaled = "" if arguments.all_starts else " (scaled up)"
    print(
        f"L-BFGS from 4,500 starts: {taken:.3g} s{scaled}, {taken / one:,.0f} times "
        f"one certified fit; its objective {best / found.objective - 1:+.1e} from ours",
        flush=True,
    )
    if not arguments.no_peers:
        peers(columns, loss, one)
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
