"""A grid of small runs, packed by `scaling run`, against a process for each run.

    python -m tests.benchmarks.grid_speed [--all] [--cold]

32 Transformers of 33 thousand parameters (4 rates x 4 budgets of 80 to 640 steps x 2
seeds, 8 x 64 tokens a step, scored on two corpora), end to end: from the command to the
last record, with imports, compiling and what is measured at a study's first start.

The other way is that of codebases that train one run a process: the same model, step,
batches and evaluation, but each process imports JAX, compiles and trains alone on all
cores. Every run of a budget takes the same time, so one stands for its eight: 4 of the
32 are run and their time is scaled up; `--all` runs them all. Goal: with nothing
compiled before, the grid is at least 5 times faster than one process each, one or two
at a time; beside it both ways warm (left out by `--cold`), where each process finds its
program compiled, which needs a cache of the very same 32 runs (rate, seed and steps are
constants of such a program).
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from scaling.run import Data, EvaluationSet, Model, Optimiser, Run, Schedule
from scaling.study import corpus, vary

GOAL = 5.0
BATCH, LENGTH = 8, 64
STEP = BATCH * LENGTH
RATES = (4e-3, 8e-3, 1.6e-2, 3.2e-2)
BUDGETS = tuple(steps * STEP for steps in (640, 320, 160, 80))
SEEDS = (0, 1)


def study(results: object) -> list[Run]:
    """This file is a study too."""
    sets = ("docstrings", "code")
    base = Run(
        model=Model("transformer", 33_000),
        data=Data(corpus("docstrings"), BUDGETS[0]),
        optimiser=Optimiser(learning_rate=RATES[0]),
        schedule=Schedule(warmup_tokens=20 * STEP),
        batch=BATCH,
        length=LENGTH,
        evaluation=tuple(EvaluationSet(name, corpus(name)) for name in sets),
    )
    axes = {
        "optimiser.learning_rate": RATES,
        "init_seed": SEEDS,
        "data.tokens": BUDGETS,
    }
    return list(vary(base, axes))


def is_first(run: Run) -> bool:
    """Whether it stands for the runs of its budget."""
    return run.optimiser.learning_rate == RATES[0] and run.init_seed == SEEDS[0]


def cpu_seconds() -> float:
    """CPU time of all children that ended: a busy machine changes it less."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def packed(folder: Path, name: str) -> float:
    """Wall seconds of `scaling run` in a new workdir."""
    command = [sys.executable, "-c", "from scaling.main import entry; entry()"]
    command += ["run", __file__, "--workdir", str(folder / name)]
    command += ["--compilation_cache", str(folder / "packed")]
    started, before = time.monotonic(), cpu_seconds()
    subprocess.run(command, check=True, capture_output=True)
    taken, used = time.monotonic() - started, cpu_seconds() - before
    records = len(list((folder / name / "records").iterdir()))
    assert records == len(study(None)), f"{records} records"
    layouts = json.loads((folder / name / "layout.json").read_text()).values()
    layout = next(iter(layouts))["layout"]
    print(
        f"scaling run, {name}: {taken:.1f} s, {used:.0f} s of CPU ({layout['width']} "
        f"runs at once on {layout['run']} devices)",
        flush=True,
    )
    return taken


def one_each(folder: Path, at_once: int, warm: bool, every: bool) -> float:
    """Wall seconds of the grid with a process for each run, `at_once` of them.

    warm: each finds its own program in the cache, from an earlier call.
    """
    runs = study(None)
    sample = runs if every else [run for run in runs if is_first(run)]
    sample.sort(key=lambda run: -run.steps)
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(folder / f"alone-{at_once}"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    results = Path(tempfile.mkdtemp(dir=folder))

    def carry_out(number: int) -> float:
        started = time.monotonic()
        given = json.dumps(sample[number].to_json())
        command = [sys.executable, "-m", "tests.benchmarks.grid_speed", "--alone"]
        command += [given, "--result", str(results / f"{number}.json")]
        subprocess.run(command, check=True, env=environment, capture_output=True)
        return time.monotonic() - started

    before = cpu_seconds()
    with ThreadPoolExecutor(at_once) as pool:
        each = list(pool.map(carry_out, range(len(sample))))
    # As if nobody ever waited for the other to end, which favours this way.
    share = len(sample) / len(runs)
    taken, used = sum(each) / at_once / share, (cpu_seconds() - before) / share
    assert len(list(results.iterdir())) == len(sample)
    scaled = "" if every else f" (scaled up from {len(sample)})"
    cache = "warm" if warm else "cold"
    print(
        f"one process each, {at_once} at a time, {cache}: {taken:.0f} s, {used:.0f} s "
        f"of CPU{scaled}",
        flush=True,
    )
    return taken


def train_alone(run: Run, result: str) -> None:
    """Trains one run as a program of its own would."""
    import jax
    import optax
    from flax import nnx

    from scaling import corpora, families, objective, optim
    from scaling.layout import Layout
    from scaling.training import evaluation, mesh

    folder = corpora.data_folder(None)
    prepared = {
        part.key: corpora.open_prepared(part, folder, run.data.tokenizer)
        for part in run.corpora()
    }
    stream = corpora.TokenStream(run, prepared)
    spec = families.Tokens(stream.vocab, run.length)
    family = families.load(run.model.family)
    config = family.ladder(run.model.size, spec)
    goal = objective.make(run.objective, spec)
    rule = optim.transform(run.program(), run.values())

    @jax.jit
    def start():
        model = family.Model(config, spec, nnx.Rngs(jax.random.key(run.init_seed)))
        return model, rule.init(model)

    @jax.jit(donate_argnums=(0, 1))
    def step(model, optimiser, batch):
        loss, gradients = jax.value_and_grad(goal.loss)(model, batch)
        updates, optimiser = rule.update(gradients, optimiser, model)
        return optax.apply_updates(model, updates), optimiser, loss

    model, optimiser = start()
    losses = []
    for number in range(run.steps):
        model, optimiser, loss = step(model, optimiser, stream.batch(number))
        losses.append(loss)
    read = functools.partial(jax.jit(goal.read), model)
    sharding = mesh.windows(mesh.make(Layout()).mesh)
    scores = {}
    for held_out in run.evaluation:
        for part in held_out.parts:
            windows = corpora.evaluation_windows(
                part, held_out.tokens, run.length, prepared
            )
            score = evaluation.score(read, windows, sharding)
            scores[part.key, held_out.tokens] = score
    readings = evaluation.readings(run.evaluation, scores, "final", run.steps)
    body = {"curve": [float(x) for x in losses]}
    body |= {f"{r.evaluation} {r.quantity}": r.value for r in readings}
    Path(result).write_text(json.dumps(body))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--all", action="store_true", help="no run stands for another")
    parser.add_argument("--cold", action="store_true", help="leave the warm caches out")
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    parser.add_argument("--result", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.alone:
        train_alone(Run.from_json(json.loads(arguments.alone)), arguments.result)
        return 0
    from scaling import corpora

    parts = study(None)[0].corpora()
    corpora.prepare(parts, corpora.data_folder(None), "bytes", True)
    folder = Path(tempfile.mkdtemp(prefix="grid-speed-"))
    try:
        ways = (0,) if arguments.cold else (0, 1)
        grid = {warm: packed(folder, "warm" if warm else "cold") for warm in ways}
        others = {
            (at_once, warm): one_each(folder, at_once, bool(warm), arguments.all)
            for at_once in (2, 1)
            for warm in ways
        }
    finally:
        shutil.rmtree(folder)
    held = True
    for (at_once, warm), taken in others.items():
        ratio = taken / grid[warm]
        said = "both warm"
        if not warm:
            holds = ratio >= GOAL
            held &= holds
            said = f"cold; goal {GOAL:g} {'holds' if holds else 'DOES NOT HOLD'}"
        print(f"against {at_once} at a time: {ratio:.1f} times faster, {said}")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
