"""Pictures of a training step of the U-Net, beside PyTorch's of the same shape.

    python -m tests.benchmarks.unet_speed [--sizes 20k 87k] [--rounds 5] [--pixels 8]
        [--batch 128] [--torch_python PATH | --no-torch]

Pictures for each second of processor time, on one device, in float32 on noise: other
work on the machine changes it little, where it would halve a rate by the clock.

    alone    one run, in a loop of eight steps as the trainer's call is
    product  alone, with each convolution as one product of what lies under its taps
    vmap     a pack of two in one such loop, each operation on both
    in turn  a pack of two in one such call, one run after the other
    trainer  the trainer's own call for one run: noise is drawn, weights are averaged
    packed   the same for a pack of two on two cores, one run a core, as it chooses
    lax      alone, with XLA's own convolution (once, not in rounds: it is slow)
    torch    PyTorch, one thread, AdamW fused, channels first
    last     the same with channels last

in rounds that take each in turn; ratios are within a round and the table gives medians.
Ours clips, follows a schedule and has the width rule's rates; PyTorch's does not.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from scaling import optim
from scaling.families import Conditions, Images, _convolution, _layers, unet
from scaling.layout import Layout
from scaling.run import Data, Model, Optimiser, Part, Run
from tests.benchmarks._stepped import Rate, stepped
from tests.benchmarks.step_speed import in_turn, torch_python

PEER = Path(__file__).parent / "peers" / "torch_unet.py"
SIZES = {"20k": 20_000, "87k": 87_000, "300k": 300_000, "1M": 1_000_000}
STEPS = 8


def call(config: unet.Config, spec: Images, pack: str, platform: str = "cpu") -> Any:
    """Eight steps of as many runs as a pack has, and what it starts with."""
    data = Data((Part("random"),), tokens=10**9)
    run = Run(Model("unet", 1), data, Optimiser(1e-3), 8, 1, ())
    values = {k: jnp.float32(x) for k, x in run.values().items()}
    rule = optim.transform(run.program(), values)
    how = _layers.Tracing(Layout(platform), lambda tree: tree)

    def loss(model: Any, batch: Any) -> jax.Array:
        x, target, noise = batch
        with _layers.tracing(how):
            return jnp.mean((model(x, Conditions(noise)).y - target) ** 2)

    def step(state: Any, batch: Any) -> Any:
        model, optimiser = state
        value, gradients = jax.value_and_grad(loss)(model, batch)
        updates, optimiser = rule.update(gradients, optimiser, model)
        return (optax.apply_updates(model, updates), optimiser), value

    advance = functools.partial(jax.lax.scan, step)
    if pack == "in turn":
        many = lambda state, batches: jax.lax.map(
            lambda x: advance(*x), (state, batches)
        )
    else:
        many = jax.vmap(advance)
    width = 2 if pack in ("vmap", "in turn") else 1
    model = jax.eval_shape(lambda: unet.Model(config, spec, nnx.Rngs(0)))
    numbers = np.random.default_rng(0)
    # Compiling how a model is drawn would take longer than all that is measured.
    draw = lambda leaf: jnp.asarray(
        numbers.normal(scale=0.1, size=(width, *leaf.shape)), jnp.float32
    )
    state = jax.tree.map(draw, model)
    return jax.jit(many, donate_argnums=0), (state, jax.vmap(rule.init)(state)), width


def ours(config: unet.Config, spec: Images, batch: int, pack: str) -> Rate:
    platform = "gpu" if pack == "lax" else "cpu"
    advance, state, width = call(config, spec, pack, platform)
    numbers = np.random.default_rng(0)
    draw = lambda *shape: jnp.asarray(
        numbers.normal(size=(width, STEPS, batch, *shape)), jnp.float32
    )
    batches = draw(*spec.shape), draw(*spec.shape), draw()
    held = [state]

    def rate(seconds: float) -> float:
        start, cpu, pictures = time.perf_counter(), time.process_time(), 0
        while not pictures or time.perf_counter() - start < seconds:
            held[0], losses = advance(held[0], batches)
            jax.block_until_ready(losses)
            pictures += width * STEPS * batch
        return pictures / (time.process_time() - cpu)

    product, squares = _convolution._by_product, _convolution._by_squares
    used = product if pack == "product" else squares
    with mock.patch.object(_convolution, "_by_squares", used):
        rate(0.0)
    return rate


def trained(size: int, spec: Images, batch: int, layout: Layout) -> Rate:
    """The call that training makes, of so many runs at once."""
    data = Data((Part("random"),), tokens=10**9)
    run = Run(
        Model("unet", size), data, Optimiser(1e-3), batch, 1, (), objective="denoise"
    )
    return stepped(run, layout, spec)


class Torch:
    """A child process that steps the PyTorch model."""

    def __init__(self, python: str):
        pipe = subprocess.PIPE
        self._child = subprocess.Popen(
            [python, str(PEER)], stdin=pipe, stdout=pipe, text=True
        )

    def rate(self, config: unet.Config, size: int, batch: int, layout: str) -> Rate:
        fixed = {
            "config": dataclasses.asdict(config),
            "size": size,
            "batch": batch,
            "layout": layout,
            "threads": 1,
            "compile": False,
        }

        def measure(seconds: float) -> float:
            assert self._child.stdin is not None and self._child.stdout is not None
            wanted = json.dumps(fixed | {"seconds": seconds})
            print(wanted, file=self._child.stdin, flush=True)
            answer = json.loads(self._child.stdout.readline())
            assert answer["parameters"] == unet.params(config)
            return answer["pictures"]

        measure(0.0)
        return measure

    def close(self) -> None:
        self._child.communicate()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["87k"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--pixels", type=int, default=8)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--torch_python", help="a Python that has torch")
    parser.add_argument("--no-torch", action="store_true")
    parser.add_argument("--no-lax", action="store_true")
    parser.add_argument(
        "--folder", type=Path, default=Path("~/.cache/datalaw/benchmarks").expanduser()
    )
    given = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", 2)
    python = None
    if not given.no_torch:
        python = torch_python(given.torch_python, given.folder)
    torch = Torch(python) if python else None
    spec = Images(given.pixels, given.pixels)
    for name in given.sizes:
        config = unet.ladder(SIZES[name], spec)
        known = config, spec, given.batch
        packs = ("alone", "product", "vmap", "in turn")
        rates = {pack: ours(*known, pack) for pack in packs}
        at = SIZES[name], spec, given.batch
        rates["trainer"] = trained(*at, Layout())
        rates["packed"] = trained(*at, Layout(run=2, width=2))
        if torch:
            shape = config, given.pixels, given.batch
            rates["torch"] = torch.rate(*shape, "contiguous")
            rates["last"] = torch.rate(*shape, "channels_last")
        found = in_turn(rates, given.rounds, given.seconds)
        print(f"\n{name}: {unet.params(config):,} parameters, {config}\n")
        print("| | pictures / CPU-second | against alone |\n|---|---:|---:|")
        for key, rate in found.items():
            ratio = np.median(rate / found["alone"])
            print(f"| {key} | {np.median(rate):,.0f} | {ratio:.2f} |", flush=True)
        if not given.no_lax:
            print(f"| lax | {ours(*known, 'lax')(0.0):,.0f} | |", flush=True)
    if torch:
        torch.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
