"""What a run is scored by: its quantities and their units, known without JAX.

Objectives compute them (objective.py), and a record's readings carry the units, so that
losses of two objectives never pass for one.
"""

from __future__ import annotations

import dataclasses
import math

from scaling.families import Images, Spec, Tokens
from scaling.run import Run

# Noise levels at which denoisers are read. Pictures have a standard deviation of 0.5;
# from 0.05, where single pixels still show, to 3.2, where only the coarsest shape does.
LEVELS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)

_BITS = 1.0 / math.log(2.0)


@dataclasses.dataclass(frozen=True)
class Quantity:
    """One quantity of a reading: `scale` times a sum over documents, per something.

    Attributes:
      of: the column of a `Score` that is added up; "nats" is the loss's.
      per: "tokens" or "bytes" (of pictures: values of pixels).
    """

    name: str
    unit: str
    of: str = "nats"
    per: str = "tokens"
    scale: float = 1.0


TEXT = (
    Quantity("loss", "nats/token"),
    Quantity("bits_per_byte", "bits/byte", per="bytes", scale=_BITS),
)
SEQUENCE = (
    Quantity("loss", "nats/dim"),
    Quantity("bits_per_dim", "bits/dim", scale=_BITS),
)
DENOISE = (
    Quantity("loss", "weighed squared error"),
    *(Quantity(f"error_at_{s:g}", "squared error", of=f"{s:g}") for s in LEVELS),
    Quantity("bits_per_dim_bound", "bits/dim", of="bound", scale=_BITS),
)


# The loss where a model reads no caption, or another picture's.
CAPTIONS = ("no_caption", "wrong_caption")


def of(spec: Spec, pictures: bool, captions: bool = False) -> tuple[Quantity, ...]:
    """The quantities of runs that read `spec`, the loss first.

    Args:
      pictures: whether a sequence is that of a picture's pixels.
      captions: whether pictures have some.
    """
    if not isinstance(spec, Images):
        assert isinstance(spec, Tokens)
    known = DENOISE if isinstance(spec, Images) else SEQUENCE if pictures else TEXT
    if not captions:
        return known
    more = (Quantity(f"loss_{how}", known[0].unit, of=how) for how in CAPTIONS)
    return (*known, *more)


def loss_unit(run: Run) -> str:
    """The unit of a run's loss, in training as in scoring."""
    if run.objective == "denoise":
        return DENOISE[0].unit
    return SEQUENCE[0].unit if run.of_pictures else TEXT[0].unit
