"""Decides which records of a workdir may be analysed together in one table.

Losses are compared only where the training text and the evaluation text are the same.
The content digests in the records decide this, not the names: a folder may get new
files, an evaluation set may be cut to another length, and records of two workdirs may
be copied together. Where one name has several texts, one is used: the text of the runs
that a study of the workdir lists today and, if there are several, the text of the run
that finished last.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from scaling.errors import UserError
from scaling.record import Record
from scaling.run import Part

SHORT = 8  # digits of a digest that people read


@dataclasses.dataclass(frozen=True)
class Apart:
    """A record that is left out, on one evaluation set or, with "", on all."""

    run_id: str
    target: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Texts:
    """Several texts under one name.

    Attributes:
      name: a corpus's key, or an evaluation set's name where its cut differs.
      taken: digest of the one whose records are taken.
      others: how many records each of the others has, by digest.
    """

    name: str
    taken: str
    others: Mapping[str, int]

    def __str__(self) -> str:
        left = " and ".join(
            f"{count} record{'s' * (count != 1)} of {digest[:SHORT]}"
            for digest, count in self.others.items()
        )
        first = next(iter(self.others))[:SHORT]
        return (
            f"{self.name} names several texts: scaling-analysis takes "
            f"{self.taken[:SHORT]} and leaves out {left} (--text {first} "
            "takes that instead)"
        )


@dataclasses.dataclass(frozen=True)
class Pool:
    """The choice: what does not go with the rest, and the names of several texts."""

    apart: tuple[Apart, ...]
    texts: tuple[Texts, ...]


def part(entry: Mapping[str, Any]) -> Part:
    """A corpus as a record has it."""
    options = tuple((key, value) for key, value in entry.get("options", ()))
    return Part(entry["name"], entry["weight"], options)


def choose(
    records: Sequence[Record], listed: Collection[str] = (), text: str = ""
) -> Pool:
    """Takes one text of each name.

    Args:
      listed: ids of the runs that the workdir's studies name today.
      text: beginning of the digest of a text that is taken instead.

    Raises:
      UserError: no name with several texts has one with that digest.
    """
    by_corpus = _grouped(
        (key, digest, record)
        for record in records
        for key, digest in record.digests.items()
    )
    taken = {key: _taken(texts, listed, text) for key, texts in by_corpus.items()}
    by_set = _grouped(
        (entry["name"], _cut(entry), record)
        for record in records
        for entry in record.run.get("evaluation", ())
        if not _other(record, entry["parts"], taken)
    )
    cuts = {name: _taken(texts, listed, text) for name, texts in by_set.items()}
    several = tuple(
        Texts(
            name, choice[name], {d: len(r) for d, r in by.items() if d != choice[name]}
        )
        for groups, choice in ((by_corpus, taken), (by_set, cuts))
        for name, by in groups.items()
        if len(by) > 1
    )
    if text and not any(
        d.startswith(text) for t in several for d in (t.taken, *t.others)
    ):
        known = [d[:SHORT] for t in several for d in (t.taken, *t.others)]
        expected = (
            f"give one of {', '.join(known)}" if known else "no name has two texts here"
        )
        raise UserError("text", text, expected)
    apart = [a for record in records for a in _apart(record, taken, cuts)]
    return Pool(tuple(apart), several)


Groups = dict[str, dict[str, list[Record]]]


def _grouped(texts: Iterable[tuple[str, str, Record]]) -> Groups:
    """Records by name and digest of the text."""
    groups: Groups = collections.defaultdict(lambda: collections.defaultdict(list))
    for name, digest, record in texts:
        groups[name][digest].append(record)
    return groups


def _taken(
    texts: Mapping[str, Sequence[Record]], listed: Collection[str], text: str
) -> str:
    """The digest to use: the one asked for, else by the rule of the module."""
    requested = [digest for digest in texts if text and digest.startswith(text)]

    def newest(digest: str) -> tuple[bool, str, str]:
        last = max((r.run_id in listed, r.finished) for r in texts[digest])
        return (*last, digest)

    return max(requested or texts, key=newest)


def _cut(entry: Mapping[str, Any]) -> str:
    """Digest of what an evaluation set is made of, beside the text itself."""
    total = sum(p["weight"] for p in entry["parts"])
    shares = [[part(p).key, p["weight"] / total] for p in entry["parts"]]
    body = json.dumps([shares, entry["tokens"]])
    return hashlib.sha256(body.encode()).hexdigest()


def _other(
    record: Record, parts: Iterable[Mapping[str, Any]], taken: Mapping[str, str]
) -> list[str]:
    """Keys of the corpora among `parts` of which the record has another text."""
    keys = [part(entry).key for entry in parts]
    digests = record.digests
    return [key for key in keys if key in digests and digests[key] != taken[key]]


def _apart(
    record: Record, taken: Mapping[str, str], cuts: Mapping[str, str]
) -> Iterable[Apart]:
    trained = _other(record, record.run.get("data.corpus", ()), taken)
    if trained:
        yield Apart(record.run_id, "", _reason("trained on", record, trained))
        return
    for entry in record.run.get("evaluation", ()):
        scored = _other(record, entry["parts"], taken)
        if scored:
            reason = _reason("scored on", record, scored)
            yield Apart(record.run_id, entry["name"], reason)
        elif (cut := _cut(entry)) != cuts[entry["name"]]:
            reason = "scored on another cut of the same name: "
            reason += f"{entry['name']} {cut[:SHORT]}, {entry['tokens']:,} tokens"
            yield Apart(record.run_id, entry["name"], reason)


def _reason(how: str, record: Record, keys: Iterable[str]) -> str:
    tokenizer = record.run.get("data.tokenizer", "bytes")
    suffix = f" ({tokenizer})" if tokenizer != "bytes" else ""
    texts = ", ".join(f"{key} {record.digests[key][:SHORT]}{suffix}" for key in keys)
    return f"{how} another text of the same name: {texts}"
