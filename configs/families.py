"""All families at matched parameters: which architecture, and how much does it matter?

    scaling run configs/families.py --workdir runs/families
    scaling-analysis report runs/families

Every family x three sizes x three one-epoch budgets x three corpora: technical English,
Python, and a mixture of hidden Markov models whose entropy is known. Runs on real text
are scored on both real corpora; those on the made one on itself, and the report sets
the fitted floor E beside the loss of the true chances. About 36 runs a family.

Tuning is the same for every family: five rates at one cell (the middle size and budget,
technical English); the width rule of scaling/optim.py carries the best to the other
sizes, and twice and half of it at the largest cell show whether it does. One cell has
three seeds, which gives the noise level. The n-grams have no rate and count once.

Made to take less than two hours on two cores; `--families lstm,transformer` trains two
in three minutes (the slowest take four times as long), and a later run of the whole
takes theirs as done.
"""

from scaling import (
    Data,
    EvaluationSet,
    Model,
    Optimiser,
    Run,
    Schedule,
    bracket,
    corpus,
    families,
    together,
    vary,
)

FAMILIES = tuple(families.names("next_token"))
COUNTED = ("ngram",)  # has no rate, and counts the same with any seed
SIZES = (8_000, 24_000, 72_000)
BATCH, LENGTH = 8, 64
STEP = BATCH * LENGTH
BUDGETS = tuple(steps * STEP for steps in (160, 400, 1000))
REAL = (corpus("docstrings"), corpus("code"))
KNOWN = corpus("hmm")
RATES = (2.5e-3, 5e-3, 1e-2, 2e-2, 4e-2)


def held_out(*corpora):
    return tuple(EvaluationSet(part[0].name, part) for part in corpora)


def study(results):
    for family in FAMILIES:
        if family in COUNTED:
            yield from cells(tuning_run(family))
            continue
        rates = vary(tuning_run(family), {"optimiser.learning_rate": RATES})
        yield from rates
        best = results.best(rates)
        yield from cells(best)
        yield from bracket(largest(best))
        yield from together(best, {"init_seed": (1, 2), "data.seed": (1, 2)})


def tuning_run(family):
    return Run(
        model=Model(family, SIZES[1]),
        data=Data(REAL[0], BUDGETS[1]),
        optimiser=Optimiser(learning_rate=RATES[2]),
        schedule=Schedule(warmup_tokens=20 * STEP),
        batch=BATCH,
        length=LENGTH,
        evaluation=held_out(*REAL),
    )


def cells(best):
    sizes = vary(best, {"model.size": SIZES, "data.tokens": BUDGETS})
    yield from vary(sizes, {"data.corpus": REAL})
    own = {"data.corpus": (KNOWN,), "evaluation": (held_out(KNOWN),)}
    yield from vary(sizes, own)


def largest(best):
    return vary(best, {"model.size": SIZES[-1:], "data.tokens": BUDGETS[-1:]})
