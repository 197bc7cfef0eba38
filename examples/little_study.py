"""A study of a minute with a family and a corpus of one's own.

    scaling run examples/little_study.py --workdir runs/little \
        --include examples/window.py --include examples/stdlib.py
    scaling-analysis report runs/little
"""

from scaling import Data, EvaluationSet, Model, Optimiser, Run, Schedule, corpus, vary

BATCH, LENGTH = 8, 32
STEP = BATCH * LENGTH


def study(results):
    first = Run(
        model=Model("window", 8_000),
        data=Data(corpus("stdlib"), 40 * STEP),
        optimiser=Optimiser(learning_rate=1e-2),
        schedule=Schedule(warmup_tokens=4 * STEP),
        batch=BATCH,
        length=LENGTH,
        evaluation=(EvaluationSet("stdlib", corpus("stdlib"), tokens=8_192),),
    )
    yield from vary(
        first,
        {
            "model.family": ("window", "ngram"),
            "model.size": (8_000, 16_000, 32_000),
            "data.tokens": tuple(steps * STEP for steps in (40, 80, 160, 320)),
        },
    )
