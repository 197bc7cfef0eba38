"""Is the fitted floor the truth? Every family on four sources whose truth is known.

    scaling run configs/known_floor.py --workdir runs/known_floor
    scaling-analysis report runs/known_floor

All families x three sizes x four one-epoch budgets x four sources: a Markov chain of
order 2, a mixture of hidden Markov models, a random hierarchy model and a multitask
sparse parity. Each run is scored on held-out text of its own source, where the chance
of every token is known; so the report's section on laws sets E, what infinite size and
data would leave of the loss, beside the loss of the true chances on the same documents.
54 runs a family, 48 where nothing is tuned; `--families a,b` trains some.

Windows of 66 tokens hold two whole sentences of the hierarchy and two whole lines of
the parities; a model then sees all that an oracle is told. Tuning is as in the quick
study: three rates for each size, at one middle budget on one source, and the best used
everywhere.
"""

from scaling import (
    Data,
    EvaluationSet,
    Model,
    Optimiser,
    Run,
    Schedule,
    corpus,
    families,
    vary,
)

FAMILIES = tuple(families.names("next_token"))
COUNTED = ("ngram",)  # has no rate
SIZES = (8_000, 24_000, 72_000)
BATCH, LENGTH = 8, 66
STEP = BATCH * LENGTH
BUDGETS = tuple(steps * STEP for steps in (160, 320, 640, 1280))
SOURCES = tuple(corpus(name) for name in ("markov", "hmm", "hierarchy", "parity"))
RATES = (4e-3, 1.25e-2, 4e-2)


def study(results):
    for family in FAMILIES:
        for size in SIZES:
            middle = run(family, size, SOURCES[0], BUDGETS[2])
            tried = RATES[1:2] if family in COUNTED else RATES
            rates = vary(middle, {"optimiser.learning_rate": tried})
            yield from rates
            best = results.best(rates)
            for source in SOURCES:
                own = {"data.corpus": (source,), "evaluation": (held_out(source),)}
                yield from vary(best, own | {"data.tokens": BUDGETS})


def run(family, size, source, tokens):
    return Run(
        model=Model(family, size),
        data=Data(source, tokens),
        optimiser=Optimiser(learning_rate=RATES[1]),
        schedule=Schedule(warmup_tokens=20 * STEP),
        batch=BATCH,
        length=LENGTH,
        evaluation=held_out(source),
    )


def held_out(source):
    return (EvaluationSet(source[0].name, source),)
