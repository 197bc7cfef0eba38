"""The sample sets of a study: cut and checked before training, kept in its workdir."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

from scaling.corpora import Prepared, _samples
from scaling.errors import UserError
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
                same = dataclasses.replace(samples, at=(1.0,))
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
