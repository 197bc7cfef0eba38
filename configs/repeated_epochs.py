"""What is text worth when it is read again? Unique tokens and epochs as two axes.

    scaling run configs/repeated_epochs.py --workdir runs/repeated_epochs
    scaling-analysis report runs/repeated_epochs
    scaling-analysis fit runs/repeated_epochs --law data_constrained

Three families x three sizes x three amounts of unique text (41, 82 and 164 thousand
bytes) x 2, 4 and 8 epochs, beside one-epoch runs of the same numbers of steps, 160 to
2,560. Repeating runs are scored after every epoch, so that records have the best
reading beside the final one: early stopping, and what it saves. 159 runs;
`--families transformer,lstm` trains two thirds of them.

The report fits its laws to one-epoch runs alone and lists the others; the last command
fits all of them, with the number of epochs over which a repeated token loses its worth
(R*_D). Expect eight epochs to be worth nearly what new text is: for the LSTM R*_D came
out at 35 (12 or more), and models this small hardly learn their text by heart. Tuning
is as in the quick study, on one epoch.
"""

from scaling import (
    Data,
    EvaluationSet,
    Model,
    Optimiser,
    Run,
    Schedule,
    corpus,
    together,
    vary,
)

FAMILIES = ("transformer", "lstm", "convolution")
SIZES = (8_000, 24_000, 72_000)
BATCH, LENGTH = 8, 64
STEP = BATCH * LENGTH
UNIQUE = tuple(steps * STEP for steps in (80, 160, 320))
EPOCHS = (2, 4, 8)
FRESH = tuple(steps * STEP for steps in (160, 320, 640, 1280, 2560))
RATES = (2e-3, 5e-3, 1.25e-2, 3e-2)
EVALUATION = (EvaluationSet("docstrings", corpus("docstrings")),)


def study(results):
    for family in FAMILIES:
        best = []
        for size in SIZES:
            rates = vary(tuning_run(family, size), {"optimiser.learning_rate": RATES})
            yield from rates
            best.append(results.best(rates))
        yield from vary(best, {"data.tokens": FRESH})
        for unique in UNIQUE:
            yield from repeated(best, unique)
        yield from together(best[1], {"init_seed": (1, 2), "data.seed": (1, 2)})


def tuning_run(family, size):
    return Run(
        model=Model(family, size),
        data=Data(corpus("docstrings"), FRESH[2]),
        optimiser=Optimiser(learning_rate=RATES[1]),
        schedule=Schedule(warmup_tokens=20 * STEP),
        batch=BATCH,
        length=LENGTH,
        evaluation=EVALUATION,
    )


def repeated(best, unique):
    axes = {"data.tokens": [unique * epochs for epochs in EPOCHS]}
    once = vary(best, {"data.unique_tokens": (unique,)})
    return together(once, axes | {"evaluations": EPOCHS})
