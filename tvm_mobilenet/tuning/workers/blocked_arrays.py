"""NumPy arrays laid out as activations of CPU kernels (``kernels.cpu.layout``), and as images."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from tvm_mobilenet.kernels.cpu.layout import WIDE_VECTOR

Array = NDArray[Any]


def rows_outermost(shape: tuple[int, ...]) -> bool:
    """Of the two orders of a blocked tensor, which is told by its lanes."""
    return shape[-1] >= WIDE_VECTOR


def blocked(image: Array, shape: tuple[int, ...]) -> Array:
    """(N, H, W, C) → blocked, of this shape."""
    batch, rows, columns, _ = image.shape
    v = shape[-1]
    lanes = image.reshape(batch, rows, columns, -1, v)
    order = (0, 1, 3, 2, 4) if rows_outermost(shape) else (0, 3, 1, 2, 4)
    return lanes.transpose(order)


def channels_last(blocked: Array) -> Array:
    """Blocked → (N, H, W, C)."""
    planes = blocked.transpose(0, 2, 1, 3, 4) if rows_outermost(blocked.shape) else blocked
    batch, blocks, rows, columns, v = planes.shape
    return planes.transpose(0, 2, 3, 1, 4).reshape(batch, rows, columns, blocks * v)
