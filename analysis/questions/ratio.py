"""Architecture against corpus."""

from __future__ import annotations

from analysis.schema import Column, declare

FRAMES = (
    declare(
        "ratios",
        "Architecture over corpus, in logs of their data-equivalents.",
        "target params tokens",
        Column("architecture", "the swap of families, a -> b"),
        Column("corpus", "the swap of corpora, d -> e"),
        Column(
            "lambda",
            "ln of the architecture's data-equivalent over ln of the corpus's, over "
            "draws in which the latter is finite",
        ),
        "low high",
        Column(
            "p_architecture",
            "share of draws in which the architecture is the larger effect",
        ),
        Column("p_architecture_infinite", "share in which the former has no end"),
        Column("p_corpus_infinite", "share in which the latter has no end"),
        Column("doublings", "doublings of the data that the architecture is worth"),
        Column("doublings_low", "lower end of their 95% interval"),
        Column("doublings_high", "upper end of their 95% interval"),
        Column("p_doubling", "share of draws in which it is worth more than one"),
        "fitted law",
    ),
)
