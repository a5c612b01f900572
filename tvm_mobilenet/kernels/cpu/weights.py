"""Weights packed at compile time into the order in which the kernels read them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


def pack_channels(array: Array, v: int, blocks: int | None = None) -> Array:
    """Output channels in vectors: (O, …) → (blocks, …, v), filled up with zeros."""
    blocks = blocks or -(-array.shape[0] // v)
    filled = np.zeros((blocks * v, *array.shape[1:]), np.float32)
    filled[: array.shape[0]] = array
    vectors = filled.reshape(blocks, v, *array.shape[1:])
    return np.ascontiguousarray(np.moveaxis(vectors, 1, -1))


def pack_conv2d(weight: Array, v: int, panel: int = 1) -> Array:
    """(O, I, kh, kw) → (O/v/panel, kh, kw, I, panel, v)."""
    return in_panels(pack_channels(np.moveaxis(weight, 1, 3), v), panel)


def pack_depthwise(weight: Array, v: int) -> Array:
    """(C, 1, kh, kw) → (C/v, kh, kw, v)."""
    return pack_channels(weight[:, 0], v)


def pack_stem(weight: Array, v: int) -> Array:
    """(O, I, kh, kw) → (O/v, I, kh, kw, v)."""
    return pack_channels(weight, v)


def pack_dense(weight: Array, v: int, blocks: int, panel: int) -> Array:
    """(I, O) → (blocks / panel, I, panel, v)."""
    return in_panels(pack_channels(weight.T, v, blocks), panel)


def in_panels(packed: Array, panel: int) -> Array:
    """(blocks, …, v) → (blocks / panel, …, panel, v): what one tile reads lies in one stream."""
    blocks, *inner, v = packed.shape
    panels = packed.reshape(blocks // panel, panel, *inner, v)
    return np.ascontiguousarray(np.moveaxis(panels, 1, -2))
