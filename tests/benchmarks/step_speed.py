"""Speed of one training step, beside PyTorch and nanodo on the same Transformer.

    python -m tests.benchmarks.step_speed [--sizes 33k 819k] [--rounds 5]
        [--nanodo FOLDER] [--torch_python PATH | --no-torch] [--where]

A decoder with LayerNorm, learned positions, multi-head attention, a GELU layer of 4 x
width and a tied byte vocabulary (peers/plain_transformer.py), trained with AdamW on
batches of 16 x 128 random tokens in float32. Tokens/s of

    alone    one run on one device, both cores its threads
    packed   two runs at once on two devices, as a study trains them; both runs counted
    eager    PyTorch: scaled_dot_product_attention, fused AdamW, a thread a core
    compile  the same behind torch.compile
    nanodo   its model and loss from the checkout FOLDER, jitted with optax.adamw and a
             donated state, as its train.py does

in rounds that take each in turn; ratios are within a round, and the table gives medians
over rounds. Ours is the trainer's own step: it also clips, checks for what is not
finite, follows a schedule and reads eight batches a call, which the others do not.
Goals: packed 1.0 times eager, 0.9 at 3.2M; alone 0.85 times eager up to 115k, 0.75
above; alone 1.2 times nanodo at 819k and above. Where one is missed (or with --where)
the time without attention, activation, norms and AdamW's moments says where it goes.

PyTorch has no wheels for every Python: it is installed once, into a Python 3.11
environment under --folder, and left out with a sentence where that cannot be had.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from scaling import families, plugins
from scaling.engines.local import cores
from scaling.layout import Layout
from scaling.run import Data, EvaluationSet, Model, Optimiser, Part, Run, Schedule
from scaling.run import options as run_options
from scaling.training import worker

PEERS = Path(__file__).parent / "peers"
TORCH = "torch==2.13.0"
SIZES = {"33k": 33_000, "115k": 115_000, "819k": 819_000, "3.2M": 3_200_000}
VOCAB, BATCH, LENGTH = 257, 16, 128

# (ours, theirs): the ratio asked for at each size.
GOALS = {
    ("packed", "eager"): {"33k": 1.0, "115k": 1.0, "819k": 1.0, "3.2M": 0.9},
    ("alone", "eager"): {"33k": 0.85, "115k": 0.85, "819k": 0.75, "3.2M": 0.75},
    ("alone", "nanodo"): {"819k": 1.2, "3.2M": 1.2},
}
# Tokens/s measured for at least so many seconds.
Rate = Callable[[float], float]
Rates = dict[str, dict[str, np.ndarray]]


def ours(
    size: int, layout: Layout, without: str = "", optimiser: str = "adamw"
) -> Rate:
    """The trainer's own step."""
    from scaling.training import programs, speed

    part = Part("random")
    plain_sgd = run_options(momentum=0.0) if optimiser == "sgd" else ()
    run = Run(
        model=Model("plain_transformer", size, options=run_options(without=without)),
        data=Data(corpus=(part,), tokens=10**9),
        optimiser=Optimiser(1e-3, optimiser, options=plain_sgd),
        schedule=Schedule(),
        batch=BATCH,
        length=LENGTH,
        evaluation=(EvaluationSet("none", (part,)),),
    )
    spec = families.Tokens(VOCAB, LENGTH)
    programs.compiled(run.program(), layout, spec)
    return lambda seconds: speed.tokens_per_second(run, layout, spec, seconds)


def nanodo(folder: str, size: int) -> Rate:
    """nanodo's model and loss, stepped as its train.py does."""
    import jax
    import optax

    from scaling import families

    if folder not in sys.path:
        sys.path.insert(0, folder)
        # Its readers need grain; nothing that is used here does.
        grain = mock.MagicMock()
        sys.modules |= {"grain": grain, "grain.python": grain.python}
    from nanodo import loss, model

    member = families.load("plain_transformer").MEMBERS[size]
    config = model.DoConfig(
        D=member.width,
        H=member.heads,
        L=LENGTH,
        N=member.depth,
        V=VOCAB,
        F=4 * member.width,
        fsdp_enabled=False,
    )
    module = model.TransformerDo(config)
    rule = optax.adamw(1e-3, weight_decay=0.1)

    def init(key: Any) -> Any:
        params = module.init(key, np.zeros((1, LENGTH), np.int32))["params"]
        return params, rule.init(params)

    def step(state: Any, tokens: Any) -> Any:
        params, optimiser = state
        descent = jax.value_and_grad(
            loss.get_default_loss_fn(tokens, module.apply, {}), has_aux=True
        )
        (value, _), gradients = descent(params)
        updates, optimiser = rule.update(gradients, optimiser, params)
        return (optax.apply_updates(params, updates), optimiser), value

    call = jax.jit(step, donate_argnums=0)
    held = [jax.jit(init)(jax.random.key(0))]
    draw = np.random.default_rng(0)

    def rate(seconds: float) -> float:
        start, steps, before = time.perf_counter(), 0, None
        while not steps or time.perf_counter() - start < seconds:
            tokens = draw.integers(1, VOCAB, (BATCH, LENGTH), np.int32)
            held[0], value = call(held[0], tokens)
            jax.block_until_ready(before)  # one step late, so that the queue is fed
            before, steps = value, steps + 1
        jax.block_until_ready(before)
        return steps * BATCH * LENGTH / (time.perf_counter() - start)

    rate(0.0)
    return rate


class Torch:
    """A child process that steps the PyTorch model; see peers/torch_transformer.py."""

    def __init__(self, python: str, folder: Path):
        caches = {"TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor")}
        self._child = subprocess.Popen(
            [python, str(PEERS / "torch_transformer.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | caches,
        )

    def ask(self, size: int, compiled: bool, seconds: float) -> None:
        from scaling import families

        member = families.load("plain_transformer").MEMBERS[size]
        shape = {"depth": member.depth, "width": member.width, "heads": member.heads}
        wanted = shape | {"vocab": VOCAB, "batch": BATCH, "length": LENGTH}
        wanted |= {"threads": cores(), "compile": compiled, "seconds": seconds}
        assert self._child.stdin is not None
        print(json.dumps(wanted), file=self._child.stdin, flush=True)

    def answer(self) -> dict[str, Any]:
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        if not line:
            raise RuntimeError(f"PyTorch ended with code {self._child.wait()}")
        return json.loads(line)

    def rate(self, size: int, compiled: bool) -> Rate:
        def measure(seconds: float) -> float:
            self.ask(size, compiled, seconds)
            return self.answer()["rate"]

        return measure

    def close(self) -> None:
        self._child.communicate()


def torch_python(given: str | None, folder: Path) -> str | None:
    """A Python that has torch, made where needed; None, and why is printed."""
    environment = folder / TORCH
    python = given or str(environment / "bin" / "python")
    works = lambda: (
        subprocess.run([python, "-c", "import torch"], capture_output=True).returncode
        == 0
    )
    if Path(python).exists() and works():
        return python
    if given:
        print(f"PyTorch: left out, {given} cannot import torch")
        return None
    base = shutil.which("python3.11")
    if base is None:
        print("PyTorch: left out, there is no python3.11; give --torch_python")
        return None
    print(f"PyTorch: installing {TORCH} into {environment}", flush=True)
    pip = [python, "-m", "pip", "install", "--quiet", TORCH, "numpy"]
    for command in ([base, "-m", "venv", str(environment)], pip):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no output"])[-1]
            print(f"PyTorch: left out, {command[0]} failed: {last}")
            return None
    return python


def contenders(size: int, torch: Torch | None, checkout: str) -> dict[str, Rate]:
    """All of them at one size, compiled; PyTorch compiles while XLA does."""
    slots = max(2, cores())
    if torch:
        torch.ask(size, True, 0.0)
    found = {
        "alone": ours(size, Layout()),
        "packed": ours(size, Layout(run=slots, width=slots)),
    }
    if checkout:
        found["nanodo"] = nanodo(checkout, size)
    if torch:
        torch.answer()
        found |= {
            "eager": torch.rate(size, False),
            "compile": torch.rate(size, True),
        }
        found["eager"](0.0)
    return found


def in_turn(rates: dict[str, Rate], rounds: int, seconds: float = 1.0) -> Any:
    """Tokens/s by name, one entry a round; each round begins with another."""
    names, taken = list(rates), {name: np.zeros(rounds) for name in rates}
    for i in range(rounds):
        for name in names[i % len(names) :] + names[: i % len(names)]:
            taken[name][i] = rates[name](seconds)
    return taken


# What is left out, one more at a time, and what that is called.
ABLATIONS = {
    "attention": ("attention", "adamw"),
    "activation": ("attention+gelu", "adamw"),
    "norms": ("attention+gelu+norm", "adamw"),
    "AdamW's moments": ("attention+gelu+norm", "sgd"),
}


def where(size: int, rounds: int) -> str:
    """How a step alone divides, by what it takes without one part after the other."""
    steps = {"all": ours(size, Layout())} | {
        part: ours(size, Layout(), *left) for part, left in ABLATIONS.items()
    }
    taken = in_turn(steps, rounds)
    times = {k: BATCH * LENGTH / np.median(rate) for k, rate in taken.items()}
    shares, before = [], times["all"]
    for part in ABLATIONS:
        share = (before - times[part]) / times["all"]
        shares.append(f"{part} {share:.0%}")
        before = times[part]
    rest = before / times["all"]
    return (
        f"a step of {times['all'] * 1e3:.3g} ms: {', '.join(shares)}, products with "
        f"weights, loss and the rest {rest:.0%}"
    )


def table(rates: Rates) -> Iterator[str]:
    """Tokens/s by contender and size, as Markdown."""
    sizes = list(rates)
    yield "| tokens/s | " + " | ".join(sizes) + " |"
    yield "|---|" + "---:|" * len(sizes)
    for name in rates[sizes[0]]:
        cells = (f"{np.median(rates[size][name]):,.0f}" for size in sizes)
        yield f"| {name} | " + " | ".join(cells) + " |"
    for (mine, theirs), goals in GOALS.items():
        if theirs in rates[sizes[0]]:
            cells = (
                f"{ratio(rates[size], mine, theirs):.2f}"
                + (f" ({goals[size]:g})" if size in goals else "")
                for size in sizes
            )
            yield f"| {mine} / {theirs} (goal) | " + " | ".join(cells) + " |"


def ratio(rates: dict[str, np.ndarray], mine: str, theirs: str) -> float:
    return float(np.median(rates[mine] / rates[theirs]))


def missed(size: str, rates: dict[str, np.ndarray]) -> bool:
    return any(
        theirs in rates
        and size in goals
        and ratio(rates, mine, theirs) < goals[size] - 0.005
        for (mine, theirs), goals in GOALS.items()
    )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--nanodo", default="", help="folder of a checkout")
    parser.add_argument("--torch_python", help="a Python that has torch")
    parser.add_argument("--no-torch", action="store_true")
    parser.add_argument("--where", action="store_true", help="where the time goes")
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("~/.cache/datalaw/benchmarks").expanduser(),
        help="for the PyTorch environment and what compilers keep",
    )
    return parser.parse_args()


def main() -> int:
    arguments = parse()
    python = None
    if not arguments.no_torch:
        python = torch_python(arguments.torch_python, arguments.folder)
    if not arguments.nanodo:
        print("nanodo: left out; give --nanodo a checkout of google-deepmind/nanodo")
    worker.configure(max(2, cores()), str(arguments.folder / "xla"))
    plugins.include(str(PEERS / "plain_transformer.py"))
    torch = Torch(python, arguments.folder) if python else None
    rates: Rates = {}
    for name in arguments.sizes:
        found = contenders(SIZES[name], torch, arguments.nanodo)
        rates[name] = in_turn(found, arguments.rounds)
        said = (f"{k} {np.median(rate):,.0f}" for k, rate in rates[name].items())
        print(f"{name}, tokens/s: {', '.join(said)}", flush=True)
    if torch:
        torch.close()
    print("\n".join(["", *table(rates)]), flush=True)
    short = [name for name in rates if missed(name, rates[name])]
    for name in rates if arguments.where else short:
        print(f"\n{name}: {where(SIZES[name], arguments.rounds)}", flush=True)
    return len(short)


if __name__ == "__main__":
    sys.exit(main())
