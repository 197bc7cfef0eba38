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
    :right_PART, :chance_PART  of a corpus with captions, see naming.py
by NAME, where lower halves are hidden (scaling/inpainting.py), at the end of training
    :hidden_numbers   int64 [m], of the held-out pictures whose lower half is hidden
    :hidden           float16 [m, rows, width, channels], what is expected of it
    :hidden_variance  float32 [m], of that by chance: mean over its values
    :hidden_effective float32 [m], of a denoiser: effective particles of an island
    :linear_hidden, :exact_hidden as `:hidden`, what landmarks.py expects of it
by NAME
    :digest      of the set, which the workdir keeps
    :read        int64 [2], training pictures that it reads, and of the other half
    :real_PART   as :right_PART, of the held-out pictures themselves
    :linear, :copies, :exact and each with _denoised, of a denoiser: as `:pictures` and
                 `:denoised`, of the denoisers of landmarks.py
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from scaling import inpainting
from scaling.corpora import Prepared, _pictures, _samples
from scaling.corpora._samples import SampleSet
from scaling.run import Run, Samples
from scaling.training import evaluation, landmarks, mesh, naming
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
            has them, of its model, and expected where lower halves are hidden; () for a
            model of sequences.
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
            beside |= naming.named(pictures, made, run, self.prepared)
            kept |= {f"{name}:{what}": array for what, array in beside.items()}
            if samples.hidden and fraction == 1.0:
                found = self._hidden(run, samples, read, denoiser)
                kept |= {f"{samples.name}:{what}": a for what, a in found.items()}
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
            real = naming.real(made, run, self.prepared)
            arrays |= {f"{samples.name}:{what}": a for what, a in real.items()}
            if samples.hidden:
                rows = made.rows[_samples.hidden(samples)]
                known = landmarks.hidden(run, self.prepared, rows, part)
                arrays |= {f"{samples.name}:{what}": a for what, a in known.items()}
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
        self, call: Callable[..., Any], arrays: Sequence[np.ndarray], per_call: int = 0
    ) -> Iterator[tuple[Any, int]]:
        """Results call by call, the last one padded, and how many rows count."""
        count, row = arrays[0].shape
        per_call = per_call or evaluation.windows_per_call(row, self.sharding)
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
        """float32 [n, height, width, channels]: drawn pixel by pixel."""
        images = corpus.images
        assert images is not None
        rows = _pictures.arranged(made.rows, corpus, corpus.spec(run))
        self._draw(read, rows, made.uniform, corpus)
        pixels = _pixels(rows[:, -images.size :], _pictures.levels(corpus.tokenizer))
        return pixels.reshape(-1, *images.shape)

    def _draw(
        self,
        read: evaluation.Read,
        rows: np.ndarray,
        uniform: np.ndarray,
        corpus: Prepared,
    ) -> np.ndarray:
        """Draws the last pixels of sequences, each given all before it, in place.

        The uniform number of a pixel says which level, by the cumulated chances of the
        levels; what is no level (a caption's byte) has none.

        Args:
          rows: int32 [n, row].
          uniform: [n, pixels], a number for each pixel that is drawn.

        Returns:
          float64 [n, pixels]: what is expected of each pixel before it is drawn, over
          255.
        """
        levels, count = _pictures.levels(corpus.tokenizer), uniform.shape[1]
        first = rows.shape[1] - count
        rows[:, first:] = 0
        ask = lambda rows, at: read(rows, at)[1]
        means = np.empty(uniform.shape)
        for pixel in range(count):
            at = np.full(len(rows), first + pixel, np.int32)
            logs = np.concatenate(
                [
                    mesh.get(said)[:filled]
                    for said, filled in self._calls(ask, (rows, at))
                ]
            )[:, :levels]
            chances = np.exp(logs.astype(np.float64))
            reached = np.cumsum(chances, axis=1)
            mark = uniform[:, pixel, None] * reached[:, -1:]
            rows[:, first + pixel] = np.minimum((reached <= mark).sum(1), levels - 1)
            means[:, pixel] = chances @ _pixels(np.arange(levels), levels)
            means[:, pixel] /= reached[:, -1]
        return means

    def _hidden(
        self,
        run: Run,
        samples: Samples,
        read: evaluation.Read,
        denoiser: Sequence[Any],
    ) -> dict[str, np.ndarray]:
        """What is expected of lower halves, by the end of its name in the file.

        Every run draws with numbers of its own, so that what two runs get wrong by
        chance has nothing in common.
        """
        made = _samples.cut(samples, self.prepared)
        corpus = self.prepared[samples.parts[0].key]
        images = corpus.images
        assert images is not None
        numbers = _samples.hidden(samples)
        own = hashlib.sha256(f"{self._run_id(run)}/{samples.name}".encode()).digest()
        draw = np.random.Generator(np.random.Philox(int.from_bytes(own[:16], "big")))
        shape = (images.height - inpainting.shown(images.height), *images.shape[1:])
        if denoiser:
            rows = np.repeat(made.rows[numbers], inpainting.ISLANDS, axis=0)
            means, effective = self._expected(denoiser[2], rows, draw)
        else:
            rows = _pictures.arranged(made.rows[numbers], corpus, corpus.spec(run))
            rows = np.repeat(rows, inpainting.DRAWS, axis=0)
            uniform = draw.random((len(rows), int(np.prod(shape))))
            means = self._draw(read, rows, uniform, corpus)
        each = means.reshape(len(numbers), -1, int(np.prod(shape)))
        spread = each.var(axis=1, ddof=1).mean(axis=1) / each.shape[1]
        kept = {
            "hidden_numbers": numbers,
            "hidden": each.mean(axis=1).reshape(-1, *shape).astype(np.float16),
            "hidden_variance": spread.astype(np.float32),
        }
        if denoiser:
            particles = effective.reshape(len(numbers), -1).mean(axis=1)
            kept["hidden_effective"] = particles.astype(np.float32)
        return kept

    def _expected(
        self, call: Callable[..., Any], rows: np.ndarray, draw: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """float64 of islands: lower halves, and effective particles."""
        seeds = draw.integers(0, 1 << 31, len(rows), np.int32)
        per_call = evaluation.islands_per_call(rows.shape[1], self.sharding)
        found = [
            [mesh.get(part)[:filled].astype(np.float64) for part in said]
            for said, filled in self._calls(call, (rows, seeds), per_call)
        ]
        means, effective = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return means, effective

    def _run_id(self, run: Run) -> str:
        parts = run.corpora()
        return run.run_id({part.key: self.prepared[part.key].digest for part in parts})


def _pixels(level: np.ndarray, levels: int) -> np.ndarray:
    """Over 255: the middle of each level."""
    return np.asarray(((level + 0.5) * (256 / levels) - 0.5) / 255.0)
