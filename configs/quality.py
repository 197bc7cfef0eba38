"""What is clean text worth? Five kinds of damage to the training text, beside none.

    scaling run configs/quality.py --workdir runs/quality
    scaling-analysis report runs/quality

Three families x three sizes x four one-epoch budgets x eight versions of one corpus
(English docstrings): untouched, random strings in the place of a quarter, half and
three quarters of the documents, and one level each of random bytes, shuffled words,
duplicates and truncation (scaling/corpora/_quality.py says what each does). Held-out
text is never damaged, and each record keeps the share of bytes that were changed. 330
runs; `--families transformer,lstm` trains two thirds of them.

The report's swaps of quality say how much more damaged text gives what sound text does,
for each family: a damage that only wastes its share of the tokens is worth 1 / (1 -
level), which random strings should come near; what hurts more than that misleads.
Tuning is as in the quick study, on sound text; two cells per family have three seeds,
sound and with half of the documents replaced.
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
BUDGETS = tuple(steps * STEP for steps in (160, 320, 640, 1280))
RATES = (4e-3, 1.25e-2, 4e-2)
DAMAGE = (
    ("", 0.0),
    ("random_strings", 0.25),
    ("random_strings", 0.5),
    ("random_strings", 0.75),
    ("random_bytes", 0.2),
    ("shuffled_words", 0.5),
    ("duplicates", 0.75),
    ("truncation", 0.5),
)
EVALUATION = (EvaluationSet("docstrings", corpus("docstrings")),)


def study(results):
    for family in FAMILIES:
        best = {}
        for size in SIZES:
            rates = vary(tuning_run(family, size), {"optimiser.learning_rate": RATES})
            yield from rates
            best[size] = results.best(rates)
        yield from vary(damaged(best.values(), DAMAGE), {"data.tokens": BUDGETS})
        yield from seeds(best)


def tuning_run(family, size):
    return Run(
        model=Model(family, size),
        data=Data(corpus("docstrings"), BUDGETS[2]),
        optimiser=Optimiser(learning_rate=RATES[1]),
        schedule=Schedule(warmup_tokens=20 * STEP),
        batch=BATCH,
        length=LENGTH,
        evaluation=EVALUATION,
    )


def damaged(runs, versions):
    kinds, levels = zip(*versions, strict=True)
    return together(runs, {"data.quality": kinds, "data.quality_level": levels})


def seeds(best):
    cells = [
        *vary(best[SIZES[0]], {"data.tokens": BUDGETS[1:2]}),
        *vary(best[SIZES[1]], {"data.tokens": BUDGETS[2:3]}),
    ]
    both = damaged(cells, (DAMAGE[0], DAMAGE[2]))
    return together(both, {"init_seed": (1, 2), "data.seed": (1, 2)})
