"""What a corpus's documents and pictures are there for, by their hashes.

Neither a budget nor a seed can move one.
"""

from __future__ import annotations

import hashlib

# What is read, what is scored, and what is neither: pictures alone may be left out.
TRAIN, HELD_OUT, LEFT_OUT = SPLITS = ("train", "held_out", "left_out")
SHARE = 0.05  # that is held out


def text_hash(text: bytes) -> int:
    """64-bit hash that decides a document's split and its place in evaluation sets."""
    return int.from_bytes(hashlib.sha256(text).digest()[:8])


def held_out(name: bytes) -> bool:
    """Whether what has this text, or belongs to a group of this name, is held out."""
    return text_hash(name) < SHARE * 2**64
