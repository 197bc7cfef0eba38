"""All families at matched compute: which architecture makes the most of a FLOP?

    scaling run configs/families_flops.py --workdir runs/families_flops
    scaling-analysis report runs/families_flops

As configs/families.py, but for its ladder: at each size all families take the same
forward FLOPs an example, embeddings and head included, and as many parameters as that
gives them (6 to 13 thousand at the smallest size; mixtures of experts 29). Both are in
every record, and the report fits either. Real text alone. The n-grams count no FLOPs
that could be matched and are left out.

25 runs a family; `--families lstm,transformer` trains two of them.
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

FAMILIES = tuple(
    name for name in families.names("next_token") if not families.fitted(name)
)
# Forward FLOPs of an example of 64 tokens: a Transformer of 8, 24 and 74 thousand.
SIZES = (2_200_000, 5_500_000, 14_000_000)
BATCH, LENGTH = 8, 64
STEP = BATCH * LENGTH
BUDGETS = tuple(steps * STEP for steps in (160, 400, 1000))
REAL = (corpus("docstrings"), corpus("code"))
RATES = (2.5e-3, 5e-3, 1e-2, 2e-2, 4e-2)


def held_out(*corpora):
    return tuple(EvaluationSet(part[0].name, part) for part in corpora)


def study(results):
    for family in FAMILIES:
        rates = vary(tuning_run(family), {"optimiser.learning_rate": RATES})
        yield from rates
        best = results.best(rates)
        yield from cells(best)
        yield from bracket(largest(best))
        yield from together(best, {"init_seed": (1, 2), "data.seed": (1, 2)})


def tuning_run(family):
    return Run(
        model=Model(family, SIZES[1], size_by="flops"),
        data=Data(REAL[0], BUDGETS[1]),
        optimiser=Optimiser(learning_rate=RATES[2]),
        schedule=Schedule(warmup_tokens=20 * STEP),
        batch=BATCH,
        length=LENGTH,
        evaluation=held_out(*REAL),
    )


def cells(best):
    axes = {"model.size": SIZES, "data.tokens": BUDGETS, "data.corpus": REAL}
    return vary(best, axes)


def largest(best):
    return vary(best, {"model.size": SIZES[-1:], "data.tokens": BUDGETS[-1:]})
