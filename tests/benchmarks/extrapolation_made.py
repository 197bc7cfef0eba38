"""How often 95% new-run intervals hold runs ten times dearer, where the truth is known.

    python -m tests.benchmarks.extrapolation_made [--studies 132] [--minutes 10]

As tests.benchmarks.extrapolation does with published tables, but of made studies: six
of their laws are among those that predict (additive, with an outer exponent of .7 and
of 1.3, with one exponent, Kaplan's, and one whose exponent of data grows with the size)
and five are not (a drift with compute, an interaction of size and data, a break in the
size, a break in compute, and logarithms of data). They lie on a grid, on lines of equal
compute, on a ladder of ratios of tokens to size, or are scattered; the noise is normal,
of Student's t with 4 degrees of freedom, or falls with compute.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable

import numpy as np
import pandas as pd
from tqdm import tqdm

from tests.benchmarks.extrapolation import line, predicted

Surface = Callable[[np.ndarray, np.ndarray], np.ndarray]
NOISES = ("normal", "tails", "shrinks")
LEVELS = (0.003, 0.005, 0.01)


def terms(n: np.ndarray, d: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of Besiroglu et al. 2024, above a floor of 1.8172."""
    return 482.01 / n**0.3478, 2085.43 / d**0.3658


def additive(n: np.ndarray, d: np.ndarray) -> np.ndarray:
    return 1.8172 + sum(terms(n, d))


def outer(power: float) -> Surface:
    def surface(n: np.ndarray, d: np.ndarray) -> np.ndarray:
        both = np.sum(terms(n, d), axis=0)
        return 1.8172 + np.median(both) * (both / np.median(both)) ** power

    return surface


def growing(n: np.ndarray, d: np.ndarray) -> np.ndarray:
    """The exponent of data grows with the size."""
    of_size = (n / 1e9) ** 0.06
    of_data = 0.55 * (n / 1e9) ** -0.05 * (d / 1e10) ** (-0.33 * of_size)
    return 1.6 + 0.9 * (n / 1e8) ** -0.25 + of_data


def size_break(n: np.ndarray, d: np.ndarray) -> np.ndarray:
    a, b = terms(n, d)
    return 1.8172 + a * (1 + (n / 2e9) ** 2) ** 0.075 + b


WITHIN: dict[str, Surface] = {
    "additive": additive,
    "outer .7": outer(0.7),
    "outer 1.3": outer(1.3),
    "tied": lambda n, d: 1.7 + 300 / n**0.33 + 900 / d**0.33,
    "kaplan": lambda n, d: ((6.4e13 / n) ** (0.076 / 0.103) + 1.8e13 / d) ** 0.103,
    "growing exponent": growing,
}
OUTSIDE: dict[str, Surface] = {
    "drift": lambda n, d: additive(n, d) * np.exp(0.0012 * np.log(n * d / 1e18) ** 2),
    "interaction": lambda n, d: additive(n, d) + 0.6 * np.sqrt(np.prod(terms(n, d), 0)),
    "size break": size_break,
    "compute break": lambda n, d: (
        1.5 + np.sum(terms(n, d), 0) * (1 + 6 * n * d / 1e20) ** 0.03
    ),
    "logarithm": lambda n, d: (
        1.2 + 3.5 * (n / 1e7) ** -0.12 + 0.08 * np.log1p(1e12 / d)
    ),
}
SURFACES = WITHIN | OUTSIDE


def grid(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Six sizes and budgets, 15% of the cells missing."""
    sizes, budgets = np.geomspace(5e7, 5e9, 6), np.geomspace(1e9, 3e11, 6)
    n, d = (x.ravel() for x in np.meshgrid(sizes, budgets))
    kept = rng.random(n.size) > 0.15
    return n[kept], d[kept]


def isoflop(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Ten budgets of compute, seven sizes each, 10% missing."""
    flops, ratio = np.meshgrid(np.geomspace(1e18, 1e22, 10), np.geomspace(0.2, 5, 7))
    n = (np.sqrt(flops / 120) * ratio).ravel()
    kept = rng.random(n.size) > 0.1
    return n[kept], (flops.ravel() / 6 / n)[kept]


def ladder(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Four small sizes at eight ratios of tokens to size, two larger at few."""
    pairs = [
        (n, m) for n in (1.1e7, 7.9e7, 1.5e8, 4.1e8) for m in 5.0 * 2 ** np.arange(8)
    ]
    n, ratio = np.array([*pairs, (1.4e9, 20), (1.4e9, 160), (6.9e9, 20)]).T
    return n, n * ratio


def scattered(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    flops = np.exp(rng.uniform(np.log(1e18), np.log(3e21), 160))
    n = np.sqrt(flops / 120) * np.exp(rng.normal(0, 0.9, 160))
    return n, flops / 6 / n


DESIGNS = {"grid": grid, "isoflop": isoflop, "ladder": ladder, "scattered": scattered}


def made(number: int) -> tuple[str, str, pd.DataFrame]:
    """The law, the design with its noise, and the runs of one study."""
    rng = np.random.default_rng([7, number])
    law = list(SURFACES)[number % len(SURFACES)]
    round_ = number // len(SURFACES)
    design = list(DESIGNS)[round_ % len(DESIGNS)]
    kind = NOISES[(round_ + number) % len(NOISES)]
    n, d = DESIGNS[design](rng)
    noise = rng.standard_t(4, n.size) / np.sqrt(2) if kind == "tails" else 0.0
    noise = rng.normal(size=n.size) if kind != "tails" else noise
    if kind == "shrinks":
        noise *= (n * d / np.exp(np.log(n * d).mean())) ** -0.15
    level = LEVELS[(round_ // len(DESIGNS)) % len(LEVELS)]
    loss = SURFACES[law](n, d) * np.exp(level * noise)
    frame = pd.DataFrame({"params": n, "tokens": d, "flops": 6 * n * d, "loss": loss})
    return law, f"{design}, {kind}", frame.assign(family="a", corpus="d")


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Means over studies, each counted once, and how many hold all of their runs."""
    out = []
    for name, part in rows.groupby("kind", sort=False):
        row: dict[str, object] = {"law": name, "studies": len(part)}
        for law in ("mixture", "chinchilla"):
            for value in ("inside", "error", "width"):
                row[f"{law} {value}"] = part[f"{law} {value}"].mean()
        row["all inside"] = (part["mixture inside"] == 1.0).mean()
        row["under 80%"] = (part["mixture inside"] < 0.8).mean()
        row["widening"] = part.widening.mean()
        out.append(row)
    return pd.DataFrame(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=3 * 4 * len(SURFACES))
    parser.add_argument("--minutes", type=float, default=10.0)
    given = parser.parse_args()
    warnings.simplefilter("ignore", RuntimeWarning)
    end, rows = time.monotonic() + 60.0 * given.minutes, []
    for number in tqdm(range(given.studies), unit="study"):
        if time.monotonic() > end:
            break
        law, part, frame = made(number)
        found, used, _ = predicted(frame)
        if not found.empty:
            kind = "within" if law in WITHIN else "outside"
            rows.append(line(law, part, found, used) | {"law": law, "kind": kind})
    frame = pd.DataFrame(rows)
    every = [frame, frame.assign(kind="all"), frame.assign(kind=frame.law)]
    print(summary(pd.concat(every)).to_string(index=False, float_format="%.3f"))


if __name__ == "__main__":
    main()
