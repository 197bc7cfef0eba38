"""How often 95% intervals contain the truth, over made studies of known surfaces.

    python -m tests.benchmarks.coverage [--studies 2000] [--scenarios NAME ...]
        [--minutes 9] [--state FILE] [--draws 399] [--bootstrap wild]

A study draws a design's losses from a known joint law of two families, fits the law as
the analysis does and asks whether the intervals of alpha, beta and of the
data-equivalent M_D of family b over a (in the middle of the design) contain what was
planted. Each finished study is a line of the state file; the same command goes on where
the last one stopped, so that a long run can be had a few minutes at a time.

Expected of 95% intervals: 93 to 97% with 100 runs or more, at least 90% with outliers
or under 60 runs, and a planted equality called a difference in at most 5% plus two
Monte-Carlo standard errors. The last scenarios are away from what a fit assumes: heavy
tails, noise that falls with compute, missing cells, correlated seeds, and losses of
other laws than the plain joint one, the last of them of none that is fitted. In these
the law that effects lead with is chosen as the analysis does, again in every draw.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import json
import os
import tempfile
import time
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from analysis.effects.data_equivalents import Equivalents
from analysis.fitting.fit import DELTA
from analysis.inference.intervals import Draws, draw, interval, sample
from analysis.surfaces import nested
from analysis.surfaces.surfaces import Fitted, Surfaces, fit_joint

# Besiroglu et al. 2024.
E, A, B, ALPHA, BETA = 1.8172, 482.01, 2085.43, 0.3478, 0.3658
CHUNK = 10
QUANTITIES = ("alpha", "beta", "M_D")


@dataclasses.dataclass(frozen=True)
class Scenario:
    """A design, its noise and what is planted in it.

    Attributes:
      rho: what family b gets out of its data, in data of family a.
      sizes, budgets, seeds: levels of N and D and runs of each cell; two families.
      noise: standard deviation of log loss.
      lost: share of the runs that are not there, more of them among large ones.
      outliers: share of the runs with a loss too high, by some ten times the noise.
      rates: learning rates a cell, each 1% of loss apart.
      shared: share of the noise's variance that a trajectory's budgets have in common;
        above 0 each size and seed is one trajectory over all budgets.
      corpora: how many there are; the second has what the first gets out of twice the
        data, and a floor 2% higher.
      gaps: share of the cells that are not there at all, at random.
      tails: degrees of freedom of Student's t for the noise; 0 is a normal one.
      shrinks: power of the compute by which the noise falls, about the middle's.
      common: share of the noise's variance that all runs of one cell have in common, so
        that their seeds are correlated.
      outer: the exponent around both terms.
      bend: how fast both exponents rise along the scale, which no law here has.
      chosen: the law is chosen as the analysis does, again in every draw.
      least: coverage that is asked for; 0 where it is only reported.
    """

    rho: float = 1.3
    sizes: int = 5
    budgets: int = 5
    seeds: int = 2
    noise: float = 0.005
    lost: float = 0.0
    outliers: float = 0.0
    rates: int = 1
    shared: float = 0.0
    corpora: int = 1
    gaps: float = 0.0
    tails: float = 0.0
    shrinks: float = 0.0
    common: float = 0.0
    outer: float = 1.0
    bend: float = 0.0
    chosen: bool = False
    least: float = 0.93


APART = Scenario(rho=2.0, corpora=2, seeds=1, gaps=0.15)
SCENARIOS = {
    "balanced": Scenario(),
    "unbalanced": Scenario(seeds=3, lost=0.3),
    "outliers": Scenario(outliers=0.05, least=0.9),
    "under 60 runs": Scenario(seeds=1, least=0.9),
    "multiplier 1.3": Scenario(sizes=6, budgets=6, noise=0.003),
    "equality": Scenario(rho=1.0),
    "three rates": Scenario(sizes=6, budgets=6, seeds=1, rates=3, least=0.0),
    "trajectories": Scenario(seeds=3, shared=0.5, least=0.0),
    # Away from the law and the noise that a fit assumes; one seed, two corpora.
    "heavy tails": dataclasses.replace(APART, tails=4.0),
    "heavy tails, chosen": dataclasses.replace(APART, tails=4.0, chosen=True),
    "shrinking noise": dataclasses.replace(APART, shrinks=0.15, chosen=True),
    "correlated seeds": dataclasses.replace(APART, seeds=2, common=0.5, chosen=True),
    "an outer exponent": dataclasses.replace(APART, outer=0.7, chosen=True),
    "no law of ours": dataclasses.replace(APART, bend=0.01, chosen=True),
}


def made(scenario: Scenario, rng: np.random.Generator) -> pd.DataFrame:
    """The runs of one study, as the analysis takes them."""
    axes = np.meshgrid(
        np.geomspace(5e7, 2e10, scenario.sizes),
        np.geomspace(1e9, 1e12, scenario.budgets),
        np.arange(2),
        np.arange(scenario.seeds),
        np.arange(scenario.rates),
        np.arange(scenario.corpora),
        indexing="ij",
    )
    params, tokens, family, seed, rate, corpus = (axis.ravel() for axis in axes)
    seen = tokens * np.where(family == 1, scenario.rho, 1.0) * 2.0**corpus
    terms = _term(params, A, ALPHA, scenario.bend)
    terms += _term(seen, B, BETA, scenario.bend)
    # An outer exponent bends the terms and leaves their size in the middle.
    middle = float(np.median(terms))
    loss = E * 1.02**corpus + middle * (terms / middle) ** scenario.outer
    cell = np.unique(
        np.stack([params, tokens, family, corpus]), axis=1, return_inverse=True
    )[1].ravel()
    noise = _noise(scenario, params * tokens, cell, rng)
    trajectory = np.arange(loss.size)
    if scenario.shared:
        _, trajectory = np.unique(
            np.stack([params, family, seed, rate]), axis=1, return_inverse=True
        )
        common = rng.normal(size=loss.size)[trajectory]
        noise = np.sqrt(scenario.shared) * common
        noise += np.sqrt(1.0 - scenario.shared) * rng.normal(size=loss.size)
    out = rng.random(loss.size) < scenario.outliers
    noise += out * 10.0 * np.abs(rng.normal(size=loss.size))
    frame = pd.DataFrame(
        {
            "family": np.where(family == 1, "b", "a"),
            "corpus": np.where(corpus == 1, "e", "d"),
            "size": params,
            "params": params,
            "tokens": tokens,
            "unique_tokens": tokens,
            "batch": 1.0,
            "quality": 1.0,
            "params_total": params,
            "flops": 6.0 * params * tokens,
            "learning_rate": 0.01 * 2.0**rate,
            "trajectory": trajectory.astype(str),
            "run_id": [f"{k:05d}" for k in range(loss.size)],
            "loss": loss * np.exp(scenario.noise * noise + 0.01 * rate),
        }
    )
    large = np.argsort(np.argsort(params * tokens)) / params.size
    kept = rng.random(params.size) >= 2.0 * scenario.lost * large
    if scenario.gaps:
        kept &= (rng.random(cell.max() + 1) >= scenario.gaps)[cell]
    return frame[kept].reset_index(drop=True)


def _term(x: np.ndarray, amplitude: float, exponent: float, bend: float) -> np.ndarray:
    """A power of x, bent in the logarithms about the middle of its range."""
    logs = np.log(x)
    away = logs - 0.5 * (logs.min() + logs.max())
    return np.asarray(amplitude * np.exp(-exponent * logs - bend * away**2))


def _noise(
    scenario: Scenario,
    compute: np.ndarray,
    cell: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Log residuals [n] in units of the scenario's noise."""

    def drawn(size: int) -> np.ndarray:
        if not scenario.tails:
            return rng.normal(size=size)
        # Of variance 1, as the normal ones.
        spread = np.sqrt(scenario.tails / (scenario.tails - 2.0))
        return rng.standard_t(scenario.tails, size=size) / spread

    noise = drawn(cell.size)
    if scenario.common:
        noise *= np.sqrt(1.0 - scenario.common)
        noise += np.sqrt(scenario.common) * drawn(int(cell.max()) + 1)[cell]
    middle = np.exp(np.log(compute).mean())
    return np.asarray(noise * (compute / middle) ** -scenario.shrinks)


def study(name: str, number: int, draws: int, bootstrap: str) -> dict[str, object]:
    """One made study: an entry (estimate, low, high) for each quantity."""
    scenario = SCENARIOS[name]
    rng = np.random.default_rng([zlib.crc32(name.encode()), number])
    drawn = draw(sample(made(scenario, rng)), draws, number, bootstrap)
    joint = fit_joint(drawn, DELTA, 0)
    out: dict[str, object] = {"scenario": name, "study": number}
    if joint.theta is None:
        return out
    surfaces = _surfaces(drawn, joint)
    found = {}
    if scenario.chosen:
        leading = nested.lead(surfaces, DELTA, 0)
        surfaces = leading.surfaces
        out["law"] = leading.model
    else:
        values = joint.law.natural(joint.theta)
        names = joint.law.names
        found = {key: values[:, names.index(key)] for key in QUANTITIES[:2]}
    middle = [(float(np.sqrt(5e7 * 2e10)), float(np.sqrt(1e9 * 1e12)))]
    model = Equivalents(surfaces.of_joint, middle)
    found["M_D"] = np.exp(model.log_factors(("a", "d"), ("b", "d"))[:, 0])
    for key, series in found.items():
        low, high = interval(series[1:])
        out[key] = [float(series[0]), float(low), float(high)]
    return out


def _surfaces(drawn: Draws, joint: Fitted) -> Surfaces:
    """The joint law alone."""
    frame = drawn.data.frame
    families, corpora = (
        tuple(sorted(frame[kind].unique())) for kind in ("family", "corpus")
    )
    return Surfaces(drawn.data, drawn, families, corpora, {}, [], joint)


def some(name: str, numbers: range, draws: int, bootstrap: str) -> list[str]:
    return [json.dumps(study(name, k, draws, bootstrap)) for k in numbers]


def truth(scenario: Scenario) -> dict[str, float]:
    return {"alpha": ALPHA, "beta": BETA, "M_D": scenario.rho}


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Coverage by scenario and quantity.

    Columns: scenario, quantity, studies, coverage, error (Monte-Carlo standard error),
    low and high (share of the misses whose interval lies below or above the truth),
    bias and width (means), differences (share whose M_D interval leaves 1 out).
    """
    out = []
    for name, part in rows.groupby("scenario", sort=False):
        for key, true in truth(SCENARIOS[name]).items():
            ends = np.array([row for row in part[key] if isinstance(row, list)], float)
            if not len(ends):
                continue
            estimate, low, high = ends.T
            inside = (low <= true) & (true <= high)
            share = inside.mean()
            apart = (low > 1.0) | (high < 1.0)
            out.append(
                {
                    "scenario": name,
                    "quantity": key,
                    "studies": len(ends),
                    "coverage": share,
                    "error": np.sqrt(share * (1.0 - share) / len(ends)),
                    "low": np.mean(high < true),
                    "high": np.mean(low > true),
                    "bias": np.mean(estimate - true),
                    "width": np.mean(high - low),
                    "differences": apart.mean() if key == "M_D" else np.nan,
                }
            )
    return pd.DataFrame(out)


def read(state: Path) -> pd.DataFrame:
    """Finished studies; a line that a kill cut short is none."""
    rows = []
    for line in state.read_text().splitlines() if state.is_file() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    frame = pd.DataFrame(rows, columns=["scenario", "study", *QUANTITIES])
    return frame.drop_duplicates(["scenario", "study"])


def run(
    names: list[str], studies: int, draws: int, bootstrap: str, minutes: float, to: Path
) -> None:
    """Adds what is left of `studies` a scenario to the state file, on two processes."""
    done = set(read(to)[["scenario", "study"]].itertuples(index=False, name=None))
    # Scenarios take turns, so that a run cut short has studied all of them.
    chunks = [
        (name, range(at, min(at + CHUNK, studies)))
        for at in range(0, studies, CHUNK)
        for name in names
    ]
    left = [(n, r) for n, r in chunks if any((n, k) not in done for k in r)]
    if to.is_file() and not to.read_bytes().endswith(b"\n"):
        to.write_text(to.read_text() + "\n")
    end = time.monotonic() + 60.0 * minutes
    # A process each and one thread in it: the matrices are small.
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    with (
        concurrent.futures.ProcessPoolExecutor(2) as pool,
        to.open("a") as file,
        tqdm(total=CHUNK * len(left), unit="study") as bar,
    ):
        waiting: set[concurrent.futures.Future[list[str]]] = set()
        while left or waiting:
            while left and len(waiting) < 4 and time.monotonic() < end:
                name, numbers = left.pop(0)
                waiting.add(pool.submit(some, name, numbers, draws, bootstrap))
            if not waiting:
                break
            finished, waiting = concurrent.futures.wait(
                waiting, return_when=concurrent.futures.FIRST_COMPLETED
            )
            for future in finished:
                lines = future.result()
                file.write("".join(line + "\n" for line in lines))
                file.flush()
                bar.update(len(lines))


def main() -> None:
    folder = Path(tempfile.gettempdir())
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=2000)
    parser.add_argument("--scenarios", nargs="*", default=list(SCENARIOS))
    parser.add_argument("--draws", type=int, default=399)
    parser.add_argument("--bootstrap", default="wild")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--state", type=Path)
    given = parser.parse_args()
    unknown = set(given.scenarios) - set(SCENARIOS)
    if unknown:
        parser.error(f"no scenario {unknown}; choose from {list(SCENARIOS)}")
    settings = f"{given.bootstrap}-{given.draws}"
    state = given.state or folder / f"coverage-{settings}.jsonl"
    run(
        given.scenarios,
        given.studies,
        given.draws,
        given.bootstrap,
        given.minutes,
        state,
    )
    rows = read(state)
    rows = rows[rows.scenario.isin(given.scenarios)]
    print(f"state {state}: {len(rows)} studies, {settings}, delta {DELTA:g}")
    print(summary(rows).to_string(index=False, float_format="%.4f"))


if __name__ == "__main__":
    main()
