"""Resident memory of one child that trains many programs.

    python -m tests.benchmarks.child_memory --programs 100

Each program is a tiny transformer with another number of sequences in a batch, trained
for a few steps, with the next one compiled ahead as a study does. A line says the
memory every tenth program, the last one the growth a program over the second half.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

from scaling import corpora
from scaling.engines.child import Settings, resident_bytes
from scaling.engines.local import Local
from scaling.engines.stop import Stop
from scaling.layout import Layout
from scaling.packs import Pack
from scaling.run import Data, EvaluationSet, Model, Optimiser, Run, Schedule
from scaling.store import Store
from scaling.study import corpus
from tests.support import real_studies

STEPS, LENGTH = 8, 16
LAYOUT = Layout(platform="cpu", run=1, width=1)


def runs(text: Path, programs: int) -> list[Run]:
    """One run of each program."""
    part = corpus("files", path=str(text), unit="line")
    made = []
    for batch in range(1, programs + 1):
        run = Run(
            model=Model("transformer", 8_000),
            data=Data(part, STEPS * batch * LENGTH),
            optimiser=Optimiser(3e-3),
            schedule=Schedule(warmup_tokens=2 * batch * LENGTH),
            batch=batch,
            length=LENGTH,
            evaluation=(EvaluationSet("made", part, tokens=512),),
        )
        made.append(run)
    return made


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--programs", type=int, default=100)
    given = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder, Stop() as stop:
        home = Path(folder)
        text = real_studies.write_text(home / "text")
        chosen = runs(text, given.programs)
        prepared = corpora.prepare(chosen[0].corpora(), home / "data", "bytes", False)
        digests = {key: corpus.digest for key, corpus in prepared.items()}
        store = Store(home / "work")
        settings = Settings(str(home / "data"), str(home / "compiled"))
        with Local(settings, store, stop) as engine:
            sizes: list[float] = []
            children: set[int] = set()

            def packs() -> Iterator[Pack]:
                for run, after in zip(chosen, [*chosen[1:], None], strict=True):
                    ahead = (after, LAYOUT) if after else None
                    yield Pack((run,), (run.run_id(digests),), LAYOUT, ahead)
                    pid = engine.pid()
                    children.add(pid)
                    sizes.append(resident_bytes(pid) / 1e6)
                    if len(sizes) == 1 or len(sizes) % 10 == 0:
                        print(f"{len(sizes):4d} programs: {sizes[-1]:6.0f} MB")

            engine.run(packs(), store, lambda event: None)
        half = len(sizes) // 2
        growth = (sizes[-1] - sizes[half]) / max(1, len(sizes) - 1 - half)
        done = len(store.records()[0])
        print(
            f"{done} of {len(chosen)} runs have a record; highest {max(sizes):.0f} MB, "
            f"{growth:+.1f} MB a program over the second half, {len(children)} children"
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
