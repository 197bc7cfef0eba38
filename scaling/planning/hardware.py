"""Accelerator types: chips, hosts, memory, peak FLOP/s and bandwidth. No prices.

Published figures, per chip (links: both directions together):
  v4    cloud.google.com/tpu/docs/v4: 275 TFLOP/s bf16, 32 GiB, 1200 GB/s, 4 a host,
        links of 2400 Gbit/s one way.
  v5e   cloud.google.com/tpu/docs/v5e: 197 TFLOP/s bf16, 16 GB, 819 GB/s, links
        400 GB/s.
  v5p   cloud.google.com/tpu/docs/v5p: 459 TFLOP/s bf16, 95 GB, 2765 GB/s, 4 a host,
        links 1200 GB/s.
  v6e   cloud.google.com/tpu/docs/v6e: 918 TFLOP/s bf16, 32 GB, 1638 GB/s, links
        800 GB/s.
  tpu7x docs.cloud.google.com/tpu/docs/tpu7x (Ironwood): 2307 TFLOP/s bf16, 192 GiB,
        7380 GB/s, 4 a host, links 1200 GB/s; JAX sees each chip as two devices.
  a100  NVIDIA A100 data sheet (SXM 80 GB): 312 TFLOP/s bf16, 19.5 float32, 2039 GB/s,
        NVLink 600 GB/s.
  h100  NVIDIA H100 data sheet (SXM): 989 TFLOP/s bf16 dense, 67 float32, 3.35 TB/s,
        NVLink 900 GB/s.
  h200  NVIDIA H200 data sheet (SXM): as the H100, 141 GB, 4.8 TB/s.
There is no published float32 peak of a TPU; a full float32 product takes six bfloat16
passes (lax.Precision.HIGHEST), so a sixth of the bfloat16 peak stands in for it.

A name is TYPE-COUNT as Cloud TPU spells it: v4, v5p and tpu7x count cores, two a chip;
v5litepod (or v5e) and v6e count chips. GPUs: h100, or h100-8 (h100x8) for eight.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from scaling.errors import UserError, unknown


@dataclasses.dataclass(frozen=True)
class Hardware:
    """A machine or slice.

    Attributes:
      name: TYPE-COUNT as Cloud TPU spells it, whichever alias was asked for.
      kind: JAX's name of the platform; device: of the chip, or a part of its name.
      chips: accelerators, or cores of a CPU; hosts: virtual machines they sit in.
      devices: what JAX sees, one a chip or two.
      memory, bandwidth: bytes and bytes/s of one device; bf16, f32: its peak FLOP/s.
      links: bytes/s that a device sends to the others while it receives as many.
    """

    name: str
    kind: Literal["cpu", "gpu", "tpu"]
    chips: int
    hosts: int
    devices: int
    memory: float
    bf16: float
    f32: float
    bandwidth: float
    links: float
    device: str


@dataclasses.dataclass(frozen=True)
class _Chip:
    kind: Literal["gpu", "tpu"]
    device: str
    bf16: float
    f32: float
    memory: float
    bandwidth: float
    links: float
    cores: int = 1  # what the count in a name counts, for each chip
    counts: tuple[int, ...] = ()  # the counts there are; none: multiples of `host`
    single: int = 4  # chips of the largest one-host slice
    host: int = 4  # chips a host of a larger slice
    devices: int = 1  # that JAX sees, for each chip


_E_SLICES = (1, 4, 8, 16, 32, 64, 128, 256)
_CHIPS = {
    "v4": _Chip(
        "tpu", "TPU v4", 275e12, 275e12 / 6, 32 * 2**30, 1200e9, 300e9, cores=2
    ),
    "v5litepod": _Chip(
        "tpu",
        "TPU v5 lite",
        197e12,
        197e12 / 6,
        16e9,
        819e9,
        200e9,
        counts=_E_SLICES,
        single=8,
    ),
    "v5p": _Chip("tpu", "TPU v5", 459e12, 459e12 / 6, 95e9, 2765e9, 600e9, cores=2),
    "v6e": _Chip(
        "tpu",
        "TPU v6 lite",
        918e12,
        918e12 / 6,
        32e9,
        1638e9,
        400e9,
        counts=_E_SLICES,
        single=8,
    ),
    "tpu7x": _Chip(
        "tpu",
        "TPU7x",
        2307e12,
        2307e12 / 6,
        192 * 2**30,
        7380e9,
        600e9,
        cores=2,
        devices=2,
    ),
    "a100": _Chip(
        "gpu", "A100", 312e12, 19.5e12, 80e9, 2039e9, 300e9, single=8, host=8
    ),
    "h100": _Chip("gpu", "H100", 989e12, 67e12, 80e9, 3350e9, 450e9, single=8, host=8),
    "h200": _Chip("gpu", "H200", 989e12, 67e12, 141e9, 4800e9, 450e9, single=8, host=8),
}
_ALIASES = {"v5e": "v5litepod", "v7x": "tpu7x"}

# A CPU core at what is fitted and not trained by gradient.
_CORE_FLOPS = 140e9
_CORE_BANDWIDTH = 1.5e9

# A CPU core at a training step: FLOP/s of its matrix products, numbers a second of its
# other operations, and seconds that it takes to start a product and what lies between
# it and the next. Fitted to steps of text and picture families by
# tests/benchmarks/cost_model.py.
_STEP_FLOPS = 140e9
_STEP_ELEMENTS = 6.2e9
_STEP_START = 3.7e-6

# Share of the peak that well-sized training steps reach on accelerators.
EFFICIENCY = 0.4

# Seconds to start an operation. Submitting a kernel to a GPU takes 4 to 6 us
# (susun-blog.com/blog/pegainfer-3-cuda-graph, an RTX 5070 Ti); no figure of a TPU was
# found, so a microsecond is assumed. Neither was measured with this package. For a CPU
# see `core_seconds`.
START = {"cpu": 0.0, "gpu": 5e-6, "tpu": 1e-6}

# The shapes of a slice's torus, by its chips, as Cloud TPU hands them out.
_FLAT = {1: "1x1", 4: "2x2", 8: "2x4", 16: "4x4", 32: "4x8", 64: "8x8"}
_FLAT |= {128: "8x16", 256: "16x16"}
_CUBIC = {4: "2x2x1", 8: "2x2x2", 16: "2x2x4", 32: "2x4x4", 64: "4x4x4"}
_CUBIC |= {128: "4x4x8", 256: "4x8x8", 512: "8x8x8"}
_CUBIC |= {1024: "8x8x16", 2048: "8x16x16"}


def lookup(name: str) -> Hardware:
    """The hardware of a name: "cpu" (this machine), "v5litepod-8", "v4-32", "h100", ...

    Raises:
      UserError: an unknown type, or a count in which it does not come.
    """
    if name == "cpu":
        return _this_cpu()
    gpus = re.fullmatch(r"([ah]\d+)x(\d+)", name)  # h100x8 says what h100-8 says
    kind, dash, digits = (f"{gpus[1]}-{gpus[2]}" if gpus else name).partition("-")
    kind = _ALIASES.get(kind, kind)
    if kind not in _CHIPS:
        raise unknown("hardware", name, ["cpu", *_CHIPS, *_ALIASES])
    chip = _CHIPS[kind]
    if chip.kind == "gpu" and not dash:
        digits = "1"
    count = int(digits) if digits.isdecimal() else 0
    chips = count // chip.cores
    if not _exists(chip, count):
        raise UserError("hardware", name, f"give a count, {_counts(kind, chip)}")
    hosts = 1 if chips <= chip.single else chips // chip.host
    return Hardware(
        f"{kind}-{count}",
        chip.kind,
        chips,
        hosts,
        chips * chip.devices,
        chip.memory / chip.devices,
        chip.bf16 / chip.devices,
        chip.f32 / chip.devices,
        chip.bandwidth / chip.devices,
        chip.links / chip.devices,
        chip.device,
    )


@dataclasses.dataclass(frozen=True)
class Topology:
    """A slice in the terms of the TPU compiler.

    name: as `get_topology_desc` takes it; host: chips of one host along each dimension;
    config: "megacore" where the two cores of a chip are one device.
    """

    name: str
    host: tuple[int, int, int]
    config: str


def topology(hardware: Hardware) -> Topology:
    """The shape of a TPU slice. Raises UserError for a count of no usual shape."""
    kind = hardware.name.partition("-")[0]
    shapes = _FLAT if _CHIPS[kind].counts else _CUBIC
    if hardware.chips not in shapes:
        known = ", ".join(f"{kind}-{n * _CHIPS[kind].cores}" for n in shapes)
        raise UserError("target", hardware.name, f"give one of {known}")
    host = (1, 1, 1) if hardware.chips == 1 else (2, 2, 1)
    if hardware.chips == 8 and hardware.hosts == 1:
        host = (2, 4, 1)
    config = "megacore" if kind == "v4" else "default"
    name = "v5e" if kind == "v5litepod" else kind
    return Topology(f"{name}:{shapes[hardware.chips]}", host, config)


def slices(hardware: Hardware) -> list[Hardware]:
    """The machines and slices of the same type, from the smallest up."""
    if hardware.kind == "cpu":
        return [hardware]
    kind = hardware.name.partition("-")[0]
    chip = _CHIPS[kind]
    shapes: Iterable[int] = _FLAT if chip.counts else _CUBIC
    if chip.kind == "gpu":
        shapes = (1, 2, 4, 8, 16, 32, 64, 128, 256)
    return [lookup(f"{kind}-{n * chip.cores}") for n in shapes]


def _exists(chip: _Chip, count: int) -> bool:
    if chip.counts:
        return count in chip.counts
    if chip.kind == "gpu" and count <= chip.host:
        return count >= 1
    return count > 0 and count % (chip.host * chip.cores) == 0


def _counts(kind: str, chip: _Chip) -> str:
    if chip.counts:
        return f"one of {', '.join(f'{kind}-{n}' for n in chip.counts)}"
    if chip.kind == "gpu":
        return f"{kind}-1 to {kind}-8 or a multiple of 8"
    return f"{kind}-8 or a multiple of 8 (cores, two a chip)"


def _this_cpu() -> Hardware:
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")  # a container's share, where there is one
    if limit.is_file() and limit.read_text().strip().isdecimal():
        memory = min(memory, int(limit.read_text()))
    return Hardware(
        "cpu",
        "cpu",
        cores,
        1,
        cores,
        memory / cores,
        _CORE_FLOPS,
        _CORE_FLOPS,
        _CORE_BANDWIDTH,
        _CORE_BANDWIDTH,
        "cpu",
    )


def step_seconds(
    hardware: Hardware,
    precision: str,
    flops: float,
    moved: float,
    sent: float,
    starts: float = 0.0,
) -> float:
    """The time of a training step by a roofline with three bounds, and its starts.

    The longest of three times (Williams et al. 2009, with communication added): matrix
    products at the fraction of the peak that training reaches, memory traffic, and data
    sent to other devices. The time to start each operation (`START`) is added. On a CPU
    the times for products and memory are added: of what is fitted, since `core_seconds`
    has those of training steps.

    Args:
      precision: "float32" or "bfloat16", of the products.
      flops, moved, sent: of one device: FLOPs, bytes to and from memory (on a CPU those
        of `cost.Cost.memory`, once), bytes to other devices.
      starts: operations, one after the other.
    """
    if hardware.kind == "cpu":
        return moved / hardware.bandwidth + flops / hardware.f32
    peak = hardware.f32 if precision == "float32" else hardware.bf16
    bound = max(
        flops / (EFFICIENCY * peak), moved / hardware.bandwidth, sent / hardware.links
    )
    return bound + starts * START[hardware.kind]


def core_seconds(cost: Mapping[str, Any]) -> float:
    """The time of one run's training step on a core of a CPU; 0 for what is fitted.

    A sum, since a core does one after the other: products, the numbers that other
    operations make, and the start of each product.

    Args:
      cost: fields of `cost.Cost`.
    """
    made = cost.get("products", 0.0) / _STEP_FLOPS
    made += cost.get("elements", 0.0) / _STEP_ELEMENTS
    return float(made + cost.get("starts", 0.0) * _STEP_START)


def seconds(cost: Mapping[str, Any], hardware: Hardware, precision: str = "") -> float:
    """A rough time to train and score: before anything has run, for a plan.

    On a CPU by `core_seconds`; else by the roofline of `step_seconds`, with a step's
    memory moved once and shared by the devices. Scoring adds what its FLOPs are of the
    training's.

    Args:
      cost: fields of `cost.Cost` (which needs JAX); hardware: where.
      precision: "float32" or "bfloat16"; by default what "auto" means there.
    """
    passes = 1.0 + cost["evaluation_flops"] / cost["flops"]
    if hardware.kind == "cpu" and (step := core_seconds(cost)):
        return passes * cost["steps"] * step / hardware.devices
    flops = passes * cost["flops"] / hardware.devices
    moved = passes * cost["steps"] * cost["memory"] / hardware.devices
    return step_seconds(hardware, precision, flops, moved, sent=0.0)
