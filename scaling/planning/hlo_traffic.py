"""What a compiled program moves, through memory and between devices, and starts.

XLA's own count reads the body of a loop once, counts what stays in a TPU's vector
memory as if it went to the main one, and does not count communication, so all three are
read from the program's text. Estimates: caches, padding and prefetching are not in it.
"""

from __future__ import annotations

import dataclasses
import math
import re

from scaling.planning.cost import Instructions, instructions, trip_count


@dataclasses.dataclass(frozen=True)
class Traffic:
    """Of one device: bytes `moved` from and to its memory and `sent` to other devices.

    starts: operations that it starts, one after the other.
    """

    moved: float = 0.0
    sent: float = 0.0
    starts: float = 0.0

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(
            self.moved + other.moved,
            self.sent + other.sent,
            self.starts + other.starts,
        )

    def __mul__(self, times: float) -> Traffic:
        return Traffic(self.moved * times, self.sent * times, self.starts * times)


# Operations that move no bytes: they name, group or reinterpret arrays, or complete an
# operation that was counted at its start.
_FREE = re.compile(
    r"parameter|constant|tuple|get-tuple-element|bitcast|after-all|partition-id|"
    r"replica-id|iota|opt-barrier|.*-done"
)
_COLLECTIVES = (
    "all-gather",
    "all-gather-start",
    "all-reduce",
    "all-reduce-start",
    "reduce-scatter",
    "all-to-all",
    "collective-permute",
    "collective-permute-start",
)
_REGIONS = ("dynamic-slice", "slice", "gather")


def count(text: str) -> Traffic:
    """The traffic of one call of an optimised program, given as HLO text.

    Raises:
      Uncounted: XLA does not state how often a loop runs.
    """
    computations, entry = instructions(text)
    return _computation(computations, entry)


def _computation(computations: Instructions, name: str) -> Traffic:
    types = {i[1]: i[2] for i in computations[name]}
    total = Traffic()
    for instruction in computations[name]:
        opcode, attributes = instruction[3], instruction[5]
        if _FREE.fullmatch(opcode):
            continue
        called = re.search(r"(?:body|to_apply|calls)=%?([\w.\-]+)", attributes)
        if opcode == "while" and called:
            turn = _computation(computations, called[1])
            total += turn * trip_count(computations, attributes)
        elif opcode == "call" and called:
            total += _computation(computations, called[1])
        else:
            fused = computations[called[1]] if opcode == "fusion" and called else []
            sides = [types[name] for name in _names(instruction)]
            sent = _fused_sent(fused) if fused else _sent(instruction, sides)
            total += Traffic(_moved(instruction, sides, fused), sent, 1.0)
    return total


def _names(instruction: re.Match[str]) -> list[str]:
    return re.findall(r"([\w.\-]+)(?:,|$)", instruction[4])


def _moved(
    instruction: re.Match[str], sides: list[str], fused: list[re.Match[str]]
) -> float:
    """Bytes that one instruction reads and writes; regions of an array, not all of it.

    Args:
      sides: types of the operands; fused: what the instruction consists of, if that.
    """
    opcode, result = instruction[3], instruction[2]
    if opcode in _REGIONS:
        return 2 * _bytes(result)
    if opcode == "dynamic-update-slice":
        return 2 * _bytes(sides[1])
    if opcode == "copy-start":  # its result names the source again
        return sum(map(_bytes, _arrays(result)[:2]))
    written = _bytes(result)
    inside = {i[1]: i[2] for i in fused}
    read = 0.0
    for number, side in enumerate(sides):
        parameter = _parameter(fused, number)
        users = [i for i in fused if parameter in _names(i)] if parameter else []
        if users and all(
            user[3] in _REGIONS and _names(user)[0] == parameter for user in users
        ):
            regions = sum(_elements(user[2]) for user in users)
            read += _bytes(side) * min(1.0, regions / max(1.0, _elements(side)))
        elif any(
            user[3] == "dynamic-update-slice" and _names(user)[0] == parameter
            for user in users
        ):
            # Changed in place: the region is written, the rest is not touched.
            region = sum(_elements(inside[_names(user)[1]]) for user in users[:1])
            share = min(1.0, region / max(1.0, _elements(side)))
            written -= min(written, _bytes(side) * (1.0 - share))
        else:
            read += _bytes(side)
    return read + written


def _parameter(fused: list[re.Match[str]], number: int) -> str:
    for instruction in fused:
        if instruction[3] == "parameter" and instruction[4] == str(number):
            return instruction[1]
    return ""


def _fused_sent(fused: list[re.Match[str]]) -> float:
    """Bytes sent inside a fusion, where a sum of which one region is kept scatters."""
    types = {i[1]: i[2] for i in fused}
    scatters = any(i[3] == "dynamic-slice" for i in fused)
    total = 0.0
    for instruction in fused:
        if instruction[3] in _COLLECTIVES:
            sent = _sent(instruction, [types[name] for name in _names(instruction)])
            halved = scatters and instruction[3].startswith("all-reduce")
            total += sent / 2 if halved else sent
    return total


def _sent(instruction: re.Match[str], sides: list[str]) -> float:
    """Bytes that a device sends in a collective, passed on around a ring."""
    kind = instruction[3].removesuffix("-start")
    size = sum(_elements(side) * _width(side) for side in sides)
    others = _group(instruction[5]) - 1
    if kind == "collective-permute":
        return size
    if kind == "all-gather":
        return size * others
    if kind in ("reduce-scatter", "all-to-all"):
        return size * others / (others + 1)
    if kind == "all-reduce":
        return 2 * size * others / (others + 1)
    return 0.0


def _group(attributes: str) -> int:
    """Devices in one group of a collective, in each of the three notations of XLA.

    `[groups,devices]<=...`, `{{0,1},{2,3}}`, `mesh['run'=1,'data'=2] {'data'}`.
    """
    match = re.search(r"replica_groups=\[\d+,(\d+)\]", attributes)
    if match:
        return int(match[1])
    named = re.search(r"replica_groups=mesh\[(.*?)\] \{(.*?)\}", attributes)
    if named:
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", named[1]))
        axes = re.findall(r"'(\w+)'(?::\(\d+\)(\d+))?", named[2])
        return math.prod(int(part or sizes[name]) for name, part in axes)
    listed = re.search(r"replica_groups=\{\{([\d,]+)\}", attributes)
    return len(listed[1].split(",")) if listed else 1


_ARRAY = re.compile(r"\b([a-z]+\d*\w*)\[([\d,]*)\](\{[^}]*\})?")


def _arrays(text: str) -> list[str]:
    return [match[0] for match in _ARRAY.finditer(text)]


def _elements(text: str) -> float:
    return float(
        sum(
            math.prod(int(n) for n in match[2].split(",") if n)
            for match in _ARRAY.finditer(text)
        )
    )


def _width(text: str) -> float:
    """Bytes of one element of an array type such as bf16[4,64]{1,0}."""
    kind = text.strip("(").split("[")[0]
    bits = re.search(r"\d+", kind)
    return int(bits[0]) / 8 if bits else 1.0


def _bytes(text: str) -> float:
    """Bytes of a type that lie in main memory; S(1) marks a TPU's vector memory."""
    return sum(
        _elements(array) * _width(array) for array in _arrays(text) if "S(" not in array
    )
