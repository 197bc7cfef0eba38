"""Pictures: do denoisers of one set of pictures make the same pictures of one noise?

    scaling plan configs/pictures.py
    scaling freeze configs/pictures.py --workdir runs/pictures
    scaling run configs/pictures.py --workdir runs/pictures
    scaling-analysis report runs/pictures --where 'objective == denoise'
    scaling-analysis report runs/pictures --where 'objective == next_token'

A first look, from which the whole study goes on:

    scaling run configs/pictures.py --cut quick --workdir runs/pictures

Three denoisers (U-Net, DiT, mixer) and two models of pixels in raster order
(Transformer, LSTM) at two sizes read 64 to 16 thousand glyphs of 8 x 8 pixels, out of
either half of the characters, for three lengths of training. Budgets count pictures.
The Transformer and the LSTM read the first half alone, for the two shorter lengths, and
the other half where there is most data: a picture is 64 tokens to them.

Two more amounts are read once alone, for laws of one epoch. Learning rates are tuned
with the same trials for every family and size, on the most data. Denoisers have a
second initialisation in every cell of the longest training or the most data, models of
pixels where there is least and most. Every family and size also reads Gaussian fields,
of which the best denoiser and the entropy are known: denoisers for five lengths, so
that a curve of their error shows whether it tends to nothing. At the smaller size it
reads captioned glyphs, too, and is scored with the right caption, with none and with a
wrong one. One row of 16 x 16 pixels has letters that a person can read.

Every run makes pictures of stated noises, 256 glyphs, and denoises as many
held-out pictures at three levels. See docs/pictures.md.
"""

import dataclasses

from scaling import (
    Claim,
    Data,
    EvaluationSet,
    Model,
    Optimiser,
    Run,
    Samples,
    Schedule,
    corpus,
    together,
    vary,
)

DENOISERS = ("unet", "dit", "mixer")
READERS = ("transformer", "lstm")  # of pixels, one after the other
SMALL, LARGE = SIZES = (20_000, 80_000)
BATCH = 32
UNIQUE = (64, 512, 4_096, 16_384)
ONCE = (4_096, 8_192)  # and the most, in the shortest training
LENGTHS = (16_384, 32_768, 65_536)
READ = LENGTHS[:2]  # by models of pixels
TUNED = LENGTHS[1]
KNOWN = (8_192, *LENGTHS, 131_072)  # of Gaussian fields, by denoisers
AMOUNTS = ("tokens", "unique_tokens")
# The same for every family and size.
RATES = (2e-3, 6e-3, 1.8e-2, 5.4e-2)
GLYPHS = corpus("glyphs", size=8)
LETTERS = corpus("glyphs", size=16)
# With captions such as "sans bold: latin small letter a". New to a model is either that
# character in that font, or the character in any.
CAPTIONED, UNKNOWN = (
    corpus("glyphs", size=8, captions=40, new=new)
    for new in ("combinations", "characters")
)
HIDDEN = 64  # held-out pictures, of which models are shown the upper half alone
WATCHED = (0.125, 0.25, 0.5, 1.0)  # of the training
DROPOUT = 0.1  # of captions, so that a model knows what to make of none
FIELDS = corpus("gaussian_field", size=8)

# Correlation of two pictures given what a linear denoiser makes of their noise.
SAME = 0.05
ARCHITECTURE = {"kind": "architecture"}
claims = (
    Claim(
        "From the same noise, two architectures make the same picture as nearly as two "
        "runs of one architecture do.",
        quantity="same_pictures.shortfall",
        rule="below",
        margin=SAME,
        where=ARCHITECTURE,
    ),
    Claim(
        "The longer they train, the closer the pictures of two architectures come.",
        quantity="same_picture_trends.closed",
        rule="above",
        margin=0.0,
        where=ARCHITECTURE | {"axis": "training"},
    ),
    Claim(
        "The more pictures they read, the closer the pictures of two architectures "
        "come.",
        quantity="same_picture_trends.closed",
        rule="above",
        margin=0.0,
        where=ARCHITECTURE | {"axis": "data"},
    ),
)


def study(results):
    yield from of(results, DENOISERS, READERS, SIZES)
    yield from letters(results)


def quick(results):
    """Three families at the smaller size: runs that the whole study has, too."""
    yield from of(results, ("unet", "dit"), ("transformer",), (SMALL,))


def of(results, denoisers, readers, sizes):
    for family in (*denoisers, *readers):
        for size in sizes:
            best = yield from tuned(results, family, size)
            lengths = LENGTHS if family in DENOISERS else READ
            yield from cells(best, lengths)
            yield from together(best, {f"data.{n}": ONCE for n in AMOUNTS})
            everywhere = family in DENOISERS
            yield from halved(other_half(best, lengths, everywhere))
            yield from halved(other_weights(best, lengths, everywhere))
            yield from known(best, KNOWN if family in DENOISERS else lengths)
            if size == SMALL:
                yield from captioned(best, lengths[-1])


def tuned(results, family, size):
    """Yields the trials; the best of them."""
    trials = vary(glyphs(family, size), {"optimiser.learning_rate": RATES})
    yield from trials
    return results.best(trials)


def glyphs(family, size):
    """As many glyphs, and as long, as rates are tuned for."""
    return Run(
        model=Model(family, size),
        data=Data(GLYPHS, TUNED, UNIQUE[-1], half=1),
        optimiser=Optimiser(learning_rate=RATES[1]),
        schedule=Schedule(warmup_tokens=50 * BATCH),
        batch=BATCH,
        length=1,
        evaluation=(EvaluationSet("new characters", GLYPHS, 512),),
        objective="denoise" if family in DENOISERS else "next_token",
        samples=(Samples("glyphs", GLYPHS),),
    )


def cells(best, lengths):
    return vary(best, {"data.unique_tokens": UNIQUE, "data.tokens": lengths})


def other_half(best, lengths, everywhere):
    """Of other characters: what a change of the data alone is worth.

    everywhere: with any amount of data, for the longest training.
    """
    other = vary(best, {"data.half": (2,)})
    yield from vary(other, {"data.tokens": lengths})
    if everywhere:
        least = {"data.unique_tokens": UNIQUE[:-1], "data.tokens": lengths[-1:]}
        yield from vary(other, least)


def other_weights(best, lengths, everywhere):
    """A second initialisation: how far apart two runs of one model are.

    everywhere: with any amount of data for the longest training, for any length with
    the most data, and there a third for the longest, which is watched.
    """
    longest = {"data.tokens": lengths[-1:]}
    ends = {"data.unique_tokens": (UNIQUE[0], UNIQUE[-1])} | longest
    yield from vary(best, ends | {"init_seed": (1,)})
    if everywhere:
        between = {"data.unique_tokens": UNIQUE[1:-1]} | longest
        yield from vary(best, between | {"init_seed": (1,)})
        yield from vary(best, {"data.tokens": lengths[:-1], "init_seed": (1,)})
        yield from watched(vary(best, longest | {"init_seed": (2,)}))


def watched(runs):
    """The runs; they make their pictures while they train, too."""
    for run in runs:
        (samples,) = run.samples
        moving = dataclasses.replace(samples, at=WATCHED)
        yield dataclasses.replace(run, samples=(moving,))


def halved(runs):
    """The runs; those with the most data, as long as rates are tuned for, which all
    families have, say what they expect of lower halves of held-out pictures."""
    asked = (Samples("glyphs", GLYPHS, hidden=HIDDEN),)
    for run in runs:
        if (run.data.tokens, run.data.unique_tokens) == (TUNED, UNIQUE[-1]):
            run = dataclasses.replace(run, samples=asked)
        yield run


def known(best, lengths):
    """Gaussian fields, of which the best denoiser and the entropy are known."""
    return vary(
        best,
        {
            "data": [Data(FIELDS, length, UNIQUE[-1]) for length in lengths],
            "evaluation": [(EvaluationSet("gaussian fields", FIELDS, 512),)],
            "samples": [(Samples("gaussian fields", FIELDS, 64),)],
        },
    )


def captioned(best, length):
    """Pictures by their captions, of both halves together."""
    data = Data(CAPTIONED, length, UNIQUE[-1], caption_dropout=DROPOUT)
    sets = {"new combinations": CAPTIONED, "new characters, captioned": UNKNOWN}
    return vary(
        best,
        {
            "data": [data],
            "evaluation": [tuple(EvaluationSet(n, c, 512) for n, c in sets.items())],
            "samples": [(Samples("captioned", CAPTIONED),)],
        },
    )


def letters(results):
    """One row of pictures that a person can read, at the rates of the small ones."""
    for family in DENOISERS[:2]:
        trials = vary(glyphs(family, LARGE), {"optimiser.learning_rate": RATES})
        yield from vary(
            results.best(trials),
            {
                "data": [Data(LETTERS, LENGTHS[1], UNIQUE[-1], half=1)],
                "evaluation": [(EvaluationSet("16 x 16 characters", LETTERS, 256),)],
                "samples": [(Samples("letters", LETTERS, 64),)],
            },
        )
