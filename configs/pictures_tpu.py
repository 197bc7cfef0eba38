"""Pictures of 32 and 64 pixels a side on a TPU slice: 1M to 300M parameters.

    scaling plan configs/pictures_tpu.py --target v5litepod-8
    scaling plan configs/pictures_tpu.py --target v6e-8
    scaling run configs/pictures_tpu.py --workdir gs://BUCKET/pictures
    scaling-analysis report gs://BUCKET/pictures --where 'objective == denoise'

The questions of configs/pictures.py at sizes that need accelerators: a U-Net and a DiT
read glyphs of both sizes, out of either half of the characters, for three lengths of
training; a Transformer reads those of 32 x 32 as 1,024 pixels in raster order. Rates
are tuned at 8M parameters and the shortest training, with the same trials for each
family and size of picture; the rule of width carries the best to the others. At the
largest cell the denoisers have a second initialisation.

Every run makes 256 pictures of stated noises, at half of its training and at its end.
"""

from scaling import (
    Data,
    EvaluationSet,
    Model,
    Optimiser,
    Run,
    Samples,
    Schedule,
    corpus,
    vary,
)

DENOISERS = ("unet", "dit")
READER = "transformer"
SIZES = (1_000_000, 8_000_000, 64_000_000, 300_000_000)
TUNED = SIZES[1]
BATCH, SEQUENCES = 256, 32  # of pictures, and of 1,024 pixels each
HALF = 16_384  # pictures: what whole steps take of either half
LENGTHS = (2**18, 2**20, 2**22)
RATES = (5e-4, 2e-3, 8e-3)
PIXELS = (32, 64)


def study(results):
    for pixels in PIXELS:
        for family in DENOISERS:
            yield from of(results, family, pixels)
    yield from of(results, READER, PIXELS[0])


def of(results, family, pixels):
    trials = vary(run(family, pixels), {"optimiser.learning_rate": RATES})
    yield from trials
    best = results.best(trials)
    yield from vary(best, {"model.size": SIZES, "data.tokens": LENGTHS})
    largest = {"model.size": SIZES[-1:], "data.tokens": LENGTHS[-1:]}
    yield from vary(best, largest | {"data.half": (2,)})
    if family in DENOISERS:
        yield from vary(best, largest | {"init_seed": (1,)})


def run(family, pixels):
    glyphs = corpus("glyphs", size=pixels)
    batch = BATCH if family in DENOISERS else SEQUENCES
    name = f"{pixels} x {pixels} glyphs"
    return Run(
        model=Model(family, TUNED),
        data=Data(glyphs, LENGTHS[0], HALF, half=1),
        optimiser=Optimiser(learning_rate=RATES[1]),
        schedule=Schedule(warmup_tokens=200 * batch),
        batch=batch,
        length=1,
        evaluation=(EvaluationSet(name, glyphs, 1_024),),
        objective="denoise" if family in DENOISERS else "next_token",
        samples=(Samples(name, glyphs, at=(0.5, 1.0)),),
    )
