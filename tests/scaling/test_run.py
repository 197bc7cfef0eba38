"""A run's identity, its round trip and its arithmetic."""

import dataclasses
import json

import numpy as np
import pytest

from scaling.canonical import canonical
from scaling.errors import UserError
from scaling.run import (
    Data,
    EvaluationSet,
    Model,
    Optimiser,
    Part,
    Probes,
    Run,
    Schedule,
    label,
    options,
)
from scaling.run_check import check

DIGESTS = {"code": "c0de", "kjv": "1611", "files[path=a.txt]": "f11e"}

RUN = Run(
    model=Model("transformer", 24_000, options=options(heads=2)),
    data=Data((Part("code", 0.5), Part("kjv", 0.5)), 512_000, unique_tokens=128_000),
    optimiser=Optimiser(5e-3),
    schedule=Schedule(warmup_tokens=10_240),
    batch=8,
    length=64,
    evaluation=(EvaluationSet("kjv", (Part("kjv"),)),),
    init_seed=1,
)


def test_what_is_read_is_told_apart_by_its_half_and_its_captions():
    data = Data((Part("glyphs"),), 64, half=2, caption_dropout=0.1)
    assert data.label == "glyphs, half 2, 0.1 of captions dropped"


def test_the_golden_id():
    """Changing it orphans every record ever written: add fields with defaults."""
    assert RUN.run_id(DIGESTS) == "29f0813ddc1ed95a"


def test_a_new_field_with_a_default_keeps_the_ids():
    @dataclasses.dataclass(frozen=True)
    class Wider(Optimiser):
        momentum: float = 0.9

    now, later = Optimiser(5e-3), Wider(5e-3)
    assert canonical(now) == canonical(later) == {"learning_rate": 5e-3}
    assert canonical(Wider(5e-3, momentum=0.8)) != canonical(now)


PROBED = dataclasses.replace(RUN, probes=(Probes("kjv", (Part("kjv"),), at=(0.5, 1)),))


def test_probes_are_of_the_identity():
    assert dataclasses.replace(PROBED, probes=()).run_id(DIGESTS) == "29f0813ddc1ed95a"
    assert PROBED.run_id(DIGESTS) == "65b87607d285f763"
    best = dataclasses.replace(PROBED.probes[0], best=True)
    assert probed(best).run_id(DIGESTS) != PROBED.run_id(DIGESTS)
    fewer = dataclasses.replace(PROBED.probes[0], positions=64)
    ids = {r.run_id(DIGESTS) for r in (RUN, PROBED, probed(fewer))}
    assert len(ids) == 3
    assert [part.key for part in probed(Probes("x", (Part("x"),))).corpora()][-1] == "x"


def probed(*probes):
    return dataclasses.replace(RUN, probes=probes)


def test_the_id_depends_on_the_text_and_on_what_is_computed_alone():
    run_id = RUN.run_id(DIGESTS)
    assert RUN.run_id(DIGESTS | {"kjv": "1769"}) != run_id
    assert RUN.run_id(DIGESTS | {"unread": "x"}) == run_id
    assert dataclasses.replace(RUN, init_seed=2).run_id(DIGESTS) != run_id
    assert dataclasses.replace(RUN, provisional=True).run_id(DIGESTS) == run_id


def test_json_round_trip():
    part = Part("files", options=options(path="a.txt"))
    data = dataclasses.replace(RUN.data, corpus=(part,))
    for run in (RUN, PROBED, dataclasses.replace(RUN, data=data, provisional=True)):
        body = json.loads(json.dumps(run.to_json()))
        back = Run.from_json(body)
        assert back == run and back.provisional == run.provisional
        assert back.run_id(DIGESTS) == run.run_id(DIGESTS)


def test_flat_has_every_field_with_a_dotted_name():
    flat = RUN.flat()
    assert flat["optimiser.learning_rate"] == 5e-3
    assert flat["data.unique_tokens"] == 128_000
    assert "provisional" not in flat


def test_budgets_round_to_whole_steps():
    run = dataclasses.replace(RUN, data=Data(RUN.data.corpus, 1_000_000, 300_000))
    assert (run.steps, run.tokens) == (1953, 1953 * 512)
    assert (run.unique_steps, run.unique_tokens) == (586, 586 * 512)
    more = dataclasses.replace(RUN, data=Data(RUN.data.corpus, 1_000, 10**9))
    assert more.unique_steps == more.steps == 2


def test_runs_of_one_program_differ_in_values_alone():
    faster = dataclasses.replace(
        RUN,
        optimiser=Optimiser(1e-2, weight_decay=0.0, clip_norm=2.0),
        data=Data(RUN.data.corpus, 1_024_000),
        init_seed=7,
    )
    assert faster.program() == RUN.program()
    assert faster.values()["steps"] == 2000
    assert faster.values()["decay"] == np.float32(1600)
    assert faster.values()["warmup"] == np.float32(20)
    longer = dataclasses.replace(RUN, length=128)
    assert longer.program() != RUN.program()


def test_corpora_are_those_trained_on_and_scored_on_each_once():
    assert [part.key for part in RUN.corpora()] == ["code", "kjv"]
    assert label(RUN.data.corpus) == "0.5 code + 0.5 kjv"
    assert RUN.data.label == label(RUN.data.corpus)
    worse = dataclasses.replace(RUN.data, quality="truncation", quality_level=0.25)
    assert worse.label == "0.5 code + 0.5 kjv, truncation 0.25"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"batch": 0}, "batch"),
        ({"evaluation": ()}, "evaluation"),
        ({"precision": "float8"}, "precision"),
        ({"optimiser": Optimiser(float("nan"))}, "optimiser.learning_rate"),
        ({"optimiser": Optimiser(1e-3, weight_decay=-1)}, "optimiser.weight_decay"),
        ({"schedule": Schedule(decay_fraction=1.5)}, "schedule.decay_fraction"),
        ({"model": Model("lstm", 0)}, "model.size"),
        ({"model": Model("lstm", 8_000, "width")}, "model.size_by"),
        ({"data": Data((Part("kjv"),), 100)}, "data.tokens"),
        ({"data": Data((Part("kjv", -1.0),), 20_480)}, "data.corpus"),
        ({"probes": (Probes("a:b", (Part("kjv"),)),)}, "probes.name"),
        ({"probes": (Probes("a", (Part("kjv"),)),) * 2}, "probes.name"),
        ({"probes": (Probes("a", RUN.data.corpus),)}, "probes lie in one corpus"),
        ({"probes": (Probes("a", ()),)}, "probes.parts"),
        ({"probes": (Probes("a", (Part("kjv"),), 0),)}, "probes.positions"),
        ({"probes": (Probes("a", (Part("kjv"),), at=(0.5,)),)}, "probes.at"),
        ({"probes": (Probes("a", (Part("kjv"),), at=(0.0, 1.0)),)}, "probes.at"),
        ({"probes": (Probes("a", (Part("kjv"),), at=(1.5, 1.0)),)}, "probes.at"),
        ({"probes": (Probes("a", (Part("kjv"),), at=()),)}, "probes.at"),
        (
            {"probes": (Probes("a", (Part("kjv"),), best=True),)},
            r"probes.best.*0.5 code",
        ),
    ],
)
def test_values_that_no_code_could_run_are_refused(changes, field):
    assert check(RUN) is RUN
    with pytest.raises(UserError, match=field):
        check(dataclasses.replace(RUN, **changes))


@pytest.mark.parametrize("value", [["a"], None, {"a": 1}])
def test_an_option_is_plain(value):
    with pytest.raises(UserError, match=r"option field.*text, a number"):
        options(field=value)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model": "lstm"}, r"model 'lstm': give Model\("),
        ({"model": Model(3, 8_000)}, "model.family 3: give text"),
        ({"model": Model("lstm", "8k")}, "model.size '8k': give a whole number"),
        ({"model": Model("lstm", 8e3)}, "give a whole number, 8000"),
        ({"model": Model("lstm", np.int64(8000))}, r"int\(8000\)"),
        ({"model": Model("lstm", 8_000, options={"heads": 2})}, r"give options\("),
        ({"data": Data("code", 512_000)}, r"data.corpus 'code': give corpus\("),
        ({"data": Data((Part("kjv"),), "16k")}, "data.tokens '16k'"),
        ({"data": Data((Part("kjv"),), 1000, unique_tokens=0)}, "data.unique_tokens"),
        ({"data": Data((Part("kjv"),), 1000, seed=-1)}, "data.seed -1"),
        ({"data": Data((Part("kjv", "1"),), 1000)}, "data.corpus.weight '1'"),
        ({"optimiser": Optimiser("5e-3")}, "learning_rate '5e-3': give a number"),
        ({"optimiser": Optimiser(5e-3, weight_decay=float("inf"))}, "weight_decay"),
        ({"schedule": Schedule(warmup_tokens=-5)}, "schedule.warmup_tokens -5"),
        ({"schedule": Schedule(warmup_tokens=512_000)}, "ends before it reaches"),
        ({"evaluation": ("code",)}, r"evaluation .*give a tuple of EvaluationSet\("),
        ({"evaluation": RUN.evaluation * 2}, "evaluation.name"),
        (
            {"evaluation": (EvaluationSet("a", (Part("kjv"),), -1),)},
            "evaluation.tokens",
        ),
        ({"init_seed": 2**32}, "init_seed 4294967296: give a whole number from 0"),
        ({"init_seed": True}, "init_seed True: give .*whole number"),
    ],
)
def test_values_of_the_wrong_kind_are_refused(changes, says):
    with pytest.raises(UserError, match=says) as caught:
        check(dataclasses.replace(RUN, **changes))
    assert "\n" not in str(caught.value)
