"""The quick study's path in under a minute: real text, too few steps to learn from.

    scaling run configs/smoke.py --workdir runs/smoke
    scaling-analysis report runs/smoke

Two families x two sizes x three one-epoch budgets x two corpora; two rates a size on
one corpus, the best used everywhere; one cell with two seeds, one with two epochs.
Expect a report whose every section is there and whose every interval is wide.
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

FAMILIES = ("transformer", "lstm")
SIZES = (8_000, 16_000)
BATCH, LENGTH = 4, 32
STEP = BATCH * LENGTH
BUDGETS = tuple(steps * STEP for steps in (8, 16, 32))
CORPORA = (corpus("docstrings"), corpus("code"))
RATES = (5e-3, 1e-2)
EVALUATION = (
    EvaluationSet("docstrings", corpus("docstrings"), tokens=4_096),
    EvaluationSet("code", corpus("code"), tokens=4_096),
    EvaluationSet("both", mixture(docstrings=0.5, code=0.5), tokens=4_096),
)


def study(results):
    for family in FAMILIES:
        for size in SIZES:
            rates = vary(tuning_run(family, size), {"optimiser.learning_rate": RATES})
            yield from rates
            best = results.best(rates)
            cells = vary(best, {"data.corpus": CORPORA, "data.tokens": BUDGETS})
            yield from cells
        yield from together(cells[:1], {"init_seed": (1,), "data.seed": (1,)})
        repeated = {"data.unique_tokens": (BUDGETS[2] // 2,), "evaluations": (2,)}
        yield from vary(cells[2], repeated)


def tuning_run(family, size):
    return Run(
        model=Model(family, size),
        data=Data(CORPORA[0], BUDGETS[1]),
        optimiser=Optimiser(learning_rate=RATES[0]),
        schedule=Schedule(warmup_tokens=2 * STEP),
        batch=BATCH,
        length=LENGTH,
        evaluation=EVALUATION,
    )
