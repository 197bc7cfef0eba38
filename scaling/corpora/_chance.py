"""Stateless pseudo-random numbers: hashes of integers under named keys."""

from __future__ import annotations

import hashlib

import numpy as np


def keys(name: str, count: int) -> np.ndarray:
    """uint64 [count]: keys derived from a name."""
    return np.frombuffer(hashlib.shake_256(name.encode()).digest(8 * count), "<u8")


def mix(x: np.ndarray, key: np.uint64) -> np.ndarray:
    """uint64 [...]: hash of x under a key, below 2^32 so that sums cannot overflow.

    The finaliser of splitmix64: Steele, Lea and Flood 2014, "Fast splittable
    pseudorandom number generators", OOPSLA.
    """
    x = (x ^ key) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x >> np.uint64(32)


def below(x: np.ndarray, key: np.uint64, level: float) -> np.ndarray:
    """bool [...]: true for a share `level` of all x; true sets grow with the level."""
    return mix(x.astype(np.uint64), key) < level * 2.0**32
