"""The explorer with 2,000 runs: bytes of the page, and how long a change takes.

    python -m tests.benchmarks.explorer_speed [REPORT ...]

Makes runs of eight families on three corpora with laws and learning curves, writes the
page, opens it in Chromium and changes what is shown, reading a pixel back each time.
Prints how long Chromium takes to open the page, and the median and the largest of each
kind of change in milliseconds; the same of each REPORT, a report.html with its figures.
Expected: a page under 5 MB, the median of every kind of change under 100 ms.
"""

from __future__ import annotations

import html
import json
import re
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.report import build
from analysis.results import Analysis
from tests.support.browser import BROWSER, opened

RUNS = 2_000
FAMILIES = tuple(f"family {letter}" for letter in "abcdefgh")
CORPORA = ("web", "code", "books")
MOST_MEGABYTES, MOST_MILLISECONDS = 5.0, 100.0
SCRIPT = """
document.querySelector("#explorer details").open = true;
// The page is read and its own scripts have run.
const out = {"opening": [performance.now()]};
const time = async (name, settings, times = 15) => {
  out[name] = [];
  for (let k = 0; k < times; k++) {
    out[name].push(await explorer.change(settings[k % settings.length]));
  }
};
(async () => {
await explorer.change({});
await time("axis", [{x: "flops"}, {x: "params"}, {x: "tokens"}]);
await time("laws", [{laws: false}, {laws: true}]);
await time("residuals", [{what: "residual"}, {what: "loss"}]);
MORE
document.body.dataset.check = JSON.stringify(out);
done();
})();
"""
# What the made runs have, and not every report.
MORE = f"""
await time("families", [{{families: ["family a"]}}, {{families: {list(FAMILIES)}}}]);
await time("sizes", [{{least: 3}}, {{least: 0}}]);
await time("learning curves", [{{what: "path"}}, {{what: "loss"}}]);
"""


def made(seed: int = 0) -> Analysis:
    """2,000 runs with the frames that the explorer draws."""
    rng = np.random.default_rng(seed)
    sizes, budgets = np.geomspace(1e6, 1e9, 12), np.geomspace(1e8, 1e11, 7)
    runs = pd.DataFrame(
        {
            "run_id": [f"{number:016x}" for number in rng.integers(2**62, size=RUNS)],
            "family": rng.choice(FAMILIES, RUNS),
            "corpus": rng.choice(CORPORA, RUNS),
            "params": rng.choice(sizes, RUNS),
            "tokens": rng.choice(budgets, RUNS),
            "learning_rate": rng.choice([1e-3, 2e-3, 4e-3], RUNS),
            "optimiser": "adamw",
            "batch": 256,
            "seed": rng.integers(3, size=RUNS).astype(str),
            "status": "done",
            "trajectory": "",
            "usable": True,
            "used": rng.random(RUNS) < 0.9,
        }
    )
    runs["flops"] = 6.0 * runs.params * runs.tokens
    ideal = 1.7 + 400 * runs.params**-0.34 + 410 * runs.tokens**-0.28
    runs["loss:web"] = ideal * np.exp(rng.normal(0, 0.01, RUNS))
    grid = pd.MultiIndex.from_product(
        [FAMILIES, CORPORA, sizes, np.geomspace(1e8, 1e11, 20)],
        names=["family", "corpus", "params", "tokens"],
    )
    curves = grid.to_frame(index=False).assign(target="web", law="joint")
    curves["loss"] = 1.7 + 400 * curves.params**-0.34 + 410 * curves.tokens**-0.28
    curves = curves.assign(low=0.99 * curves.loss, high=1.01 * curves.loss)
    left = runs[["family", "corpus", "params", "tokens"]].assign(
        target="web",
        law="joint",
        observed=runs["loss:web"],
        predicted=ideal,
        residual=np.log(runs["loss:web"] / ideal),
    )
    share = np.geomspace(0.001, 1, 40)
    paths = pd.concat(
        [
            pd.DataFrame(
                {
                    "run_id": run.run_id,
                    "step": np.arange(share.size),
                    "tokens": share * run.tokens,
                    "loss": 1.7
                    + 400 * run.params**-0.34
                    + 410 * (share * run.tokens) ** -0.28,
                }
            )
            for run in runs.itertuples()
        ]
    )
    return Analysis.of(
        title="2,000 runs",
        unit="nats/token",
        targets=("web",),
        runs=runs,
        curves=curves,
        residuals=left,
        paths=paths,
    )


def measured(page: Path, more: str = "") -> int:
    """Prints a page's figures; 1 where one is over its limit, or the page silent."""
    size = page.stat().st_size / 1e6
    dom, complaints = opened(page, SCRIPT.replace("MORE", more), real_time=True)
    found = re.search(r'data-check="([^"]*)"', dom)
    if found is None:
        print("the page did not answer", *complaints[:3])
        return 1
    slow = size > MOST_MEGABYTES
    print(f"{size:.2f} MB")
    for name, times in json.loads(html.unescape(found[1])).items():
        middle = statistics.median(times)
        slow |= middle > MOST_MILLISECONDS and name != "opening"
        print(f"  {name}: {middle:.0f} ms in the median, {max(times):.0f} ms at most")
    return int(slow)


def main(arguments: list[str]) -> int:
    if BROWSER is None:
        print("not measured: Chromium is not installed")
        return 1
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        page.write_text(build.page(made(), {}))
        print(f"page of {RUNS} made runs, without figures: ", end="")
        slow = measured(page, MORE)
    for path in arguments:
        print(f"{path}: ", end="")
        slow |= measured(Path(path))
    return slow


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
