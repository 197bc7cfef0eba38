"""The U-Net of scaling/families/unet.py in PyTorch, stepped on request.

For unet_speed.py. Needs torch and no more. Reads JSON lines, answers each with one:

    {"config": fields of unet.Config, "size", "batch", "threads", "layout", "compile",
     "seconds"}
      ->  {"pictures": of each CPU-second, "wall": of each second, "parameters"}

A model is made, and compiled where asked, at its first request; its answer counts the
steps after that alone. `seconds` is the least time to measure for, 0 for one step.
"""

from __future__ import annotations

import json
import math
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

WAVES, LOWEST, HIGHEST = 16, 0.5, 64.0


def norm(channels: int) -> nn.GroupNorm:
    fits = lambda g: channels % g == 0 and channels >= 4 * g
    return nn.GroupNorm(max(g for g in range(1, 33) if fits(g)), channels)


def kernel(inputs: int, outputs: int, taps: int = 3) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, taps, padding=taps // 2, bias=False)


class Block(nn.Module):
    def __init__(self, condition: int, inputs: int, hidden: int, outputs: int):
        super().__init__()
        self.norm, self.into = norm(inputs), kernel(inputs, hidden)
        self.condition = nn.Linear(condition, 2 * hidden, bias=False)
        self.condition_norm, self.out = norm(hidden), kernel(hidden, outputs)
        nn.init.zeros_(self.out.weight)
        self.skip = kernel(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x, condition):
        h = self.into(F.silu(self.norm(x)))
        scale, shift = self.condition(condition)[:, :, None, None].chunk(2, dim=1)
        h = F.silu(self.condition_norm(h) * (1 + scale) + shift)
        return self.skip(x) + self.out(h)


class UNet(nn.Module):
    def __init__(self, c: dict):
        super().__init__()
        condition, depth = 4 * c["width"], c["depth"]
        wide = lambda channels, level: channels * (1 if level == 0 else 2)
        self.levels = c["levels"]
        turns = torch.logspace(math.log2(LOWEST), math.log2(HIGHEST), WAVES, 2.0)
        self.register_buffer("turns", turns)
        self.noise = nn.Linear(2 * WAVES, condition, bias=False)
        self.mix = nn.Linear(condition, condition, bias=False)
        self.into = kernel(c["channels"], c["width"])
        self.stages = nn.ModuleList()
        down, before = list(range(self.levels)), c["width"]
        for n, level in enumerate(down + down[-2::-1]):
            size, hidden = wide(c["width"], level), wide(c["hidden"], level)
            inputs = before + size if n >= self.levels else before
            sizes = [inputs] + [size] * (depth - 1)
            self.stages.append(
                nn.ModuleList(
                    Block(condition, inputs, hidden, size) for inputs in sizes
                )
            )
            before = size
        self.norm, self.out = norm(c["width"]), kernel(c["width"], c["channels"])

    def forward(self, x, noise):
        angles = noise[:, None] * self.turns
        waves = math.sqrt(2) * torch.cat([angles.sin(), angles.cos()], dim=1)
        condition = F.silu(self.mix(F.silu(self.noise(waves))))
        h, beside = self.into(x), []
        for n, stage in enumerate(self.stages):
            if n >= self.levels:
                h = F.interpolate(h, scale_factor=2, mode="nearest")
                h = torch.cat([h, beside.pop()], dim=1)
            for block in stage:
                h = block(h, condition)
            if n < self.levels - 1:
                beside.append(h)
                h = F.avg_pool2d(h, 2)
        return self.out(F.silu(self.norm(h)))


class Steps:
    """A model and its optimiser, stepped on noisy pictures of noise."""

    def __init__(self, wanted: dict):
        torch.manual_seed(0)
        config = wanted["config"]
        kind = (
            torch.channels_last
            if wanted["layout"] == "channels_last"
            else torch.contiguous_format
        )
        self.model = UNet(config).to(memory_format=kind)
        self.call = torch.compile(self.model) if wanted["compile"] else self.model
        self.optimiser = torch.optim.AdamW(
            self.model.parameters(), lr=1e-3, weight_decay=0.1, fused=True
        )
        shape = wanted["batch"], config["channels"], wanted["size"], wanted["size"]
        draw = lambda: torch.randn(shape).to(memory_format=kind)
        self.batches = [(draw(), draw(), torch.randn(shape[0])) for _ in range(8)]
        for n in range(3):
            self.step(n)

    def step(self, n: int) -> None:
        x, target, noise = self.batches[n % len(self.batches)]
        self.optimiser.zero_grad(set_to_none=True)
        F.mse_loss(self.call(x, noise), target).backward()
        self.optimiser.step()

    def rates(self, seconds: float) -> tuple[float, float]:
        start, cpu, steps = time.perf_counter(), time.process_time(), 0
        while not steps or time.perf_counter() - start < seconds:
            self.step(steps)
            steps += 1
        pictures = steps * len(self.batches[0][0])
        wall = time.perf_counter() - start
        return pictures / (time.process_time() - cpu), pictures / wall


def main() -> None:
    made: dict[str, Steps] = {}
    for line in sys.stdin:
        wanted = json.loads(line)
        seconds = wanted.pop("seconds")
        torch.set_num_threads(wanted["threads"])
        key = json.dumps(wanted)
        if key not in made:
            made[key] = Steps(wanted)
        count = sum(p.numel() for p in made[key].model.parameters())
        pictures, wall = made[key].rates(seconds)
        answer = {"pictures": pictures, "wall": wall, "parameters": count}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
