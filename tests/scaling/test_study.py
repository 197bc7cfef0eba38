"""Study files: building runs, choosing the best, saying what is wrong."""

import dataclasses
import types
from pathlib import Path

import pytest

from scaling import study
from scaling.errors import UserError
from scaling.layout import Layout
from scaling.record import Reading
from scaling.run import Data, EvaluationSet, Model, Optimiser, Part, Run
from scaling.study import Results, bracket, corpus, mixture, together, vary
from tests.scaling.test_record import make_record

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.py"))

RUN = Run(
    model=Model("transformer", 8_000),
    data=Data(corpus("kjv"), 81_920),
    optimiser=Optimiser(5e-3),
    batch=8,
    length=64,
    evaluation=(
        EvaluationSet("kjv", corpus("kjv")),
        EvaluationSet("code", corpus("code")),
    ),
)
RATES = vary(RUN, {"optimiser.learning_rate": (1e-3, 2e-3, 4e-3)})


def results(losses, status="done"):
    """Results that know the losses (on kjv, on code) of some rates."""

    def find(run):
        rate = run.optimiser.learning_rate
        if rate not in losses:
            return None
        readings = tuple(
            Reading(name, "loss", "final", loss, 0.0, "nats/token", 1, 1)
            for name, loss in zip(("kjv", "code"), losses[rate], strict=True)
        )
        diverged = losses[rate][0] is None
        return make_record(status="diverged" if diverged else "done", readings=readings)

    return Results(find)


NOTHING = results({})


def test_a_bracket_is_half_and_twice_the_rate_of_each():
    base = vary(RUN, {"optimiser.learning_rate": (1e-3, 8e-3)})
    rates = [run.optimiser.learning_rate for run in bracket(base)]
    assert rates == [5e-4, 2e-3, 4e-3, 1.6e-2]
    unsure = dataclasses.replace(RUN, provisional=True)
    assert all(run.provisional for run in bracket(unsure))


def test_vary_is_a_product_and_together_is_a_zip():
    axes = {"data.tokens": (1024, 2048), "optimiser.learning_rate": (1e-3, 1e-2)}
    pairs = lambda runs: [(r.data.tokens, r.optimiser.learning_rate) for r in runs]
    assert pairs(vary(RUN, axes)) == [
        (1024, 1e-3),
        (1024, 1e-2),
        (2048, 1e-3),
        (2048, 1e-2),
    ]
    assert pairs(together(RUN, axes)) == [(1024, 1e-3), (2048, 1e-2)]
    assert len(vary(vary(RUN, axes), {"init_seed": range(3)})) == 12
    with pytest.raises(UserError, match="equally many"):
        together(RUN, {"init_seed": (1, 2), "data.seed": (1,)})
    with pytest.raises(UserError, match="did you mean 'tokens'"):
        vary(RUN, {"data.token": (1,)})
    with pytest.raises(UserError, match=r"invalid batch\.size 'size'"):
        vary(RUN, {"batch.size": (1,)})


def test_several_fields_of_one_part_change_together():
    both = {"data.seed": (3,), "data.tokens": (1024,), "model.family": ("lstm",)}
    (run,) = vary(RUN, both)
    data = dataclasses.replace(RUN.data, seed=3, tokens=1024)
    model = dataclasses.replace(RUN.model, family="lstm")
    assert run == dataclasses.replace(RUN, data=data, model=model)
    longer = dataclasses.replace(RUN.data, tokens=4096)
    (run,) = vary(RUN, {"data": (longer,), "data.seed": (3,)})
    assert run.data == dataclasses.replace(longer, seed=3)


def test_mixtures_do_not_depend_on_the_order_they_are_written_in():
    assert mixture(kjv=0.25, code=0.75) == mixture(code=0.75, kjv=0.25)
    assert mixture(kjv=1, code=1)[0] == Part("code", 1.0)
    assert corpus("files", path="a.txt")[0].key == "files[path=a.txt]"


def test_best_is_provisional_until_every_candidate_has_a_record():
    for known in ({}, {1e-3: (2.0, 1.0), 2e-3: (1.0, 1.0)}):
        best = results(known).best(RATES)
        assert best.provisional and best == RATES[1]
    complete = {1e-3: (2.0, 1.0), 2e-3: (2.5, 2.0), 4e-3: (1.5, 3.0)}
    best = results(complete).best(RATES)
    assert best is RATES[2] and not best.provisional
    assert results(complete).best(RATES, "code") is RATES[0]
    with pytest.raises(UserError, match="known: code, kjv"):
        results(complete).best(RATES, "cod")


def test_results_know_whether_the_runs_depend_on_them():
    assert not results({}).used
    chosen = results({})
    chosen.best(RATES)
    assert chosen.used


def test_what_is_derived_from_a_provisional_run_is_provisional():
    best = NOTHING.best(RATES)
    longer = vary(best, {"data.tokens": (163_840,)})
    assert longer[0].provisional
    assert dataclasses.replace(best, init_seed=1).provisional
    done = {1e-3: (2.0, 1.0), 2e-3: (2.5, 2.0), 4e-3: (1.5, 3.0)}
    assert results(done).best([best, *RATES]).provisional


def test_a_diverged_candidate_loses():
    losses = {1e-3: (2.0, 1.0), 2e-3: (None, None), 4e-3: (None, None)}
    assert results(losses).best(RATES) is RATES[0]
    nothing = dict.fromkeys(losses, (None, None))
    best = results(nothing).best(RATES)
    assert best is RATES[1] and not best.provisional


def test_a_run_that_is_yielded_twice_is_one():
    copy = dataclasses.replace(RATES[1], provisional=True)
    for runs in ([copy, *RATES], [*RATES, copy]):
        once = study.unique(runs)
        assert len(once) == 3 and not any(run.provisional for run in once)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_builds(path):
    loaded = study.load(str(path))
    assert "scaling run" in loaded.module.__doc__
    runs = loaded.runs(NOTHING)
    study.validate(runs)
    study.check_layout(runs, Layout(run=2, width=2))
    tuning = [run for run in runs if not run.provisional]
    middle = Results(lambda run: make_record(status="diverged", readings=()))
    complete = loaded.runs(middle)
    assert tuning and not any(run.provisional for run in complete)
    assert len(complete) == len(runs) == len(set(complete))


def test_a_cut_is_a_study_of_its_own(tmp_path):
    path = tmp_path / "own.py"
    path.write_text("def study(results):\n    yield 1\ndef run(size):\n    pass\n")
    with pytest.raises(UserError, match=r"quick.*must define `quick.*no cut at all"):
        study.load(str(path), cut="quick")
    path.write_text("study = len\ndef quick(results):\n    yield 1\n")
    with pytest.raises(UserError, match=r"'run'.*it has quick"):
        study.load(str(path), cut="run")
    loaded = study.load(str(path), cut="quick")
    assert loaded.name == "own_quick" and study.load(str(path)).name == "own"
    with pytest.raises(UserError, match="it yields 1, no Run"):
        loaded.runs(NOTHING)


def test_same_data_tunes_alike_and_ends_in_seeds():
    path = next(path for path in CONFIGS if path.stem == "same_data")
    diverged = make_record(status="diverged", readings=())
    whole = None
    for cut in ("", "quick"):
        loaded = study.load(str(path), cut=cut)
        runs = loaded.runs(Results(lambda run: diverged))
        whole = whole or set(runs)
        assert set(runs) <= whole  # so that the whole goes on from its cut
        trained = [r for r in runs if r.model.family != "ngram"]
        assert {len(r.probes) for r in runs} == {3}
        assert all(probes.best for r in runs for probes in r.probes)
        unique = sorted({r.data.unique_tokens for r in runs})
        assert len(unique) == 2 and unique[1] == 4 * unique[0]
        cells, trials = {}, {}
        for r in trained:
            key = r.model, r.data.corpus, r.data.unique_tokens, r.data.tokens
            if r.data.seed == 0:
                cells.setdefault(key, set()).add(r.init_seed)
            one = r.optimiser.learning_rate, r.optimiser.weight_decay
            trials.setdefault((r.model.family, r.model.size), set()).add(one)
        assert all(seeds == {0, 1, 2} for seeds in cells.values())
        assert {len(tried) for tried in trials.values()} == {9}
        epochs = {round(r.steps / r.unique_steps) for r in trained}
        assert epochs == {1, 4, 16, 64, 256}
        once = [r for r in trained if r.steps == r.unique_steps]
        largest = max(once, key=lambda r: (r.tokens, r.model.size)).flat()
        assert any(
            all(largest[name] == value for name, value in cell.items())
            for cell in loaded.module.withheld
        )
        most = max(r.steps for r in trained)
        kept = {r.probes[0].at for r in trained if r.steps == most}
        assert kept == {(0.125, 0.25, 0.5, 1.0)}


def test_pictures_are_tuned_alike_and_set_side_by_side():
    path = next(path for path in CONFIGS if path.stem == "pictures")
    diverged = make_record(status="diverged", readings=())
    whole = None
    for cut in ("", "quick"):
        loaded = study.load(str(path), cut=cut)
        runs = loaded.runs(Results(lambda run: diverged))
        whole = whole or set(runs)
        assert set(runs) <= whole  # so that the whole goes on from its cut
        trials, cells = {}, {}
        for r in runs:
            one = r.model.family, r.model.size
            trials.setdefault(one, set()).add(r.optimiser.learning_rate)
            read = r.data.unique_tokens, r.data.tokens, r.data.half
            cells.setdefault(r.objective, {}).setdefault(read, set()).add(r.model)
        assert len({len(tried) for tried in trials.values()}) == 1
        # What models of pixels read, denoisers read as well, of the same sizes.
        assert set(cells["next_token"]) <= set(cells["denoise"])
        ends = {
            read
            for read, models in cells["denoise"].items()
            if read[2] and len(models) == sum(f in DENOISE for f, _ in trials)
        }
        assert {(u, 65_536, half) for u in (64, 16_384) for half in (1, 2)} <= ends
        # Noises are compared between runs of one shape: one set of samples for each.
        made = {(s.name, s.parts, s.count) for r in runs for s in r.samples}
        assert len({name for name, _, _ in made}) == len(made)


DENOISE = ("unet", "dit", "mixer")


def test_the_quick_study_is_what_it_says():
    path = next(path for path in CONFIGS if path.stem == "quickstart")
    loaded = study.load(str(path))
    diverged = make_record(status="diverged", readings=())
    runs = loaded.runs(Results(lambda run: diverged))
    assert min(run.steps for run in runs) >= 150
    counted = [run for run in runs if run.model.family == "ngram"]
    assert len(counted) == 2  # a reference, with no ladder
    runs = [run for run in runs if run not in counted]
    one_epoch = [r for r in runs if r.data.unique_tokens is None]
    grid = {(r.model.family, r.model.size, r.data.corpus, r.tokens) for r in one_epoch}
    assert len(grid) == 3 * 3 * 4 * 2
    per_family = {
        family: sorted(
            (r.model.size, r.steps, r.init_seed, r.data.seed, len(r.data.corpus))
            for r in runs
            if r.model.family == family
        )
        for family in {run.model.family for run in runs}
    }
    assert len({str(same) for same in per_family.values()}) == 1  # the same effort
    repeated = [r for r in runs if r.data.unique_tokens is not None]
    assert {r.steps / r.unique_steps for r in repeated} == {4.0}


def write(tmp_path, text):
    path = tmp_path / "mine.py"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x = 1", "must define `study"),
        ("import nothing_of_that_name", "line 1: ModuleNotFoundError"),
        ("def study(results)\n", "line 1: SyntaxError"),
        ("\ndef study(results):\n    yield from oops()\n", "line 3: NameError"),
        ("def study(results):\n    yield 'lstm'\n", "it yields 'lstm', no Run"),
        ("def study(results):\n    return\n    yield\n", "it yields no run"),
        ("def study(results):\n    results.best([])\n    yield\n", "one candidate"),
        ("def study(results):\n    return None\n", "it returns None and yields no run"),
        ("import sys\nsys.exit('bye')\n", "line 2: SystemExit: bye"),
        (
            "from scaling import Samples\nSamples('s', (), step=3)\n",
            "line 2: Samples has no field 'step': known: at, count, ",
        ),
        ("def study(results):\n    while True:\n        yield 1\n", "does it ever end"),
    ],
)
def test_a_wrong_file_is_one_line_with_its_place(tmp_path, monkeypatch, text, says):
    monkeypatch.setattr(study, "MOST_RUNS", 100)
    monkeypatch.chdir(tmp_path)
    name = Path(write(tmp_path, text)).name
    for path in (str(tmp_path / name), name):
        with pytest.raises(UserError) as caught:
            study.load(path).runs(NOTHING)
        assert says in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "says"), [("nothing.py", "no such file"), ("", "a folder stands there")]
)
def test_a_study_that_is_not_there_is_said_to_be_missing(tmp_path, path, says):
    with pytest.raises(UserError, match=says):
        study.load(str(tmp_path / path))


def test_names_are_checked():
    for field, value, says in (
        ("model.family", "transformers", "did you mean 'transformer'"),
        ("data.corpus", corpus("bible"), "known: "),
        ("evaluation", (EvaluationSet("a", corpus("cod")),), "did you mean 'code'"),
    ):
        with pytest.raises(UserError, match=says):
            study.validate(vary(RUN, {field: (value,)}))


def test_the_mesh_divides_the_batch():
    study.check_layout([RUN], Layout(data=4))
    with pytest.raises(UserError, match=r"invalid batch 8: .* 3 devices"):
        study.check_layout([RUN], Layout(data=3))


def held(**tokens):
    """Prepared corpora as far as budgets go, by how many tokens each has."""
    made = lambda n: types.SimpleNamespace(readable=lambda half: n, unit="tokens")
    return {key: made(n) for key, n in tokens.items()}


def test_a_budget_is_refused_when_a_corpus_is_smaller():
    mixed = vary(RUN, {"data.corpus": (mixture(code=3, kjv=1),)})
    study.check_budgets([RUN, *mixed], held(kjv=81_920, code=61_440))
    with pytest.raises(UserError, match=r"data.tokens 81920: .* 'kjv', which holds 81"):
        study.check_budgets([RUN], held(kjv=81_919))
    with pytest.raises(UserError, match="'code'"):
        study.check_budgets(mixed, held(kjv=81_920, code=61_439))
    repeated = vary(RUN, {"data.unique_tokens": (20_480,)})
    study.check_budgets(repeated, held(kjv=20_480))


def test_a_corpus_may_have_an_option_of_any_name():
    (part,) = corpus("tfds_pictures", name="cifar10", label="label")
    assert part.name == "tfds_pictures"
    assert dict(part.options) == {"name": "cifar10", "label": "label"}
