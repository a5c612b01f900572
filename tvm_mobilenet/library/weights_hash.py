"""The hash by which a library knows its weights: as native/hash.h, which says what it is for."""

from __future__ import annotations

import numpy as np

WORD = 8  # bytes
PLACE = np.uint64(0x9E3779B97F4A7C15)
FIRST, SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
PART = 1 << 20  # words at a time, so that nothing large is held beside the weights
MASK = (1 << 64) - 1


def weights_hash(data: bytes) -> int:
    """Of 64 bits; all arithmetic is modulo 2⁶⁴."""
    padded = data.ljust(-(-len(data) // WORD) * WORD, b"\0")
    words = np.frombuffer(padded, "<u8")
    total = len(data)
    for start in range(0, words.size, PART):
        part = words[start : start + PART]
        places = np.arange(start + 1, start + 1 + part.size, dtype=np.uint64) * PLACE
        mixed = (part ^ places) * FIRST
        total += int(((mixed ^ (mixed >> np.uint64(32))) * SECOND).sum(dtype=np.uint64))
    return total & MASK
