"""Weights packed at compile time into the order in which the GPU kernels read them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from schedules.cuda.fragments import HALVES, HELD, LANES, TF32, Fragments
from tvm_mobilenet.kernels.gpu.image import TILE, round_up

Array = NDArray[np.float32]
Packed = NDArray[Any]


def fill_up(array: Array, *axes: int) -> Array:
    """Zeros after the ends of ``axes``, up to whole tiles."""
    extra = [
        (0, round_up(size) - size if axis in axes else 0) for axis, size in enumerate(array.shape)
    ]
    return np.pad(array, extra)


def pack_bias(bias: Array) -> Array:
    """(O,) → (stored channels,)."""
    return fill_up(bias.astype(np.float32), 0)


def pack_stem(weight: Array) -> Array:
    """(O, I, kh, kw) → (I, kh, kw, stored channels)."""
    return np.ascontiguousarray(np.moveaxis(fill_up(weight, 0), 0, 3)).astype(np.float32)


def pack_depthwise(weight: Array, dtype: str) -> Packed:
    """(C, 1, kh, kw) → (kh · kw, stored channels)."""
    channels = fill_up(weight, 0)
    return np.ascontiguousarray(channels.reshape(channels.shape[0], -1).T).astype(dtype)


def pack_conv2d(weight: Array, dtype: str, *, tf32: bool = False) -> Packed:
    """(O, I, kh, kw) → the matrix (kh · kw · stored I, stored O), for tensor cores as fragments.

    With ``tf32``, float32 weights become fragments rounded to tf32.
    """
    filled = fill_up(weight, 0, 1)
    matrix = np.ascontiguousarray(filled.transpose(2, 3, 1, 0)).astype(dtype)
    matrix = matrix.reshape(-1, filled.shape[0])
    if tf32:
        return pack_fragments(round_to_tf32(matrix), TF32)
    return pack_fragments(matrix, HALVES) if dtype == "float16" else matrix


def round_to_tf32(array: Array) -> Array:
    """float32 with the 10 mantissa bits of tf32, as cvt.rna.tf32.f32 rounds: ties away from 0."""
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    # a carry out of the mantissa is the next exponent, which is right; inf and NaN stay
    rounded = ((bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32)
    return np.where(np.isfinite(array), rounded, array)


def pack_fragments(matrix: Packed, fragments: Fragments) -> Packed:
    """(k, n) → (n tiles, k tiles, lane, 8): what a lane gives the tensor core lies together."""
    inner, outputs = matrix.shape
    tiles = matrix.reshape(inner // TILE, TILE, outputs // TILE, TILE).transpose(2, 0, 1, 3)
    packed = np.empty((outputs // TILE, inner // TILE, LANES, HELD), matrix.dtype)
    for k in range(TILE):
        for n in range(TILE):
            lane, position = fragments.b_place(k, n)
            packed[:, :, lane, position] = tiles[:, :, k, n]
    return packed


def pack_dense(weight: Array, dtype: str) -> Packed:
    """(I, O) → (O, stored I)."""
    return np.ascontiguousarray(fill_up(weight, 0).T).astype(dtype)
