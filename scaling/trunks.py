"""Shared trunks: trains runs that differ only in budget once, up to their decay.

With the WSD schedule the rate is flat between warm-up and decay, and a smaller budget
reads a prefix of the text of a larger one. So runs that differ only in the tokens seen
make the same steps, bit for bit, until the first of them begins its decay: they can be
trained once as a trunk, from which each branches off for its own decay (Hu et al. 2024,
arXiv 2404.06395, sec. 4.2). Whether or not they were trained so, they are one
trajectory: they share the noise of the trunk, so intervals resample them together.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence

from scaling.canonical import canonical
from scaling.run import Run

SPLIT = "wsd"  # the schedule that has trunks


def trunk(run: Run) -> Run | None:
    """The key of the run's trunk, equal for all runs that share it; None without one.

    With repeated data the key contains the size of the repeated prefix, and not the
    number of times that it is read.
    """
    if run.schedule.name != SPLIT:
        return None
    data = dataclasses.replace(run.data, tokens=0)
    return dataclasses.replace(
        run, data=data, evaluation=(), evaluations=1, probes=(), samples=()
    )


def fork(run: Run) -> int:
    """The steps that the run may share with a longer one: those before its decay.

    0 for a run that is scored, or whose predictions are kept, before its end: a trunk
    does neither, so the run's record would lack them.
    """
    on_its_way = run.evaluations > 1 or any(
        len(at) > 1 for at in [x.at for x in run.probes] + [x.at for x in run.samples]
    )
    if run.schedule.name != SPLIT or on_its_way:
        return 0
    return min(int(run.decay_step), run.steps - 1)


def shared(runs: Iterable[Run]) -> dict[Run, int]:
    """The steps that each run takes over from another of `runs`, 0 for a leader."""
    groups: dict[Run | None, list[Run]] = collections.defaultdict(list)
    for run in runs:
        groups[trunk(run) if fork(run) else None].append(run)
    given = dict.fromkeys(groups.pop(None, []), 0)
    for members in groups.values():
        leader = max(members, key=lambda run: run.steps)
        given |= {run: fork(run) for run in members} | {leader: 0}
    return given


def followers(
    leader: Run, step: int, waiting: Sequence[tuple[Run, str]]
) -> list[tuple[Run, str]]:
    """Those of `waiting` that can branch off `leader` after `step`, soonest first."""
    last, key = fork(leader), trunk(leader)
    branches = [
        (run, run_id)
        for run, run_id in waiting
        if step < fork(run) <= last and trunk(run) == key
    ]
    return sorted(branches, key=lambda pair: fork(pair[0]))


def trajectory(run: Run, run_id: str, digests: Mapping[str, str]) -> str:
    """Identity of the run's trunk: equal for runs that share one; else the run_id.

    Args:
      digests: content digest by corpus key, for the run's training corpora.
    """
    base = trunk(run)
    if base is None:
        return run_id
    content = {part.key: digests[part.key] for part in run.data.corpus}
    body = {"trunk": canonical(base), "corpora": content}
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
