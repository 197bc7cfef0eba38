"""Eight fake devices and a small made corpus, shared by every test that trains."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import random
from collections.abc import Mapping

import pytest

from scaling import families
from scaling.corpora import Prepared, prepare
from scaling.run import Data, EvaluationSet, Model, Optimiser, Part, Run, Schedule

# They import PyTorch, which `make test-reference` installs.
collect_ignore = [] if importlib.util.find_spec("torch") else ["reference"]


def pytest_configure() -> None:
    # Tests compile far more than they run.
    os.environ["XLA_FLAGS"] = "--xla_backend_optimization_level=0"
    import jax

    jax.config.update("jax_num_cpu_devices", 8)


def every_family(*quick: str):
    """Parametrises over the families that gradients train on text.

    All but `quick` are slow.
    """
    marks = lambda name: () if name in quick else (pytest.mark.slow,)
    served = families.names("next_token")
    trained = [name for name in served if not families.fitted(name)]
    params = [pytest.param(name, marks=marks(name)) for name in trained]
    return pytest.mark.parametrize("family", params)


@dataclasses.dataclass(frozen=True)
class Made:
    """A corpus of made words, prepared in a temporary folder."""

    part: Part
    prepared: Mapping[str, Prepared]
    data_dir: str

    def run(self, family: str = "transformer", size: int = 8_000, **changes) -> Run:
        """A run of 24 steps of 8 x 32 tokens."""
        run = Run(
            model=Model(family, size),
            data=Data(corpus=(self.part,), tokens=24 * 256),
            optimiser=Optimiser(learning_rate=3e-3),
            schedule=Schedule(warmup_tokens=4 * 256),
            batch=8,
            length=32,
            evaluation=(EvaluationSet("made", (self.part,), tokens=2_048),),
        )
        return dataclasses.replace(run, **changes)

    def ids(self, *runs: Run) -> tuple[str, ...]:
        digests = {key: p.digest for key, p in self.prepared.items()}
        return tuple(run.run_id(digests) for run in runs)


@pytest.fixture(scope="session")
def made(tmp_path_factory) -> Made:
    folder = tmp_path_factory.mktemp("made")
    words = random.Random(0)
    lexicon = [
        "".join(words.choices("abcdefghij", k=words.randint(2, 7))) for _ in range(200)
    ]
    for i in range(400):
        text = " ".join(words.choices(lexicon, range(200, 0, -1), k=60))
        (folder / f"{i:03d}.txt").write_text(text)
    part = Part("files", options=(("path", str(folder)),))
    data_dir = str(tmp_path_factory.mktemp("data"))
    prepared = prepare([part], data_dir=data_dir, progress=False)
    return Made(part, prepared, data_dir)
