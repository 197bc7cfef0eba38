"""Caches the costs of runs in the workdir, since computing them takes long."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from scaling import plugins
from scaling.canonical import canonical
from scaling.families import Spec
from scaling.run import Program, Run
from scaling.store import Store
from scaling.writing import write_atomic

# Fields of a run's cost without which a study cannot be scheduled.
NEEDED = ("flops", "memory", "depth")


class CostCache:
    """Costs keyed by everything they depend on, the code included."""

    def __init__(self, store: Store):
        self._path = store.path("costs.json")
        self._code = code_digest()
        self._costs: dict[str, Any] = {}
        for key, costs in store.cached("costs.json").items():  # it can be made again
            whole = isinstance(costs, dict) and set(NEEDED) <= costs.keys()
            if whole and all(isinstance(n, int | float) for n in costs.values()):
                self._costs[key] = costs

    def get(self, run: Run, spec: Spec) -> Mapping[str, Any]:
        return self._costs[self._key(run, spec)]

    def add(
        self,
        runs: Iterable[Run],
        spec: Callable[[Run], Spec],
        describe_all: Callable[[Sequence[Run], Sequence[Spec]], list[dict[str, Any]]],
    ) -> None:
        """Computes the costs that are not known yet."""
        missing = {self._key(run, spec(run)): run for run in runs}
        missing = {key: run for key, run in missing.items() if key not in self._costs}
        if missing:
            asked = list(missing.values())
            answers = describe_all(asked, [spec(run) for run in asked])
            self._costs |= dict(zip(missing, answers, strict=True))
            write_atomic(self._path, json.dumps(self._costs, indent=1).encode())

    def _key(self, run: Run, spec: Spec) -> str:
        return _key(self._code, run.program(), run.steps, spec)


@functools.lru_cache(1 << 16)
def _key(code: str, program: Program, steps: int, spec: Spec) -> str:
    body = [code, canonical(program), steps, spec]
    return hashlib.sha256(json.dumps(body).encode()).hexdigest()[:16]


def code_digest() -> str:
    """Of the files that fix what a run costs, the user's own among them."""
    files = sorted(Path(__file__).parents[1].rglob("*.py"))
    digest = hashlib.sha256(json.dumps(plugins.included(), sort_keys=True).encode())
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
