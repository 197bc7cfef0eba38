"""Same data, long enough: do all architectures become the same function?

    scaling plan configs/same_data.py
    scaling freeze configs/same_data.py --workdir runs/same_data
    scaling run configs/same_data.py --workdir runs/same_data
    scaling-analysis report runs/same_data

Within two hours on two cores; a first look at three families of one size takes ten
minutes, and the whole study goes on from there:

    scaling run configs/same_data.py --cut quick --workdir runs/same_data

Five families that gradients train, and n-grams as an anchor, read the same text over
and over: 8 and 33 thousand tokens of docstrings, of Python code and of a mixture of
hidden Markov models whose true chances are known, at two sizes, from three initial
weights. Each is read once, 4, 16 and 64 times, and the smaller amount 256 times: on the
most steps it is exhausted, so that held-out loss falls no more and early stopping has
something to stop. `data.seed` stays: all families see the same batches. One more run of
each family, size and corpus, of the larger amount, reads another shard, which says what
a change of the data alone is worth.

Learning rate and weight decay are tuned together, nine trials for every family and
size, over 64 epochs of the smaller docstrings; a model that is to read its text many
times may want far more decay than one that reads it once. Runs of several epochs are
scored on their way, so that their records hold the best reading with its step, which is
where early stopping would have ended them.

Every run's predictions are kept at 512 positions of each corpus, at its end and at its
best scoring; those of the most epochs at 1/8, 1/4 and 1/2 of their way too. See
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
BATCH, LENGTH = 4, 64
STEP = BATCH * LENGTH
UNIQUE = (32 * STEP, 128 * STEP)
EPOCHS = (1, 4, 16, 64, 256)
SCORED = (1, 4, 8, 16, 16)  # times, during so many epochs
MOST = (256, 64)  # epochs of each amount of unique data: as many steps
TUNED = 64  # epochs over which rate and decay are tuned
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
        where={"reading": EARLY, "exhausted": True},
    ),
    Claim(
        "Once a text is exhausted, architectures differ less in loss than after "
        "reading it once.",
        quantity="exhausted_gaps.change",
        rule="below",
        margin=0.0,
        where={"reading": EARLY, "exhausted": True},
    ),
)
# Laws are of text that is read once: the largest such cell, of this study and of its
# cut, is seen by none before it is predicted.
withheld = tuple(
    {"model.size": size, "data.unique_tokens": UNIQUE[1], "data.tokens": UNIQUE[1]}
    for size in SIZES
)


def study(results):
    yield from of(results, FAMILIES, SIZES)


def quick(results):
    """Three families at the smaller size: runs that the whole study has, too."""
    yield from of(results, ("transformer", "lstm", "convolution"), SIZES[:1])


def of(results, families, sizes):
    for family in families:
        for size in sizes:
            best = yield from tuned(results, family, size)
            yield from cells(best)
            yield from another_shard(best, MOST[1])
    for size in sizes:
        yield from counts(size)


def tuned(results, family, size):
    """Yields the trials; the best of them."""
    trials = vary(
        run(family, size),
        {"optimiser.learning_rate": RATES, "optimiser.weight_decay": DECAYS},
    )
    yield from trials
    return results.best(trials, "docstrings")


def run(family, size):
    """Of docstrings, over as many epochs as rate and decay are tuned for."""
    return Run(
        model=Model(family, size),
        data=Data(CORPORA["docstrings"], TUNED * UNIQUE[0], UNIQUE[0]),
        optimiser=Optimiser(learning_rate=RATES[1]),
        schedule=Schedule(warmup_tokens=20 * STEP),
        batch=BATCH,
        length=LENGTH,
        evaluation=EVALUATION,
        evaluations=SCORED[EPOCHS.index(TUNED)],
        # Few documents are held out of code: each gives several positions.
        probes=tuple(
            Probes(name, parts, POSITIONS, per_document=24, best=True)
            for name, parts in CORPORA.items()
        ),
    )


def cells(best):
    every = vary(best, {"data.corpus": CORPORA.values(), "init_seed": SEEDS})
    for unique, most in zip(UNIQUE, MOST, strict=True):
        for epochs in EPOCHS[: EPOCHS.index(most) + 1]:
            yield from read(every, unique, epochs, on_the_way=epochs == most)


def another_shard(best, epochs):
    other = vary(best, {"data.corpus": CORPORA.values(), "data.seed": (1,)})
    yield from read(other, UNIQUE[1], epochs, on_the_way=epochs == MOST[1])


def counts(size):
    """N-grams, whose counts are the same after every epoch."""
    counted = run(ANCHOR, size)
    once = vary(counted, {"data.corpus": CORPORA.values()})
    for unique in UNIQUE:
        yield from read(once, unique, EPOCHS[0])
    yield from another_shard(counted, EPOCHS[0])


def read(runs, unique, epochs, on_the_way=False):
    """The runs on so much unique data, so often.

    on_the_way: predictions are kept before the end, too.
    """
    axes = {
        "data.unique_tokens": [unique],
        "data.tokens": [unique * epochs],
        "evaluations": [SCORED[EPOCHS.index(epochs)]],
    }
    made = together(runs, axes)
    if not on_the_way:
        return made
    return [
        dataclasses.replace(
            run, probes=tuple(dataclasses.replace(p, at=ON_THE_WAY) for p in run.probes)
        )
        for run in made
    ]
