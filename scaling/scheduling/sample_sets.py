"""The sample sets of a study: cut and checked before training, kept in its workdir."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

from scaling import inpainting
from scaling.corpora import Prepared, _samples
from scaling.errors import UserError
from scaling.families import Images
from scaling.run import Run, Samples
from scaling.store import Store
from scaling.writing import write_once


class SampleSets:
    """The sample sets that a study's runs name, each cut once."""

    def __init__(self, store: Store):
        self._store = store
        self._cut: dict[Samples, _samples.SampleSet] = {}
        self._kept: set[str] = set()

    def admit(self, runs: Iterable[Run], prepared: Mapping[str, Prepared]) -> None:
        """Cuts what is new.

        Raises:
          UserError: a held-out split that gives fewer pictures, or one name for several
            sets.
        """
        for run in runs:
            for samples in run.samples:
                _check_halves(samples, prepared)
                # What is done with a set's pictures is no part of it.
                same = dataclasses.replace(samples, at=(1.0,), hidden=0)
                if same in self._cut:
                    continue
                if any(old.name == same.name for old in self._cut):
                    raise UserError(
                        "samples.name",
                        same.name,
                        "names two sets; give every run of a study the same samples, "
                        "or each set its own name",
                    )
                self._cut[same] = _samples.cut(same, prepared)

    def keep(self) -> None:
        """Writes sets that are not there yet."""
        for made in self._cut.values():
            if made.digest not in self._kept:
                path = self._store.path(_samples.FOLDER, f"{made.digest}.npz")
                write_once(path, made.to_bytes())
                self._kept.add(made.digest)


def _check_halves(samples: Samples, prepared: Mapping[str, Prepared]) -> None:
    key = samples.parts[0].key
    images = prepared[key].images
    if samples.hidden and images is not None and images.height < 2:
        raise UserError(
            "samples.hidden",
            samples.hidden,
            f"pictures of {key} are of one row, which has no halves: give 0",
        )


# Known denoisers that are kept beside the samples, at most; see training/landmarks.py.
LANDMARKS = 3


def size(run: Run, images: Images | None) -> int:
    """Bytes that a run's samples take on disk at most, before compression.

    Args:
      images: what its corpus holds; None of text.
    """
    if images is None:
        return 0
    total = 0
    for samples in run.samples:
        pictures = 2 * samples.count * images.size  # float16
        denoises = run.objective == "denoise"
        made = pictures * (1 + denoises * len(samples.sigmas))
        # Of each sample: the nearest training picture in bytes, and four distances.
        nearest = pictures // 2 + 4 * 4 * samples.count
        total += len(samples.at) * (made + nearest) + denoises * LANDMARKS * made
        # What is expected of lower halves by the run and by two landmarks, and of each
        # picture its number and two more.
        hidden = images.height - inpainting.shown(images.height)
        lower = hidden * images.width * images.channels
        total += samples.hidden * (3 * 2 * lower + 4 * 4)
    return total
