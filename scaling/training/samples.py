"""What a run makes of stated noises, and what it says of stated noisy pictures.

A denoiser's samples come of `Denoise.sample`: one noise gives one picture. A model of
sequences draws pixel after pixel by stated uniform numbers, given the label and the
caption; they have nothing to do with a denoiser's noise.

The artifact samples.npz holds, in pixels over 255,

by NAME:FRACTION
    :pictures    float16 [n, height, width, channels]
    :denoised    of a denoiser, float16 [level, n, height, width, channels]
    :near        float32 [n, 2], how far the nearest two training pictures are
    :nearest     uint8, the nearest one, in levels of 256
    :near_other  float32 [n, 2], of the half that is not read
by NAME
    :digest      of the set, which the workdir keeps
    :read        int64 [2], training pictures that it reads, and of the other half
    :linear, :copies, :exact and each with _denoised, of a denoiser: as `:pictures` and
                 `:denoised`, of the denoisers of landmarks.py
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from scaling.corpora import Prepared, _pictures, _samples
from scaling.corpora._samples import SampleSet
from scaling.run import Run
from scaling.training import evaluation, landmarks, mesh
from scaling.writing import npz

NAME = "samples.npz"


class Sampler:
    """Asks models for the samples of a study.

    Args:
      prepared: by corpus key.
      sharding: of a call's pictures.
    """

    def __init__(
        self, prepared: Mapping[str, Prepared], sharding: jax.sharding.NamedSharding
    ):
        self.prepared, self.sharding = prepared, sharding

    def due(
        self, run: Run, step: int, read: evaluation.Read, denoiser: Sequence[Any]
    ) -> dict[str, np.ndarray]:
        """Samples that are due after this step of the run, by their name in the file.

        Args:
          read: as `evaluation.score` takes it.
          denoiser: of a run that denoises, (sample, denoised) as `programs.Compiled`
            has them, of its model; () for a model of sequences.
        """
        kept: dict[str, np.ndarray] = {}
        for samples, fraction in run.sample_marks().get(step, ()):
            made = _samples.cut(samples, self.prepared)
            corpus = self.prepared[samples.parts[0].key]
            name = f"{samples.name}:{fraction:g}"
            if denoiser:
                pictures = self._all(denoiser[0], made.rows, made.noise)
            else:
                pictures = self._drawn(read, made, corpus, run).astype(np.float16)
            kept[f"{name}:pictures"] = pictures
            beside = landmarks.neighbours(pictures, run, self.prepared)
            kept |= {f"{name}:{what}": array for what, array in beside.items()}
            if not denoiser:
                continue
            denoised = denoiser[1]
            kept[f"{name}:denoised"] = np.stack(
                [
                    self._all(
                        denoised, made.rows, made.seen, np.full(len(made.rows), sigma)
                    )
                    for sigma in made.sigmas
                ]
            )
        return kept

    def file(self, run: Run, kept: Mapping[str, np.ndarray]) -> dict[str, bytes]:
        """The artifact; none for a run without samples."""
        if not run.samples:
            return {}
        arrays = dict(sorted(kept.items()))  # as a checkpoint has them
        for samples in run.samples:
            made, part = _samples.cut(samples, self.prepared), samples.parts[0]
            arrays[f"{samples.name}:digest"] = np.array(made.digest)
            arrays[f"{samples.name}:read"] = landmarks.counts(run, self.prepared)
            if run.objective == "denoise":
                known = landmarks.landmarks(run, self.prepared, made, part)
                arrays |= {f"{samples.name}:{what}": a for what, a in known.items()}
        return {NAME: npz(arrays)}

    def _all(self, call: Callable[..., Any], *arrays: np.ndarray) -> np.ndarray:
        """float16: what a compiled call says of all rows."""
        parts = [
            mesh.get(said).astype(np.float16)[:filled]
            for said, filled in self._calls(call, arrays)
        ]
        return np.concatenate(parts)

    def _calls(
        self, call: Callable[..., Any], arrays: Sequence[np.ndarray]
    ) -> Iterator[tuple[Any, int]]:
        """Results call by call, the last one padded, and how many rows count."""
        count, row = arrays[0].shape
        per_call = evaluation.windows_per_call(row, self.sharding)
        for start in range(0, count, per_call):
            filled = min(per_call, count - start)
            padded = [
                np.concatenate(
                    [part, np.repeat(part[:1], per_call - filled, axis=0)]
                ).astype(part.dtype if part.dtype == np.int32 else np.float32)
                for part in (array[start : start + per_call] for array in arrays)
            ]
            said = call(*mesh.put(tuple(padded), self.sharding))
            yield jax.block_until_ready(said), filled

    def _drawn(
        self, read: evaluation.Read, made: SampleSet, corpus: Prepared, run: Run
    ) -> np.ndarray:
        """float32 [n, height, width, channels]: drawn pixel by pixel.

        The uniform number of a pixel says which level, by the cumulated chances of the
        levels; what is no level (a caption's byte) has none.
        """
        images, levels = corpus.images, _pictures.levels(corpus.tokenizer)
        assert images is not None
        rows = _pictures.arranged(made.rows, corpus, corpus.spec(run))
        prefix = rows.shape[1] - images.size
        rows[:, prefix:] = 0
        ask = lambda rows, at: read(rows, at)[1]
        for pixel in range(images.size):
            at = np.full(len(rows), prefix + pixel, np.int32)
            logs = np.concatenate(
                [
                    mesh.get(said)[:filled]
                    for said, filled in self._calls(ask, (rows, at))
                ]
            )[:, :levels]
            chances = np.exp(logs.astype(np.float64))
            reached = np.cumsum(chances, axis=1)
            mark = made.uniform[:, pixel, None] * reached[:, -1:]
            rows[:, prefix + pixel] = np.minimum((reached <= mark).sum(1), levels - 1)
        middle = (rows[:, prefix:] + 0.5) * (256 / levels) - 0.5
        return (middle / 255.0).reshape(-1, *images.shape)
