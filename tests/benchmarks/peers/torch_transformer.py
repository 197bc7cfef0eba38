"""The same Transformer in PyTorch, stepped on request; see step_speed.py.

Needs torch and no more. Reads JSON lines, answers each with one:

    {"depth", "width", "heads", "vocab", "batch", "length", "threads", "compile",
     "seconds"}  ->  {"rate": tokens per second, "parameters": their number}

A model is made, and compiled where asked, at its first request; its answer counts the
steps after that alone. `seconds` is the least time to measure for, 0 for one step.
"""

from __future__ import annotations

import json
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn


class Block(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width, eps=1e-6, bias=False)
        self.mlp_norm = nn.LayerNorm(width, eps=1e-6, bias=False)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)

    def forward(self, x):
        B, L, D = x.shape
        qkv = self.qkv(self.attention_norm(x)).view(B, L, 3, self.heads, -1)
        q, k, v = (qkv[:, :, i].transpose(1, 2) for i in range(3))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(B, L, D))
        hidden = F.gelu(self.up(self.mlp_norm(x)), approximate="tanh")
        return x + self.down(hidden)


class Transformer(nn.Module):
    def __init__(self, depth: int, width: int, heads: int, vocab: int, length: int):
        super().__init__()
        self.table = nn.Embedding(vocab, width)
        self.positions = nn.Parameter(torch.randn(length, width) * width**-0.5)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6, bias=False)
        nn.init.normal_(self.table.weight, std=width**-0.5)

    def forward(self, x, y):
        h = self.table(x) + self.positions
        for block in self.blocks:
            h = block(h)
        logits = F.linear(self.norm(h), self.table.weight)
        return F.cross_entropy(logits.flatten(0, 1), y.flatten())


class Steps:
    """A model and its optimiser, stepped on random tokens."""

    def __init__(self, wanted: dict):
        torch.manual_seed(0)
        names = ("depth", "width", "heads", "vocab", "length")
        self.model = Transformer(*(wanted[name] for name in names))
        self.loss = torch.compile(self.model) if wanted["compile"] else self.model
        self.optimiser = torch.optim.AdamW(
            self.model.parameters(), lr=1e-3, weight_decay=0.1, fused=True
        )
        shape = (wanted["batch"], wanted["length"])
        self.batches = [torch.randint(wanted["vocab"], shape) for _ in range(8)]
        for _ in range(3):
            self.step(0)

    def step(self, i: int) -> None:
        y = self.batches[i % len(self.batches)]
        x = F.pad(y[:, :-1], (1, 0))
        self.optimiser.zero_grad(set_to_none=True)
        self.loss(x, y).backward()
        self.optimiser.step()

    def rate(self, seconds: float) -> float:
        start, steps = time.perf_counter(), 0
        while not steps or time.perf_counter() - start < seconds:
            self.step(steps)
            steps += 1
        taken = time.perf_counter() - start
        return steps * self.batches[0].numel() / taken


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
        answer = {"rate": made[key].rate(seconds), "parameters": count}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
