"""How much of a GPU or TPU training uses: utilisation, and what packing gains.

    python -m tests.benchmarks.gpu_speed [--small]

One accelerator, in bfloat16, each figure the median call of `train.tokens_per_second`:

    matmul peak    the fastest of some square products, timed here: what a perfect
                   program would reach on this chip
    utilisation    tokens/s x the model's FLOPs a token (forward products times three,
                   nothing computed twice is counted) / the matmul peak, for a
                   Transformer of 125M and 1B parameters, goals 50% and 55%, and for
                   every other family at 125M; the best of a few batches and of what the
                   backward pass keeps
    packed         tokens/s of the best pack against one run alone, for Transformers of
                   100k and 1M parameters, goal 20 times

On a CPU it would take days: --small has it show, with tiny models in float32, that it
works, and sets no goals.
"""

from __future__ import annotations

import argparse
import dataclasses
import platform
import sys
import time
from collections.abc import Iterable, Sequence

import flax
import jax
import jax.numpy as jnp
import jaxlib
import numpy as np

from scaling import families
from scaling.families import Tokens
from scaling.layout import Layout
from scaling.planning import cost
from scaling.run import Data, Model, Optimiser, Part, Run
from scaling.scheduling.progress import short
from scaling.training import programs, speed


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is measured.

    products: sizes of the square products. large: parameters and goal of the
    Transformers whose utilisation counts. others: parameters of the other families.
    batches: sequences a step, to choose the best of. packed: parameters of packed runs.
    widths: slots of the packs. seconds: each layout is measured for.
    """

    products: tuple[int, ...] = (4096, 8192, 16384)
    large: tuple[tuple[int, float], ...] = ((125_000_000, 0.50), (1_000_000_000, 0.55))
    others: int = 125_000_000
    batches: tuple[int, ...] = (8, 32)
    length: int = 2048
    vocab: int = 32_768
    packed: tuple[int, ...] = (100_000, 1_000_000)
    packed_shape: tuple[int, int] = (16, 256)
    widths: tuple[int, ...] = (16, 64, 256)
    gain: float = 20.0
    seconds: float = 5.0
    precision: str = "bfloat16"


SMALL = Plan(
    products=(128, 256),
    large=((20_000, 0.0),),
    others=8_000,
    batches=(2,),
    length=32,
    vocab=257,
    packed=(8_000,),
    packed_shape=(2, 32),
    widths=(2,),
    gain=0.0,
    seconds=0.05,
    precision="float32",
)


def matmul_peak(plan: Plan) -> float:
    """FLOP/s of the fastest square product."""
    best = 0.0
    for size in plan.products:
        x = jnp.ones((size, size), plan.precision)

        @jax.jit
        def chain(x: jax.Array, y: jax.Array) -> jax.Array:
            return jax.lax.fori_loop(0, 16, lambda _, z: (x @ z) / z.shape[0], y)

        chain(x, x).block_until_ready()
        taken = []
        for _ in range(5):
            started = time.perf_counter()
            chain(x, x).block_until_ready()
            taken.append(time.perf_counter() - started)
        best = max(best, 16 * 2.0 * size**3 / float(np.median(taken)))
    return best


def make_run(family: str, size: int, batch: int, length: int) -> Run:
    data = Data((Part("made"),), 10**6 * batch * length)
    return Run(Model(family, size), data, Optimiser(1e-3), batch, length, ())


def fastest(
    runs: Iterable[Run], layouts: Sequence[Layout], plan: Plan
) -> tuple[float, Run, Layout] | None:
    """(tokens/s, run, layout) of the fastest that fits; None where none does."""
    found: list[tuple[float, Run, Layout]] = []
    for run in runs:
        for layout in layouts:
            try:
                rate = speed.tokens_per_second(
                    run, layout, Tokens(plan.vocab, run.length), plan.seconds
                )
            except jax.errors.JaxRuntimeError as error:
                if "RESOURCE_EXHAUSTED" not in str(error):
                    raise
                continue
            finally:
                programs.compiled.cache_clear()  # programs hold device memory
            found.append((rate, run, layout))
    return max(found, key=lambda entry: entry[0], default=None)


def utilisation(family: str, size: int, peak: float, plan: Plan, base: Layout) -> float:
    """Prints and returns the share of the peak that the best layout reaches."""
    runs = [make_run(family, size, batch, plan.length) for batch in plan.batches]
    layouts = [
        dataclasses.replace(base, remat="none"),
        dataclasses.replace(base, remat="dots", scan_layers=True),
    ]
    best = fastest(runs, layouts, plan)
    if best is None:
        print(f"  {family:<12} {short(size):>6}: does not fit", flush=True)
        return 0.0
    rate, run, layout = best
    per_token = cost.describe(run, Tokens(plan.vocab, run.length)).flops_per_token
    share = rate * per_token / peak
    print(
        f"  {family:<12} {short(size):>6}: {share:6.1%}, {short(rate)} tokens/s, "
        f"{short(rate * per_token)}FLOP/s; batch {run.batch} x {run.length}, "
        f"remat {layout.remat}",
        flush=True,
    )
    return share


def packing(size: int, plan: Plan, base: Layout) -> float:
    """Prints and returns how many times faster the best pack is than a run alone."""
    run = make_run("transformer", size, *plan.packed_shape)
    alone = fastest([run], [base], plan)
    wide = [dataclasses.replace(base, width=width) for width in plan.widths]
    best = fastest([run], wide, plan)
    if alone is None or best is None:
        print(f"  transformer {short(size):>6}: does not fit", flush=True)
        return 0.0
    ratio = best[0] / alone[0]
    print(
        f"  transformer {short(size):>6}: {ratio:.1f} times, {short(best[0])} against "
        f"{short(alone[0])} tokens/s, {best[2].width} runs at once, batch "
        f"{run.batch} x {run.length}",
        flush=True,
    )
    return ratio


def judge(what: str, value: float, goal: float) -> bool:
    if goal:
        verdict = "holds" if value >= goal else "DOES NOT HOLD"
        print(f"  {what}: {value:.3g}; goal {goal:g} {verdict}", flush=True)
    return value >= goal


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="show that it works")
    arguments = parser.parse_args(argv)
    backend = jax.default_backend()
    if backend == "cpu" and not arguments.small:
        print("no GPU or TPU here: not measured (--small shows that it works)")
        return 1
    plan = SMALL if arguments.small else Plan()
    base = Layout(platform=backend, precision=plan.precision)
    print(
        f"{jax.devices()[0].device_kind}, one device; jax {jax.__version__}, jaxlib "
        f"{jaxlib.__version__}, flax {flax.__version__}, Python "
        f"{platform.python_version()}; {plan.precision}"
    )
    peak = matmul_peak(plan)
    print(f"matmul peak: {short(peak)}FLOP/s\nutilisation", flush=True)
    held = [
        judge(
            "share of the peak", utilisation("transformer", n, peak, plan, base), goal
        )
        for n, goal in plan.large
    ]
    for family in families.names("next_token"):
        if family != "transformer" and not families.fitted(family):
            utilisation(family, plan.others, peak, plan, base)
    print("packed against one run alone", flush=True)
    for size in plan.packed:
        held.append(judge("times faster", packing(size, plan, base), plan.gain))
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
