"""A U-Net that denoises and an LSTM that reads pixels in order, on the same pictures.

    scaling run tests/support/picture_study.py --workdir runs/pictures
    scaling-analysis report runs/pictures --where 'objective == denoise'

Two sizes each on 8 x 8 glyphs, three seeds of the smaller; `tiny(results)` is one run
each on 4 x 4 templates.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from scaling import (
    Data,
    EvaluationSet,
    Model,
    Optimiser,
    Run,
    Samples,
    Schedule,
    corpus,
    together,
    vary,
)

GLYPHS = corpus("glyphs", size=8)
SHAPES = corpus("templates", size=4, pictures=700)

UNET = Run(
    model=Model("unet", 20_000),
    data=Data(GLYPHS, tokens=32_768, unique_tokens=8_192),
    optimiser=Optimiser(learning_rate=3e-3),
    schedule=Schedule(warmup_tokens=2_048),
    batch=64,
    length=1,
    evaluation=(EvaluationSet("new characters", GLYPHS, tokens=512),),
    objective="denoise",
    samples=(Samples("glyphs", GLYPHS, count=64),),
)
LSTM = dataclasses.replace(UNET, model=Model("lstm", 20_000), objective="next_token")


def study(results: object) -> Iterator[Run]:
    for run in (UNET, LSTM):
        yield from vary(run, {"model.size": (20_000, 60_000)})
        yield from together(run, {"init_seed": (1, 2), "data.seed": (1, 2)})


def tiny(results: object) -> Iterator[Run]:
    few = {
        "data": (Data(SHAPES, tokens=16 * 16, half=1),),
        "batch": (16,),
        "schedule": (Schedule(warmup_tokens=32),),
        "evaluation": ((EvaluationSet("held out", SHAPES, tokens=24),),),
        "samples": ((Samples("shapes", SHAPES, count=4),),),
        "model.size": (8_000,),
    }
    yield from vary([UNET, LSTM], few)
