"""Arrays for kernels: random ones, blocked and unpacked by NumPy, and what a kernel wrote checked.

Outputs start as NaN, so nothing that is left unwritten goes unseen; so does what a kernel has no
right to read: halo beyond the padding it was asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import tvm
from numpy.typing import NDArray

from tvm_mobilenet.kernels.cpu.conv2d import Activation
from tvm_mobilenet.kernels.cpu.layout import WIDE_VECTOR, Blocked

Array = NDArray[np.float32]

# float32 sums of up to 9 x 1024 products of size 1/sqrt(count), in another order than PyTorch's
RTOL, ATOL = 1e-4, 1e-4


def normal(rng: np.random.Generator, *shape: int) -> Array:
    return rng.standard_normal(shape, dtype=np.float32)


def scaled(rng: np.random.Generator, shape: tuple[int, ...], fan_in: int) -> Array:
    array: Array = normal(rng, *shape) / np.float32(math.sqrt(fan_in))
    return array


def activate(array: Array, activation: Activation) -> Array:
    low = -np.inf if activation.low is None else activation.low
    high = np.inf if activation.high is None else activation.high
    clipped: Array = np.clip(array, low, high)
    return clipped


def to_blocked(image: Array, x: Blocked, padding: tuple[int, int, int, int] | None = None) -> Array:
    """Pack by NumPy. Zeros are only where ``padding`` reaches; halo beyond it is NaN.

    Without ``padding`` the whole halo is NaN.
    """
    rows, columns = x.padded_height, x.padded_width
    top, bottom, left, right = padding or (0, 0, 0, 0)
    filled = np.full((x.batch, x.blocks * x.vector, rows, columns), np.nan, np.float32)
    zeros = filled[
        :,
        :,
        x.halo.top - top : x.halo.top + x.height + bottom,
        x.halo.left - left : x.halo.left + x.width + right,
    ]
    zeros[:] = 0
    interior(filled, x)[:, : x.channels] = image
    vectors = filled.reshape(x.batch, x.blocks, x.vector, rows, columns)
    return np.ascontiguousarray(reordered(vectors.transpose(0, 1, 3, 4, 2)))


def reordered(blocked: Array) -> Array:
    """(N, C/v, H, W, v) → blocked, or back: wide vectors have rows and channel blocks swapped."""
    return blocked.swapaxes(1, 2) if blocked.shape[-1] >= WIDE_VECTOR else blocked


def left_operands(blocked: Array) -> Array:
    """The operands of Strassen's seven products, by NumPy; ``blocked`` has no halo."""
    planes = reordered(blocked)
    half = planes.shape[1] // 2
    a11, a21 = planes[:, :half, 0::2], planes[:, :half, 1::2]
    a12, a22 = planes[:, half:, 0::2], planes[:, half:, 1::2]
    s1 = a21 + a22
    s2 = s1 - a11
    operands = np.stack([a11, a12, a12 - s2, a22, s1, s2, a11 - a21])
    # (q, N, blocks, rows, columns, v) → (N, rows, q, blocks, columns, v)
    return np.ascontiguousarray(operands.transpose(1, 3, 0, 2, 4, 5))


def transformed_windows(blocked: Array, first: tuple[int, int], size: tuple[int, int]) -> Array:
    """The operands of Winograd's sixteen products, by NumPy, one window after the other.

    ``first`` is the row and column of the padded image that the first output reads, ``size`` the
    output's; the last window of an odd row or column overlaps the one before it.
    """
    planes = reordered(blocked).astype(np.float64)
    matrix = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]])
    rows, columns = (
        [min(start, length - 2) + origin for start in range(0, length, 2)]
        for length, origin in zip(size, first, strict=True)
    )
    batch, blocks, _, _, v = planes.shape
    operands = np.empty((batch, len(rows), 16, blocks, len(columns), v), np.float32)
    for h, row in enumerate(rows):
        for w, column in enumerate(columns):
            window = planes[:, :, row : row + 4, column : column + 4]
            transformed = np.einsum("ai,noijv,bj->nabov", matrix, window, matrix)
            operands[:, h, :, :, w] = transformed.reshape(batch, 16, blocks, v)
    return operands


def interior(padded: Array, x: Blocked) -> Array:
    """The image within (N, C, rows, columns)."""
    top, left = x.halo.top, x.halo.left
    return padded[:, :, top : top + x.height, left : left + x.width]


def channels_first(blocked: Array, x: Blocked) -> Array:
    """Blocked → (N, filled-up C, rows, columns), halo included."""
    planes = reordered(blocked).transpose(0, 1, 4, 2, 3)
    return planes.reshape(x.batch, -1, x.padded_height, x.padded_width)


def fill_lanes(blocked: Array, x: Blocked) -> Array:
    return channels_first(blocked, x)[:, x.channels :]


def check_blocked(result: Array, x: Blocked, wanted: Array) -> None:
    """The image is ``wanted``, the whole halo is zero, and nothing was left unwritten."""
    padded = channels_first(result, x)
    np.testing.assert_allclose(interior(padded, x)[:, : x.channels], wanted, rtol=RTOL, atol=ATOL)
    halo = padded.copy()
    interior(halo, x)[:] = 0
    assert not halo.any(), "the halo is zero"  # NaN counts as true
    assert np.isfinite(fill_lanes(result, x)).all(), "filled-up channels are written"


def run(kernel: Callable[..., object], shape: tuple[int, ...], *arguments: Array) -> Array:
    """What ``kernel`` writes into an output of ``shape`` that starts as NaN."""
    output = tvm.runtime.tensor(np.full(shape, np.nan, np.float32))
    kernel(*map(tvm.runtime.tensor, arguments), output)
    result: Array = output.numpy()
    return result
