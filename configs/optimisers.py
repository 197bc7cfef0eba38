"""Does the optimiser matter? Five of them, each with rates of its own.

    scaling run configs/optimisers.py --workdir runs/optimisers
    scaling-analysis report runs/optimisers

Two families x three sizes x three one-epoch budgets x five optimisers, on technical
English. Each optimiser has four rates, for each family at one cell (the middle size and
budget); the width rule of scaling/optim.py carries the best to the other sizes, and
half and twice of it at the largest cell show whether it does. One cell has three seeds.
160 runs; `--families lstm` trains half of them.

The report takes the optimiser as a factor beside family, size and data. Expect
Adafactor ahead for the LSTM and Muon for the Transformer, by up to 0.15 nats over
AdamW; Lion, whose signs are made for large batches, and SGD 0.2 to 0.3 behind. A
quarter of an hour.
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
    together,
    vary,
)

FAMILIES = ("transformer", "lstm")
SIZES = (8_000, 24_000, 72_000)
BATCH, LENGTH = 8, 64
STEP = BATCH * LENGTH
BUDGETS = tuple(steps * STEP for steps in (160, 400, 1000))
# Lion's steps are signs, larger than Adam's; SGD's are gradients.
RATES = {
    "adamw": (5e-3, 1e-2, 2e-2, 4e-2),
    "muon": (5e-3, 1e-2, 2e-2, 4e-2),
    "adafactor": (2.5e-3, 5e-3, 1e-2, 2e-2),
    "lion": (1e-3, 2e-3, 4e-3, 8e-3),
    "sgd": (0.025, 0.05, 0.1, 0.2),
}


def study(results):
    for family in FAMILIES:
        for optimiser, rates in RATES.items():
            tried = [tuning_run(family, optimiser, rate) for rate in rates]
            yield from tried
            best = results.best(tried)
            yield from vary(best, {"model.size": SIZES, "data.tokens": BUDGETS})
            yield from bracket(largest(best))
            yield from together(best, {"init_seed": (1, 2), "data.seed": (1, 2)})


def tuning_run(family, optimiser, rate):
    return Run(
        model=Model(family, SIZES[1]),
        data=Data(corpus("docstrings"), BUDGETS[1]),
        optimiser=Optimiser(rate, optimiser),
        schedule=Schedule(warmup_tokens=20 * STEP),
        batch=BATCH,
        length=LENGTH,
        evaluation=(EvaluationSet("docstrings", corpus("docstrings")),),
    )


def largest(best):
    return vary(best, {"model.size": SIZES[-1:], "data.tokens": BUDGETS[-1:]})
