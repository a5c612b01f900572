"""Weights packed at compile time into the order in which the kernels read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

CONV2D_PANELS = (2, 3, 1)  # output vectors whose weights lie together, the first that divides
MATRIX_PANELS = (4, *CONV2D_PANELS)  # of the narrow ones of products of matrices
DENSE_PANEL = 8  # output vectors the classifier sums side by side

Array = NDArray[np.float32]
Bytes = NDArray[np.int8]
DOT = 4  # bytes that a dot product sums; of bfloat16 it is 2, which ``dot`` says
Packed = TypeVar("Packed", Array, Bytes)


def panel_of(blocks: int, panels: Sequence[int] = CONV2D_PANELS) -> int:
    """Output vectors of a convolution whose weights lie together."""
    return next(panel for panel in panels if blocks % panel == 0)


def dense_blocks(features: int, v: int, *, full_panels: bool = True) -> tuple[int, int]:
    """Vectors a panel of a classifier has, and all its vectors.

    Filled up to ``full_panels``: a prime number of vectors could not share a broadcast. Else as
    many to a panel as divide them.
    """
    blocks = -(-features // v)
    if not full_panels:
        return max(d for d in range(1, DENSE_PANEL + 1) if blocks % d == 0), blocks
    return DENSE_PANEL, -(-blocks // DENSE_PANEL) * DENSE_PANEL


def pack_channels(array: Packed, v: int, blocks: int | None = None) -> Packed:
    """Output channels in vectors: (O, …) → (blocks, …, v), filled up with zeros."""
    blocks = blocks or -(-array.shape[0] // v)
    dtype = np.int8 if array.dtype == np.int8 else np.float32
    filled = np.zeros((blocks * v, *array.shape[1:]), dtype)
    filled[: array.shape[0]] = array
    vectors = filled.reshape(blocks, v, *array.shape[1:])
    return np.ascontiguousarray(np.moveaxis(vectors, 1, -1))


def pack_bits(bits: NDArray[np.int32], v: int) -> NDArray[np.int32]:
    """(O, 2) → (blocks, 2, v), filled up with zeros."""
    blocks = -(-len(bits) // v)
    filled = np.zeros((blocks * v, 2), np.int32)
    filled[: len(bits)] = bits
    return np.ascontiguousarray(filled.reshape(blocks, v, 2).swapaxes(1, 2))


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


def pack_quantized_conv2d(weight: Packed, v: int, panel: int = 1, dot: int = DOT) -> Packed:
    """(O, I, kh, kw) → (O/v/panel, kh, kw, steps, panel, v, dot)."""
    steps = in_dots(np.moveaxis(weight, 1, 3), axis=3, dot=dot)  # (O, kh, kw, steps, dot)
    packed = pack_channels(steps, v)  # (blocks, kh, kw, steps, dot, v)
    blocks, *inner, _, _ = packed.shape
    panels = packed.reshape(blocks // panel, panel, *inner, dot, v)
    return np.ascontiguousarray(np.moveaxis(panels, 1, 4).swapaxes(-1, -2))


def pack_quantized_depthwise(
    weight: Packed, v: int, outputs: int, stride: int, dot: int = DOT
) -> Packed:
    """(C, 1, kh, kw) → (C/v, kh, outputs, dwords, v, dot): a neighbour's taps at its own place."""
    channels, _, kernel_h, kernel_w = weight.shape
    dwords = -(-kernel_w // dot)
    placed = np.zeros((channels, kernel_h, outputs, dwords * dot), weight.dtype)
    for output in range(outputs):
        first = output * stride
        placed[:, :, output, first : first + kernel_w] = weight[:, 0]
    packed = pack_channels(placed.reshape(channels, kernel_h, outputs, dwords, dot), v)
    return np.ascontiguousarray(packed.swapaxes(-1, -2))


def pack_quantized_stem(weight: Bytes, v: int) -> Bytes:
    """(O, I, kh, kw), I at most 4 → (O/v, kh, kw, v, 4)."""
    dots = in_dots(np.moveaxis(weight, 1, 3), axis=3)[:, :, :, 0]
    return np.ascontiguousarray(pack_channels(dots, v).swapaxes(-1, -2))


def pack_planar_stem(weight: Bytes, v: int) -> NDArray[np.int16]:
    """(O, I, kh, kw) → (O/v, I, kh, kw, v), of 16 bits."""
    return pack_channels(weight, v).astype(np.int16)


def pack_bf16_stem(weight: Array, v: int, dot: int = 2) -> Array:
    """(O, I, kh, kw) → (O/v, kh, kw, steps, v, dot)."""
    steps = in_dots(np.moveaxis(weight, 1, 3), axis=3, dot=dot)  # (O, kh, kw, steps, dot)
    return np.ascontiguousarray(pack_channels(steps, v).swapaxes(-1, -2))


def pack_quantized_dense(weight: Packed, v: int, blocks: int, panel: int, dot: int = DOT) -> Packed:
    """(I, O) → (blocks / panel, steps, panel, v, dot)."""
    packed = pack_channels(in_dots(weight.T, axis=1, dot=dot), v, blocks)  # (blocks, steps, dot, v)
    panels = packed.reshape(blocks // panel, panel, *packed.shape[1:])
    return np.ascontiguousarray(np.moveaxis(panels, 1, 2).swapaxes(-1, -2))


def in_dots(array: Packed, axis: int, dot: int = DOT) -> Packed:
    """So many together along ``axis``, the last filled up: (…, I, …) → (…, steps, dot, …)."""
    missing = [
        (0, -array.shape[place] % dot if place == axis else 0) for place in range(array.ndim)
    ]
    filled = np.pad(array, missing)
    shape = filled.shape
    return filled.reshape(*shape[:axis], shape[axis] // dot, dot, *shape[axis + 1 :])


def in_panels(packed: Array, panel: int) -> Array:
    """(blocks, …, v) → (blocks / panel, …, panel, v): what one tile reads lies in one stream."""
    blocks, *inner, v = packed.shape
    panels = packed.reshape(blocks // panel, panel, *inner, v)
    return np.ascontiguousarray(np.moveaxis(panels, 1, -2))
