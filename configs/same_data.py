"""Same data, long enough: do all architectures become the same function?

    scaling plan configs/same_data.py
    scaling freeze configs/same_data.py --workdir runs/same_data
    scaling run configs/same_data.py --workdir runs/same_data
    scaling-analysis report runs/same_data

A smaller one that takes about 45 minutes on two cores and still decides its claims with
intervals, and a first look in about 15:

    scaling run configs/same_data.py --cut small --workdir runs/same_data_small
    scaling run configs/same_data.py --cut quick --workdir runs/same_data_quick

Five families that gradients train, and n-grams as an anchor, read the same text over
and over: 33 and 131 thousand tokens of docstrings, of Python code and of a mixture of
hidden Markov models whose true chances are known, for 1, 4, 16 and 64 epochs, at two
sizes, from three initial weights. `data.seed` stays: all of them see the same batches.
One more run of each family and corpus, at the largest cell, reads another shard, which
says what a change of the data alone is worth.

Learning rate and weight decay are tuned together, nine trials for every family and
size, over 16 epochs of the smaller docstrings; a model that is to read its text 64
times may want far more decay than one that reads it once. Runs of several epochs are
scored on their way, so that their records hold the best reading with its step, which is
where early stopping would have ended them.

Every run's predictions are kept at 512 positions of each corpus, at its end; those of
64 epochs at 1/8, 1/4 and 1/2 of their way too, and of all the predictions at the best
scoring, which a run that reads its text too often has left behind. See
docs/same_data.md.
"""

import dataclasses

from scaling import (
    Claim,
    Data,
    EvaluationSet,
    Model,
    Optimiser,
    Probes,
    Run,
    Schedule,
    corpus,
    together,
    vary,
)

FAMILIES = ("transformer", "lstm", "mamba2", "convolution", "hybrid")
ANCHOR = "ngram"  # counts: neither a rate nor initial weights, and an epoch is enough
SMALL, LARGE = SIZES = (8_000, 24_000)
BATCH, LENGTH = 8, 64
STEP = BATCH * LENGTH
UNIQUE = (64 * STEP, 256 * STEP)
HALF = (32 * STEP, 128 * STEP)  # of the smaller studies
EPOCHS = (1, 4, 16, 64)
SCORED = (1, 4, 8, 16)  # times, during so many epochs
SEEDS = (0, 1, 2)
KNOWN = corpus("hmm", components=4)
CORPORA = {"docstrings": corpus("docstrings"), "code": corpus("code"), "hmm": KNOWN}
TUNED_ON = {"docstrings": CORPORA["docstrings"]}
# The same trials for every family and size.
RATES = (4e-3, 1.25e-2, 4e-2)
DECAYS = (0.03, 0.3, 3.0)
EVALUATION = tuple(
    EvaluationSet(name, parts, 16_384) for name, parts in CORPORA.items()
)
POSITIONS = 512
ON_THE_WAY = (0.125, 0.25, 0.5, 1.0)

# In nats a token. Half a percent of a typical loss here, and a small part of what two
# initial weights of one family differ by once the text has been read many times.
SAME = 0.01
# A percent of a typical loss.
SAME_LOSS = 0.02
EARLY = "early-stopped"
claims = (
    Claim(
        "Read long enough, the same text makes one function of all architectures.",
        quantity="excess",
        rule="within",
        margin=SAME,
    ),
    Claim(
        "Stopped where held-out loss is lowest, the same text makes one function of "
        "all architectures.",
        quantity="excess stopped early",
        rule="within",
        margin=SAME,
    ),
    Claim(
        "The more often the same text is read, the closer architectures come.",
        quantity="function_trends.change",
        rule="below",
        margin=0.0,
        where={"axis": "epochs", "own": True},
    ),
    Claim(
        "The longer the same text may be read before the best step is taken, the "
        "closer architectures come.",
        quantity="function_trends.change",
        rule="below",
        margin=0.0,
        where={"axis": "epochs, stopped early", "own": True},
    ),
    Claim(
        "Which text is read changes the function more than which architecture reads.",
        quantity="function_ratios.ratio",
        rule="below",
        margin=1.0,
        where={"other_kind": "corpus"},
    ),
    Claim(
        "Once a text is exhausted, all architectures have one loss on held-out text.",
        quantity="exhausted_gaps.gap",
        rule="within",
        margin=SAME_LOSS,
        where={"reading": EARLY},
    ),
    Claim(
        "Once a text is exhausted, architectures differ less in loss than after "
        "reading it once.",
        quantity="exhausted_gaps.change",
        rule="below",
        margin=0.0,
        where={"reading": EARLY},
    ),
)
# Laws are of text that is read once: the largest such cell, of this study and of its
# cuts, is seen by none before it is predicted.
withheld = tuple(
    {"model.size": size, "data.unique_tokens": tokens, "data.tokens": tokens}
    for size, tokens in ((LARGE, UNIQUE[1]), (SMALL, HALF[1]))
)


def study(results):
    held = probes(POSITIONS)
    for family in FAMILIES:
        for size in SIZES:
            best = yield from tuned(results, family, size, UNIQUE[0], held)
            yield from cells(best, CORPORA, UNIQUE)
        yield from another_shard(best, CORPORA, UNIQUE[1])
    yield from counts(SIZES, UNIQUE, held)


def small(results):
    """All families on half the text; the larger size on the docstrings alone."""
    held = probes(POSITIONS // 2)
    for family in FAMILIES:
        best = yield from tuned(results, family, SMALL, HALF[0], held)
        yield from cells(best, CORPORA, HALF)
        yield from another_shard(best, TUNED_ON, HALF[1])
        best = yield from tuned(results, family, LARGE, HALF[0], held)
        yield from cells(best, TUNED_ON, HALF[:1])
    yield from counts([SMALL], HALF, held)


def quick(results):
    """Three families at the smaller size, and half the text."""
    held = probes(POSITIONS // 2)
    for family in ("transformer", "lstm", "convolution"):
        best = yield from tuned(results, family, SMALL, HALF[0], held)
        yield from cells(best, CORPORA, HALF)
        yield from another_shard(best, CORPORA, HALF[1])
    yield from counts([SMALL], HALF, held)


def probes(positions):
    # Few documents are held out of code: each gives several positions.
    return tuple(
        Probes(name, parts, positions, per_document=24, best=True)
        for name, parts in CORPORA.items()
    )


def tuned(results, family, size, unique, held):
    """Yields the trials; the best of them."""
    trials = vary(
        run(family, size, unique, held),
        {"optimiser.learning_rate": RATES, "optimiser.weight_decay": DECAYS},
    )
    yield from trials
    return results.best(trials, "docstrings")


def counts(sizes, unique, held):
    for size in sizes:
        counted = run(ANCHOR, size, unique[0], held)
        once = vary(counted, {"data.corpus": CORPORA.values()})
        yield from on_unique(once, unique, EPOCHS[0], SCORED[0])
        yield from another_shard(counted, CORPORA, unique[1], EPOCHS[0])


def run(family, size, unique, held):
    """Of docstrings, over 16 epochs: where rate and decay are tuned."""
    return Run(
        model=Model(family, size),
        data=Data(CORPORA["docstrings"], EPOCHS[2] * unique, unique),
        optimiser=Optimiser(learning_rate=RATES[1]),
        schedule=Schedule(warmup_tokens=20 * STEP),
        batch=BATCH,
        length=LENGTH,
        evaluation=EVALUATION,
        evaluations=SCORED[2],
        probes=held,
    )


def cells(best, texts, unique):
    every = vary(best, {"data.corpus": texts.values(), "init_seed": SEEDS})
    for epochs, scored in zip(EPOCHS, SCORED, strict=True):
        yield from on_unique(every, unique, epochs, scored)


def on_unique(runs, unique, epochs, scored):
    """The runs on each amount of unique data, over so many epochs."""
    found = together(
        runs,
        {
            "data.unique_tokens": unique,
            "data.tokens": [tokens * epochs for tokens in unique],
            "evaluations": [scored] * len(unique),
        },
    )
    return [on_the_way(run) for run in found] if epochs == EPOCHS[-1] else found


def on_the_way(run):
    """The run with its predictions kept before its end, too."""
    kept = tuple(dataclasses.replace(p, at=ON_THE_WAY) for p in run.probes)
    return dataclasses.replace(run, probes=kept)


def another_shard(best, texts, unique, epochs=EPOCHS[-1]):
    axes = {"data.corpus": texts.values(), "data.seed": (1,)}
    scored = SCORED[EPOCHS.index(epochs)]
    return on_unique(vary(best, axes), [unique], epochs, scored)
