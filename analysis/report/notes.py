"""What a reader must know before believing a number: typed, and made from numbers."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.fitting.fit import Refusal
from analysis.formatting import UNNAMED, among, count, number, on, scale
from analysis.inference.verdict import decided
from analysis.questions import frontier
from analysis.questions.model_choice import BASE, WITHIN
from analysis.results import Note
from analysis.surfaces.surfaces import Fitted, Surfaces, doubts
from analysis.tables import exclusions
from analysis.tables.table import Table


def of_table(table: Table, excluded: pd.DataFrame) -> list[Note]:
    """What the table looked wrong in, and how many rows each reason left out."""
    out = [Note("warning", "table", text) for text in table.warnings]
    out += [Note("asked", "effects", text) for text in table.asked]
    out += [Note("read", "table", text) for text in table.said]
    whole = excluded.assign(reason=exclusions.kinds(excluded))
    for reason, left in whole.groupby("reason").run_id.nunique().items():
        text = f"{left} run{'s' * (left != 1)} left out: {reason}."
        out.append(Note("excluded", "table", text))
    if len(exclusions.listed(excluded)) < len(excluded):
        text = (
            f"Of the rows that one reason left out, the first {exclusions.LISTED} are "
            "listed; all are counted."
        )
        out.append(Note("excluded", "table", text))
    return out


def of_tuning(cells: pd.DataFrame, tried: pd.DataFrame) -> list[Note]:
    """Best settings at the edge of what was tried, and unequal tuning effort.

    Args:
      tried: the settings of the cells, as in `Analysis.settings`.
    """
    place = ["family", "corpus", "params", "tokens", "unique_tokens"]
    tuned = cells.drop_duplicates(place)
    out = _edges(tried.drop_duplicates([*place, "setting"]) if len(tried) else tried)
    counts = tuned.groupby("family").settings.sum()
    if counts.nunique() > 1:
        given = ", ".join(f"{family} {count}" for family, count in counts.items())
        text = (
            "Families had unequal tuning effort (settings tried over all cells): "
            f"{given}."
        )
        out.append(Note("warning", "tuning", text))
    tries = tuned.settings.value_counts().sort_index()
    if len(tries) > 1:
        given = ", ".join(f"{count} in {cells} cells" for count, cells in tries.items())
        text = (
            f"Cells tried unequal numbers of settings ({given}): trying more settings "
            "lowers the best loss by chance."
        )
        out.append(Note("warning", "tuning", text))
    if (tuned.rates <= 1).all():
        text = "No cell tried two learning rates: how well each is tuned is not known."
        out.append(Note("undetermined", "tuning", text))
    return out


def _edges(tried: pd.DataFrame) -> list[Note]:
    """The numeric settings whose best value is the least or the most that was tried."""
    out: list[Note] = []
    if tried.empty:
        return out
    for (family, setting), part in tried.groupby(["family", "setting"], sort=False):
        edge = part[part.edge != ""]
        if edge.empty:
            continue
        named = [
            f"{row.edge} end at {row.value} ({scale(row.params, row.tokens)})"
            for row in edge.head(MOST_NAMED).itertuples()
        ]
        more = len(edge) - MOST_NAMED
        text = (
            f"The best {setting} of {family} lies at the edge of its grid in "
            f"{len(edge)} of {len(part)} tuned cells: {', '.join(named)}"
            f"{f' and {more} more' if more > 0 else ''}; a wider grid may find a lower "
            "loss."
        )
        out.append(Note("edge", "tuning", text))
    return out


def of_optima(frame: pd.DataFrame) -> list[Note]:
    """Cells in which a quadratic in the log rate has no optimum among the rates."""
    out: list[Note] = []
    if frame.empty:
        return out
    cells = frame.drop_duplicates(["family", "corpus", "params", "tokens"])
    for family, part in cells.groupby("family"):
        warned = part[part.warning != ""].warning.value_counts()
        if warned.empty:
            continue
        given = ", ".join(f"{text} ({count})" for text, count in warned.items())
        text = (
            f"A quadratic in the log rate gives {family} no optimum in {warned.sum()} "
            f"of {len(part)} cells with two rates or more: {given}."
        )
        out.append(Note("warning", "tuning", text))
    return out


def of_fits(surfaces: Surfaces, target: str) -> list[Note]:
    """Refusals, and how many fits each doubt concerns: one sentence each a target.

    Which fit has which doubt stands in the `flag` of `quality`.
    """
    out = []
    refused: dict[str, list[str]] = {}
    doubted: dict[str, list[str]] = {}
    for fitted in surfaces.everything():
        found = fitted.outcome
        if isinstance(found, Refusal) and fitted is surfaces.joint:
            text = f"The joint law is refused on target {target}: {found.reason}."
            out.append(Note("refused", "joint", text))
        elif isinstance(found, Refusal):
            refused.setdefault(found.reason, []).append(_name(fitted))
        elif fitted is surfaces.joint:
            for doubt in doubts(fitted):
                text = f"The joint law on target {target}: {doubt}."
                out.append(Note(_kind(doubt), "joint", text))
        else:
            for doubt in doubts(fitted):
                doubted.setdefault(doubt.split(":")[0], []).append(_name(fitted))
    for reason, named in refused.items():
        text = f"{_count(named)} on target {target} cannot be fitted: {reason}."
        out.append(Note("refused", "fits", text))
    total = len(surfaces.everything()) - 1
    for doubt, named in doubted.items():
        text = f"{_count(named)} of {total} on target {target}: {doubt}."
        out.append(Note(_kind(doubt), "fits", text))
    return out


def _reach(values: pd.Series) -> str:
    return f"{count(values.min())} to {count(values.max())}"


def _name(fitted: Fitted) -> str:
    at = ""
    if np.isfinite(fitted.params):
        at = f" at {count(fitted.params)} parameters"
    return f"{fitted.law.name} of {fitted.family}{on(fitted.corpus)}{at}"


def _count(named: list[str]) -> str:
    """How many fits, the first of them by name."""
    first = f"{len(named)} fit{'s' * (len(named) != 1)} ({named[0]}"
    return first + (", ...)" if len(named) > 1 else ")")


def _kind(doubt: str) -> str:
    return "bound" if "on a bound" in doubt else "warning"


def of_equivalents(frame: pd.DataFrame) -> list[Note]:
    """How many effects are open, how many data cannot match, and which are disputed.

    One sentence a target; each row says the rest in its `flag`.
    """
    out: list[Note] = []
    if frame.empty:
        return out
    whole = frame[frame.params.isna() & (frame.fixed == "*")]
    for target, part in _first(whole).groupby("target", sort=False):
        open_ = part[(part.low <= 1.0) & (part.high >= 1.0)]
        if len(open_):
            text = (
                f"{len(open_)} of {len(part)} swaps show no difference on target "
                f"{target}, over all cells: {_swaps(open_)}."
            )
            out.append(Note("undetermined", "effects", text))
        never = part[part.p_infinite > 0]
        if len(never):
            text = (
                f"No amount of data matches {_swaps(never)} in some of the draws (up "
                f"to {never.p_infinite.max():.0%}), on target {target}."
            )
            out.append(Note("warning", "effects", text))
    return out + _disputes(whole)


MOST_NAMED = 4


def _first(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of each target's leading method: its frame lists that first."""
    leads = frame.groupby("target").method.transform("first")
    return frame[frame.method == leads]


def _swaps(frame: pd.DataFrame) -> str:
    """The swaps of a frame, the first few by name."""
    named = list(
        dict.fromkeys(
            f"{row.baseline} to {row.alternative}" for row in frame.itertuples()
        )
    )
    more = len(named) - MOST_NAMED
    return ", ".join(named[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _disputes(whole: pd.DataFrame) -> list[Note]:
    """Overall effects on which the leading law and each family's own disagree."""
    apart = []
    keys = ["target", "kind", "baseline", "alternative"]
    for _, part in whole.groupby(keys, sort=False):
        by = part.set_index("method")
        if by.index[0] == "family" or "family" not in by.index:
            continue
        one, two = by.iloc[0], by.loc["family"]
        if not _meet(one.low, one.high, two.low, two.high):
            apart.append(one)
    out = []
    for target, part in pd.DataFrame(apart, columns=whole.columns).groupby("target"):
        text = (
            "The leading law and the laws of each family alone disagree on "
            f"{_swaps(part)} (target {target}, over all cells)."
        )
        out.append(Note("disagree", "effects", text))
    return out


def _meet(low: float, high: float, other_low: float, other_high: float) -> bool:
    """Whether two intervals overlap; a missing end settles nothing, so yes."""
    return not (low > other_high or other_low > high)


def of_agreement(frame: pd.DataFrame) -> list[Note]:
    """How many measured effects the leading law does not give, the furthest off."""
    out = []
    for target, part in frame.groupby("target", sort=False):
        apart = part[~part.agrees.astype(bool)]
        if apart.empty:
            continue
        off = (apart.measured - apart.modelled).abs()
        row = apart.loc[off.idxmax()]
        text = (
            f"Matched cells and the leading law disagree on {len(apart)} of "
            f"{len(part)} swaps, on target {target}; most on {row.baseline} to "
            f"{row.alternative}{among(row.fixed)}: log loss {row.measured:+.4f} "
            f"measured, {row.modelled:+.4f} by the law."
        )
        out.append(Note("disagree", "effects", text))
    return out


def of_interactions(frame: pd.DataFrame) -> list[Note]:
    """Which swaps have no single effect: it depends on scale or the fixed level."""
    out = []
    deciding = frame[frame.method == "family"] if len(frame) else frame
    deciding = frame if deciding.empty else deciding
    for target, part in deciding.groupby("target", sort=False):
        differs = part[part.differs.astype(bool)]
        if differs.empty:
            continue
        text = (
            f"The effect of {_swaps(differs)} depends on scale or on what is held "
            "fixed "
            f"(target {target}): read it per cell, its overall value is an average of "
            "different effects."
        )
        out.append(Note("warning", "effects", text))
    return out


def of_nested(nested: pd.DataFrame, models: pd.DataFrame) -> list[Note]:
    """Parameters that the joint law shares and the runs do not, and a better law."""
    out = []
    for target, part in nested.groupby("target", sort=False):
        # That the floor differs between corpora is what the joint law says already.
        own = part[part.differs.astype(bool) & (part.fixed == BASE)]
        known = models[(models.target == target) & (models.refused == "")]
        above = known.set_index("model").delta_aicc.get(BASE, np.nan)
        if own.empty or not above > WITHIN:
            continue
        best = known.loc[known.aicc.idxmin(), "model"]
        said = ", ".join(
            f"{row.parameter} across {row.across}" for row in own.itertuples()
        )
        # So few runs may be left that the joint law has no AICc at all.
        better = "is the best of those that so few runs have an AICc for"
        if np.isfinite(above):
            better = f"has an AICc lower by {above:.0f}"
        text = (
            f"The runs do not share what the joint law shares on target {target}: "
            f"{said} (parametric bootstrap); the law with {best} {better}, and effects "
            "are reported by it."
        )
        out.append(Note("disagree", "joint", text))
    return out


def of_verdicts(frame: pd.DataFrame) -> list[Note]:
    """Choices of the analysis that change a verdict."""
    out = []
    for target, part in frame.groupby("target", sort=False):
        moved = part[part.moves.astype(bool)]
        if moved.empty:
            continue
        said = ", ".join(
            f"{name} ({n})" for name, n in moved.setting.value_counts().items()
        )
        asked = len(part.drop_duplicates(["question", "baseline", "alternative"]))
        text = (
            f"Of {asked} verdicts on target {target}, another choice of the analysis "
            f"changes some: {said}."
        )
        out.append(Note("warning", "effects", text))
    return out


def of_ratios(frame: pd.DataFrame) -> list[Note]:
    """Pairs for which neither architecture nor data is shown to be the larger."""
    if frame.empty:
        return []
    out = []
    for target, part in frame[frame.params.isna()].groupby("target", sort=False):
        chance = part.p_architecture
        open_ = part[chance.notna() & ~decided(chance)]
        if len(open_):
            text = (
                f"Whether architecture or corpus matters more is open for {len(open_)} "
                f"of {len(part)} pairs of swaps on target {target}."
            )
            out.append(Note("undetermined", "effects", text))
    return out


def of_design(surfaces: Surfaces, target: str) -> list[Note]:
    """Factors that the design does not vary, and how far it reaches."""
    out = []
    for plural, names in (
        ("families", surfaces.families),
        ("corpora", surfaces.corpora),
    ):
        if len(names) < 2:
            shared = f"All runs share {names[0]}"
            if names[0] == UNNAMED:
                shared = f"The table names no {plural}"
            text = f"{shared}: two are needed for an effect of {plural}."
            out.append(Note("undetermined", "effects", text))
    frame = surfaces.data.frame
    wanted = len(surfaces.families) * len(surfaces.corpora)
    if len(surfaces.single) < wanted:
        text = (
            f"{wanted - len(surfaces.single)} of {wanted} combinations of family and "
            f"corpus have no runs on target {target}: the joint law's multipliers "
            "stand in for them."
        )
        out.append(Note("warning", "joint", text))
    text = (
        f"Fitted runs reach {_reach(frame.params)} parameters and "
        f"{_reach(frame.tokens)} tokens; beyond that every number is an extrapolation."
    )
    return [*out, Note("warning", "effects", text)]


def of_compute(fitted: pd.DataFrame, target: str) -> list[Note]:
    """Families that no comparison at equal compute can take in."""
    out = []
    known = fitted.dropna(subset="flops")
    for family in sorted(set(known.family) - set(frontier.comparable(known))):
        mine = known[known.family == family].flops.max()
        text = (
            f"At equal compute {family} is not compared on target {target}: its "
            "largest fitted run took "
            f"{number(mine, 2)} FLOPs, the largest of all "
            f"{number(known.flops.max(), 2)}."
        )
        out.append(Note("undetermined", "compute", text))
    return out


def of_noise(fitness: pd.DataFrame) -> list[Note]:
    """Lack of fit against the noise of seeds."""
    out = []
    for row in fitness.itertuples():
        if np.isnan(row.seed_noise):
            text = (
                f"No cell has two seeds on target {row.target}: the noise of a run is "
                "unknown and lack of fit cannot be compared with it."
            )
            out.append(Note("undetermined", "noise", text))
        elif row.ratio > 2.0:
            text = (
                f"Residuals of the {row.law} law (sd {row.lack_of_fit:.2%}) are "
                f"{row.ratio:.1f} times the noise of seeds ({row.seed_noise:.2%}) on "
                f"target {row.target}: the law misses something that the runs show."
            )
            out.append(Note("disagree", "noise", text))
    return out


def of_holdout(frame: pd.DataFrame, wanted: bool) -> list[Note]:
    """Largest cells outside their interval, or none set aside."""
    if frame.empty:
        if not wanted:
            return []
        text = "No cell was set aside: too few cells in every family and corpus."
        return [Note("undetermined", "holdout", text)]
    out = []
    for (law, target), part in frame.groupby(["law", "target"]):
        missed = int((~part.inside).sum())
        if missed:
            text = (
                f"The {law} law's 95% interval misses {missed} of {len(part)} largest "
                f"cells that were set aside, on target {target}."
            )
            out.append(Note("disagree", "holdout", text))
    return out
