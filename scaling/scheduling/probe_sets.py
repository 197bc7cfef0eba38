"""The probe sets of a study: cut and checked before training, kept in its workdir."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

from scaling import probe_file
from scaling.corpora import Prepared, _probes, _truth
from scaling.errors import UserError
from scaling.families import Spec, Tokens
from scaling.run import Probes, Run
from scaling.store import Store

# The identity of a probe set: its corpus and positions, not the times of keeping.
_Set = tuple[Probes, int, str]  # windows' length, tokenizer


class ProbeSets:
    """The probe sets that a study's runs name, each cut once."""

    def __init__(self, store: Store):
        self._store = store
        self._cut: dict[_Set, probe_file.ProbeSet] = {}
        self._kept: set[_Set] = set()

    def admit(self, runs: Iterable[Run], prepared: Mapping[str, Prepared]) -> None:
        """Cuts what is new.

        Args:
          runs: of one tokenizer.
          prepared: of that tokenizer, by `Part.key`.

        Raises:
          UserError: a held-out split that gives fewer positions, or one name for
            several sets.
        """
        for run in runs:
            for probes in run.probes:
                key = _set(probes, run)
                if key not in self._cut:
                    self._check_name(key)
                    self._cut[key] = _probes.cut(key[0], run.length, prepared)

    def _check_name(self, new: _Set) -> None:
        for old, *_ in self._cut:
            if old.name == new[0].name and old != new[0]:
                raise UserError(
                    "probes.name",
                    old.name,
                    "names two sets of positions; give every run of a study the same "
                    "probes, or each set its own name",
                )

    def digests(self) -> list[str]:
        """Of all sets, in order."""
        return sorted(made.digest for made in self._cut.values())

    def keep(self) -> None:
        """Writes sets, and the truth where it is known, that are not there yet."""
        for key in self._cut.keys() - self._kept:
            probes, made = key[0], self._cut[key]
            digest = probe_file.write(self._store, made)
            known = key[2] == _truth.TOKENIZER and _truth.known(probes)
            if known and not probe_file.has_truth(self._store, digest):
                truth = _truth.predictive(probes.part, made)
                probe_file.write_truth(self._store, digest, truth)
            self._kept.add(key)


def _set(probes: Probes, run: Run) -> _Set:
    where = dataclasses.replace(probes, at=(1.0,), best=False)
    return where, run.length, run.data.tokenizer


def size(run: Run, spec: Spec) -> int:
    """Bytes that a run's predictions take on disk at most, before compression."""
    arrays = sum(p.positions * (len(p.at) + p.best) for p in run.probes)
    outputs = spec.vocab if isinstance(spec, Tokens) else spec.size
    return 2 * outputs * arrays
