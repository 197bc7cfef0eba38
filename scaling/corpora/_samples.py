"""Cuts sample sets: stated noises, and held-out pictures with stated noise on them.

The noises depend on the pictures' shape alone, so that runs of other corpora, halves
and seeds begin from the same ones; a larger set begins with a smaller one. The pictures
are the first in the order of their groups' hashes.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from scaling.corpora._prepared import Prepared
from scaling.corpora._tokens import DOCUMENT, TokenFile
from scaling.errors import UserError
from scaling.run import Samples
from scaling.writing import npz

FOLDER = "samples"  # of a workdir


@dataclasses.dataclass(frozen=True)
class SampleSet:
    """What every run is asked for.

    Attributes:
      noise: float32 [n, height, width, channels], standard normal: what a sampler
        begins with.
      uniform: float32 [n, values], what a sampler of sequences draws with.
      rows: int32 [n, row], held-out pictures as `denoise` reads them; the n-th sample
        is conditioned on the n-th picture's label and caption.
      seen: float32 [n, height, width, channels], the noise on the pictures.
      sigmas: float32 [k], its levels.
      groups: uint64 [n], hashes of the pictures' groups.
      corpus_digest: of the pictures' corpus.
    """

    noise: np.ndarray
    uniform: np.ndarray
    rows: np.ndarray
    seen: np.ndarray
    sigmas: np.ndarray
    groups: np.ndarray
    corpus_digest: str

    def arrays(self) -> dict[str, np.ndarray]:
        body: dict[str, Any] = {
            field.name: getattr(self, field.name) for field in dataclasses.fields(self)
        }
        return body | {"corpus_digest": np.array(self.corpus_digest)}

    def to_bytes(self) -> bytes:
        return npz(self.arrays())

    @functools.cached_property
    def digest(self) -> str:
        """16 hexadecimal digits over all of it."""
        digest = hashlib.sha256(self.corpus_digest.encode())
        for name, array in sorted(self.arrays().items()):
            digest.update(f"{name} {array.shape} ".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()[:16]


def cut(samples: Samples, prepared: Mapping[str, Prepared]) -> SampleSet:
    """The set of a study's `Samples`.

    Args:
      prepared: by `Part.key`.

    Raises:
      UserError: fewer held-out pictures than asked for.
    """
    corpus = prepared[samples.parts[0].key]
    return _cut(samples.count, samples.sigmas, corpus)


def hidden(samples: Samples) -> np.ndarray:
    """int64: numbers of the pictures whose lower half is hidden.

    They are spread evenly over the set, since pictures of one group stand together.
    """
    return np.arange(samples.hidden) * samples.count // max(1, samples.hidden)


@functools.lru_cache(maxsize=8)
def _cut(count: int, sigmas: tuple[float, ...], corpus: Prepared) -> SampleSet:
    images = corpus.images
    assert images is not None
    if count > corpus.held_out_tokens:
        raise UserError(
            "samples.count",
            count,
            f"{corpus.key} holds out {corpus.held_out_tokens:,} pictures; give no more",
        )
    file = TokenFile(corpus.folder / "held_out.tokens")
    index = np.fromfile(corpus.folder / "held_out.documents", DOCUMENT)
    sizes = np.diff(index["start"], append=corpus.held_out_tokens)
    return SampleSet(
        noise=_noise("sampled", count, images.shape),
        uniform=_draw("uniform", images.shape).random((count, images.size), np.float32),
        rows=file.windows(images.row, np.arange(count)),
        seen=_noise("seen", count, images.shape),
        sigmas=np.array(sigmas, np.float32),
        groups=np.repeat(index["hash"], sizes)[:count],
        corpus_digest=corpus.digest,
    )


def _noise(purpose: str, count: int, shape: tuple[int, int, int]) -> np.ndarray:
    return _draw(purpose, shape).standard_normal((count, *shape), np.float32)


def _draw(purpose: str, shape: tuple[int, int, int]) -> np.random.Generator:
    key = hashlib.sha256(f"{purpose}/{shape}".encode()).digest()
    return np.random.Generator(np.random.Philox(key=np.frombuffer(key[:16], "<u8")))
