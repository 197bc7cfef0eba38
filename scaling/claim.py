"""Claims: sentences that a study is meant to decide, stated before it trains.

    claims = (
        Claim(
            "LSTMs and Transformers of the same data compute one function.",
            quantity="excess",
            rule="within",
            margin=0.01,
        ),
        Claim(
            "A Transformer is worth at most twice the data.",
            quantity="equivalents.factor",
            rule="below",
            margin=2.0,
            where={"kind": "architecture", "alternative": "transformer"},
        ),
    )

`scaling freeze` keeps them with the grid; the analysis decides them by the frames of
its questions. See analysis/questions/_quantities.py for quantities that have a name.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from scaling.errors import UserError, unknown

WITHIN, OUTSIDE, ABOVE, BELOW = "within", "outside", "above", "below"
RULES = (WITHIN, OUTSIDE, ABOVE, BELOW)
EVERY, ANY = "every", "any"
LARGEST = "largest"


@dataclasses.dataclass(frozen=True)
class Claim:
    """A sentence and the rule by which numbers decide it.

    Attributes:
      sentence: the claim as a full sentence.
      quantity: a name that the analysis knows, or FRAME.COLUMN of its frames.
      rule: where the quantity is claimed to lie: "within" the margin (equivalence, by
        two one-sided tests), "outside" the margin, "above" its upper end or "below"
        its lower end.
      margin: the lower and upper end, in the unit of the quantity. A single number x
        means -x and x for "within" and "outside", and x for the other rules.
      where: selects rows of the frame: a value or several values for each column.
      at: "largest" for the rows of the largest size and budget, or "every" for all.
      over: where several rows are selected, whether the claim is about "every" one of
        them or about "any".

    Raises:
      UserError: an empty sentence or quantity, an unknown rule, or a margin that is
        neither a number nor an ordered pair of numbers.

    >>> Claim("The two compute one function.", "excess", "within", 0.01).margin
    (-0.01, 0.01)
    """

    sentence: str
    quantity: str
    rule: str
    margin: float | tuple[float, float]
    where: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    at: str = LARGEST
    over: str = EVERY

    def __post_init__(self) -> None:
        if not self.sentence.strip():
            raise UserError("sentence", self.sentence, "say what is claimed")
        if not self.quantity:
            raise UserError("quantity", self.quantity, "give a name or FRAME.COLUMN")
        for name, known in (
            ("rule", RULES),
            ("at", (LARGEST, EVERY)),
            ("over", (EVERY, ANY)),
        ):
            if getattr(self, name) not in known:
                raise unknown(name, getattr(self, name), known)
        if not isinstance(self.where, Mapping):
            raise UserError("where", self.where, "give values by column")
        object.__setattr__(self, "margin", ends(self.rule, self.margin))


def ends(rule: str, margin: Any) -> tuple[float, float]:
    """Lower and upper end of a margin.

    Raises:
      UserError: the margin is neither a number nor an ordered pair of numbers.
    """
    whole = isinstance(margin, tuple | list)
    try:
        pair = [float(x) for x in (margin if whole else [margin])]
    except (TypeError, ValueError):
        pair = []
    if len(pair) == 1 and not whole:
        pair.insert(0, -pair[0] if rule in (WITHIN, OUTSIDE) else pair[0])
    one_sided = rule in (ABOVE, BELOW)
    ordered = len(pair) == 2 and (
        pair[0] < pair[1] or (one_sided and pair[0] == pair[1])
    )
    if not ordered or not all(map(math.isfinite, pair)):
        expected = "give a number above zero, or the lower and the upper end"
        if one_sided:
            expected = "give a number, or the lower and the upper end"
        raise UserError("margin", margin, expected)
    return pair[0], pair[1]
