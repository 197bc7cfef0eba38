"""What a column's header says beside its name: a unit, a scale, where it was nested."""

from __future__ import annotations

import collections
import dataclasses
import re
from collections.abc import Iterable

from analysis.tables import copied

# Powers of ten as people abbreviate and write them; nothing that has two meanings here.
SCALES = {
    3: ("k", "thousand", "thousands"),
    6: ("m", "mn", "mio", "million", "millions"),
    9: ("b", "g", "bn", "billion", "billions"),
    12: ("t", "tn", "trillion", "trillions"),
}
POWERS = {word: power for power, words in SCALES.items() for word in words}
# Words that say what is counted or measured and change no number.
COUNTED = frozenset(
    (
        *("tokens", "token", "toks", "tok", "params", "param", "parameters"),
        *("parameter", "weights", "flops", "flop", "flos", "steps", "step"),
        *("samples", "sample", "sequences", "sequence", "examples", "example"),
    )
)
MEASURED = frozenset(
    (
        *("nats", "nat", "nats/token", "nats/byte", "nats/char", "bits", "bit"),
        *("bits/token", "bits/byte", "bits/char", "bpb", "bpc", "ppl", "perplexity"),
        *("cross-entropy", "s", "sec", "seconds"),
    )
)
# SI prefixes of FLOPs: there they are never anything else.
PREFIXES = {"k": 3, "m": 6, "g": 9, "t": 12, "p": 15, "e": 18, "z": 21, "y": 24}
FLOPS = re.compile(r"([kmgtpezy])flo(?:p|ps|s)")
BRACKET = re.compile(r"(?P<name>.*\S)\s*[\(\[]\s*(?P<inside>[^()\[\]]+?)\s*[\)\]]")
# 400Mtok, 300BT, 7Bparams
GLUED = re.compile(
    r"(?P<scale>[kmbgt]|mn|bn)(?:t|toks?|tokens?|params?|parameters|steps?)"
)
POWER = re.compile(r"[x×*]?(?:1e\+?(?P<e>\d{1,2})|10(?:\^|\*\*)(?P<power>\d{1,2}))")


@dataclasses.dataclass(frozen=True)
class Header:
    """A header taken apart.

    Attributes:
      name: the name alone, in lower case.
      unit: what stands in brackets behind it, "" for nothing that is a unit.
      shift: the power of ten by which its numbers are multiplied, where it counts.
    """

    name: str
    unit: str = ""
    shift: int = 0


def read(header: str) -> Header:
    """Takes `tokens [B]`, `params_M` or `loss (nats)` apart; what is no unit stays."""
    plain = copied.plain(header.strip()).strip("\"' ↓↑").lstrip("#№").strip()
    found = BRACKET.fullmatch(plain)
    if found:
        inside = found["inside"]
        shift = scale(inside)
        if shift is not None:
            return Header(found["name"].lower(), inside, shift)
        if inside.lower() in MEASURED:
            return Header(found["name"].lower(), inside)
    counted, _, last = plain.rpartition("_")
    if last.lower() in POWERS and re.split(r"[\s_]+", counted.lower())[-1] in COUNTED:
        return Header(counted.lower(), last, POWERS[last.lower()])
    return Header(plain.lower())


def stripped(names: Iterable[object]) -> list[str]:
    """Headers as text without outer space, where they stay different so."""
    whole = [str(name) for name in names]
    short = [name.strip() for name in whole]
    counts = collections.Counter(short)
    return [
        name if counts[name] == 1 else old
        for name, old in zip(short, whole, strict=True)
    ]


def scale(text: str) -> int | None:
    """The power of ten that `B`, `billion tokens`, `EFLOPs` or `1e9` stands for.

    Words of what is counted stand for 0; None is for anything that is no scale.
    """
    words = text.lower().split()
    if words and words[-1] in COUNTED:
        words = words[:-1]
    word = "".join(words)
    flops, power = FLOPS.fullmatch(word), POWER.fullmatch(word)
    glued = GLUED.fullmatch(word)
    if not word:
        return 0
    if word in POWERS:
        return POWERS[word]
    if flops:
        return PREFIXES[flops[1]]
    if glued:
        return POWERS[glued["scale"]]
    return int(power["e"] or power["power"]) if power else None


def known_as(headers: list[str]) -> dict[str, str]:
    """Each header -> the name by which a column is found, in lower case.

    That is the header without its unit, `Test loss` and `test-loss` being test_loss,
    and of a nested name such as `config.lr` the last part, where no other column ends
    in the same.
    """
    names = {header: read(header).name for header in headers}
    # Trackers write eval/loss for eval_loss, and people eval loss.
    names = {header: _joined(PART.sub(r"\1_\2", n)) for header, n in names.items()}
    # A configuration may keep each of its values under a key of that name.
    last = {
        header: name.removesuffix(".value").rsplit(".", 1)[-1]
        for header, name in names.items()
    }
    ends = collections.Counter(last.values())
    return {
        header: last[header] if ends[last[header]] == 1 else name
        for header, name in names.items()
    }


# metrics.eval.loss is the loss of what is called eval, in one word.
PART = re.compile(
    r"(?:.*\.)?(eval|val|valid|validation|test|dev|train|training)"
    r"\.(loss|nll|ppl|perplexity|bpb|cross_entropy)$"
)
# number of parameters, total no. of tokens, count of tokens
COUNT_OF = re.compile(
    r"^(?:total_)?(?:number|num|no\.?|nr\.?|count|amount)_of_(?:the_)?"
)


def _joined(name: str) -> str:
    """A name in one word: eval/loss, eval loss and eval-loss are eval_loss."""
    return COUNT_OF.sub("", re.sub(r"[/\s-]+", "_", name))
