"""What is one corpus worth in terms of another, and what is a mixture of the two?

    scaling run configs/corpus_swap.py --workdir runs/corpus_swap
    scaling-analysis report runs/corpus_swap

Three families x three sizes x four one-epoch budgets x six training texts: docstrings
(technical English), Python code, the King James Bible, and docstrings with a quarter,
a half and three quarters of code mixed in. Every run is scored on each of the three
texts, so a swap is "train on one or the other, scored on the same". 267 runs;
`--families transformer,lstm` trains two thirds of them.

Expect that no amount of Bible gives what docstrings give on docstrings: more of it made
the LSTM of 72 thousand worse there and on code, while half docstrings, half code lost
it 0.05 to 0.16 nats on either. Tuning is as in the quick study, on docstrings; two
cells per family have three seeds on docstrings and on the half-and-half mixture.
"""

from scaling import (
    Data,
    EvaluationSet,
    Model,
    Optimiser,
    Run,
    Schedule,
    corpus,
    mixture,
    together,
    vary,
)

FAMILIES = ("transformer", "lstm", "convolution")
SIZES = (8_000, 24_000, 72_000)
BATCH, LENGTH = 8, 64
STEP = BATCH * LENGTH
BUDGETS = tuple(steps * STEP for steps in (160, 320, 640, 1280))
RATES = (2e-3, 5e-3, 1.25e-2, 3e-2)
NAMES = ("docstrings", "code", "kjv")
HALF = mixture(docstrings=0.5, code=0.5)
CORPORA = (
    *(corpus(name) for name in NAMES),
    mixture(docstrings=0.75, code=0.25),
    HALF,
    mixture(docstrings=0.25, code=0.75),
)
EVALUATION = tuple(EvaluationSet(name, corpus(name)) for name in NAMES)


def study(results):
    for family in FAMILIES:
        best = {}
        for size in SIZES:
            rates = vary(tuning_run(family, size), {"optimiser.learning_rate": RATES})
            yield from rates
            best[size] = results.best(rates)
        axes = {"data.corpus": CORPORA, "data.tokens": BUDGETS}
        yield from vary(best.values(), axes)
        yield from seeds(best)


def tuning_run(family, size):
    return Run(
        model=Model(family, size),
        data=Data(CORPORA[0], BUDGETS[2]),
        optimiser=Optimiser(learning_rate=RATES[1]),
        schedule=Schedule(warmup_tokens=20 * STEP),
        batch=BATCH,
        length=LENGTH,
        evaluation=EVALUATION,
    )


def seeds(best):
    cells = [
        *vary(best[SIZES[0]], {"data.tokens": BUDGETS[1:2]}),
        *vary(best[SIZES[1]], {"data.tokens": BUDGETS[2:3]}),
    ]
    both = vary(cells, {"data.corpus": (CORPORA[0], HALF)})
    return together(both, {"init_seed": (1, 2), "data.seed": (1, 2)})
