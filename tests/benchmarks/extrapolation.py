"""How often 95% new-run intervals hold runs of up to ten times the fitted compute.

    SCALING_TABLES=FOLDER python -m tests.benchmarks.extrapolation [NAME ...]

From every published table in FOLDER (for one evaluation set, experiment or subset at a
time) the runs above a tenth of the largest compute are left out, the rest is fitted as
the analysis does, and the left-out runs are predicted: by the mixture of laws, and by
the additive law alone. Nothing of the left-out runs is seen before. Wanted of the
mixture: 90 to 98% of the left-out runs inside, each table by itself.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from analysis.design.cells import target_frame
from analysis.fitting.fit import DELTA, Refusal
from analysis.inference import intervals
from analysis.questions import holdout
from analysis.surfaces.surfaces import Surfaces, fit_joint, fit_one
from analysis.tables.load import from_frame

# Of the largest compute: what is fitted.
FITTED = 0.1
DRAWS = 200
COLUMNS = ["family", "corpus", "params", "tokens", "flops", "loss"]
SUBSETS = ("hot", "cool_end", "lr_ablation_hot")


def tables(folder: Path) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Name of the table, of a part that is analysed by itself, and its runs."""
    one = pd.read_csv(folder / "chinchilla_epoch.csv")
    yield "chinchilla_epoch", "all", one
    sets = pd.read_csv(folder / "gadre_overtraining.csv").assign(family="openlm")
    for name, rows in sets.groupby("eval_set", sort=False):
        yield "gadre_overtraining", str(name), rows
    shapes = pd.read_csv(folder / "gemstones.csv").assign(family="gemma")
    for name in SUBSETS:
        yield "gemstones", name, shapes[shapes.subset == name]
    routed = pd.read_csv(folder / "clark_routing_final.csv")
    routed = routed.assign(flops=routed.flops_per_step * routed.step)
    routed["family"] += " x" + routed.num_experts.astype(str)
    yield "clark_routing_final", "all", routed
    points = pd.read_csv(folder / "porian_isoflop.csv")
    for name, rows in points.groupby("experiment", sort=False):
        yield "porian_isoflop", str(name), rows


def predicted(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, str]:
    """The left-out runs by every law shown, the laws used, and why there is none."""
    given = rows[COLUMNS].reset_index(drop=True)
    # Each evaluation set is one text for all runs.
    table = from_frame(given, target="shared")
    frame = target_frame(table, table.targets[0])
    most = frame.flops.groupby([frame.family, frame.corpus]).transform("max")
    kept = (frame.flops <= FITTED * most * (1.0 + 1e-9)).to_numpy()
    data = intervals.sample(frame[kept])
    drawn = intervals.draw(data, DRAWS, 0)
    single = {}
    for (family, corpus), part in data.frame.groupby(["family", "corpus"]):
        mine = data.frame.index.isin(part.index)
        head = (str(family), str(corpus), np.nan)
        single[head[:2]] = fit_one("chinchilla", head, drawn, mine, DELTA, 0)
    families = tuple(sorted(data.frame.family.unique()))
    corpora = tuple(sorted(data.frame.corpus.unique()))
    joint = fit_joint(drawn, DELTA, 0)
    surfaces = Surfaces(data, drawn, families, corpora, single, [], joint)
    found, used = holdout.predict(surfaces, frame[~kept], "t", DELTA, 0)
    reason = joint.outcome.reason if isinstance(joint.outcome, Refusal) else ""
    return found, used, reason


def line(
    table: str, part: str, found: pd.DataFrame, used: pd.DataFrame
) -> dict[str, object]:
    out: dict[str, object] = {"table": table, "part": part}
    for law in (holdout.MIXTURE, "chinchilla"):
        mine = found[found.law == law]
        out["runs"] = len(mine) or out.get("runs", 0)
        out[f"{law} inside"] = mine.inside.mean()
        error = np.log(mine.predicted) - np.log(mine.observed)
        out[f"{law} error"] = float(np.abs(error).mean())
        out[f"{law} width"] = float((np.log(mine.high) - np.log(mine.low)).median())
    out["widening"] = used.widening.median()
    return out


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """A row a table: runs, and means over them."""
    values = [name for name in rows if name not in ("table", "part", "runs")]
    out = []
    for table, part in rows.groupby("table", sort=False):
        row: dict[str, object] = {"table": table, "parts": len(part)}
        row["runs"] = int(part.runs.sum())
        for name in values:
            known = part[part[name].notna()]
            row[name] = np.average(known[name], weights=known.runs)
        out.append(row)
    return pd.DataFrame(out)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", nargs="*", help="tables; all by default")
    names = parser.parse_args().name
    folder = os.environ.get("SCALING_TABLES", "")
    if not Path(folder, "chinchilla_epoch.csv").is_file():
        print("skipped: set SCALING_TABLES to the folder of published run tables")
        return 0
    warnings.simplefilter("ignore", RuntimeWarning)
    rows, refused = [], []
    for table, part, given in tqdm(list(tables(Path(folder))), unit="table"):
        if names and table not in names:
            continue
        found, used, reason = predicted(given)
        if found.empty:
            refused.append(f"{table} ({part}): no prediction; {reason}")
            continue
        rows.append(line(table, part, found, used))
        tqdm.write(pd.DataFrame(rows[-1:]).to_string(index=False, header=False))
    if rows:
        print(summary(pd.DataFrame(rows)).to_string(index=False, float_format="%.3f"))
    print("\n".join(refused))
    return 0


if __name__ == "__main__":
    sys.exit(main())
