"""The quick study: is it the architecture or the data, in minutes on a laptop.

    make study

or, step by step,

    scaling plan configs/quickstart.py
    scaling run configs/quickstart.py --workdir runs/quickstart
    scaling-analysis report runs/quickstart

Three families (Transformer, LSTM, convolution) x three sizes x four one-epoch budgets
x two corpora (technical English, Python), byte by byte, every run scored on both and on
their equal mixture. 147 runs and two counts of n-grams, about three minutes on two idle
cores.

Tuning is the same for every family: four rates, the same at every size (the width rule
of scaling/optim.py carries them), at one middle budget on one corpus, and the best of
each size used everywhere; one check at the largest cell, with twice and half the
chosen rate, shows whether the choice carries that far. Two cells per family and corpus
have three seeds, which gives the noise level; one has two more initial weights on the
same batches; one has four epochs on a quarter of the unique data. Every run's
predictions are kept at 256 positions of each corpus: how far apart the functions of two
families are, beside those of two initial weights, is what loss alone does not say.
Counts of n-grams are a reference: what is left to agree on once they are known.
Expect losses of 1.6 to 3.2 nats a byte and, at this size, wide intervals.
"""

from scaling import (
    Data,
    EvaluationSet,
    Model,
    Optimiser,
    Probes,
    Run,
    Schedule,
    bracket,
    corpus,
    mixture,
    together,
    vary,
)

FAMILIES = ("transformer", "lstm", "convolution")
REFERENCE = "ngram"  # counts: neither a rate nor initial weights
SIZES = (8_000, 24_000, 72_000)
BATCH, LENGTH = 8, 64
STEP = BATCH * LENGTH
BUDGETS = tuple(steps * STEP for steps in (160, 320, 640, 1280))
CORPORA = (corpus("docstrings"), corpus("code"))
# The same for every family and size.
RATES = (2e-3, 5e-3, 1.25e-2, 3e-2)
EVALUATION = (
    EvaluationSet("docstrings", corpus("docstrings")),
    EvaluationSet("code", corpus("code")),
    EvaluationSet("both", mixture(docstrings=0.5, code=0.5)),
)
# A document may give several positions: few are held out of code.
PROBES = tuple(
    Probes(name, corpus(name), 256, per_document=8) for name in ("docstrings", "code")
)


def study(results):
    for family in FAMILIES:
        best = {size: None for size in SIZES}
        for size in SIZES:
            rates = vary(tuning_run(family, size), {"optimiser.learning_rate": RATES})
            yield from rates
            best[size] = results.best(rates)
        yield from grid(best)
        largest = vary(best[SIZES[-1]], {"data.tokens": BUDGETS[-1:]})
        yield from bracket(largest)
        yield from seeds(best)
        yield from other_weights(best)
        yield from repeats(best)
    yield from counts()


def tuning_run(family, size):
    return Run(
        model=Model(family, size),
        data=Data(CORPORA[0], BUDGETS[2]),
        optimiser=Optimiser(learning_rate=RATES[1]),
        schedule=Schedule(warmup_tokens=20 * STEP),
        batch=BATCH,
        length=LENGTH,
        evaluation=EVALUATION,
        probes=PROBES,
    )


def grid(best):
    axes = {"data.corpus": CORPORA, "data.tokens": BUDGETS}
    return vary(best.values(), axes)


def seeds(best):
    cells = [
        *vary(best[SIZES[0]], {"data.tokens": BUDGETS[1:2]}),
        *vary(best[SIZES[1]], {"data.tokens": BUDGETS[2:3]}),
    ]
    both = vary(cells, {"data.corpus": CORPORA})
    return together(both, {"init_seed": (1, 2), "data.seed": (1, 2)})


def other_weights(best):
    cell = vary(best[SIZES[1]], {"data.tokens": BUDGETS[2:3]})
    return vary(cell, {"data.corpus": CORPORA, "init_seed": (1, 2)})


def repeats(best):
    epochs = 4
    axes = {
        "data.corpus": CORPORA,
        "data.tokens": BUDGETS[2:3],
        "data.unique_tokens": (BUDGETS[2] // epochs,),
        "evaluations": (epochs,),
    }
    return vary(best[SIZES[1]], axes)


def counts():
    largest = tuning_run(REFERENCE, SIZES[-1])
    return vary(largest, {"data.corpus": CORPORA, "data.tokens": BUDGETS[-1:]})
