"""Tiles of int8 matrices: as few loads for a product as the registers allow."""

from __future__ import annotations

import pytest

from schedules.arm_cpu.quantized_conv2d import MAX_TILE_HEIGHT, MOST_SUMS, matrix_tile, parts_of
from schedules.primitives import divisors

LANES, MATRICES = 8, 4


@pytest.mark.parametrize(
    ("size", "tile"),
    [
        (112, (1, 4, 1)),
        (28, (1, 7, 1)),  # more than four pairs are summed in two parts
        (14, (1, 7, 1)),
        (24, (1, 4, 1)),
        (12, (1, 6, 1)),
        (10, (1, 5, 1)),
        (7, (1, 4, 1)),
        (6, (1, 3, 1)),
    ],
)
def test_tiles_of_square_images(size: int, tile: tuple[int, int, int]) -> None:
    heights = [d for d in divisors(size) if d <= MAX_TILE_HEIGHT]
    found = matrix_tile(heights, divisors(-(-size // 2)), [1, 2, 4], LANES)
    assert found == tile
    rows, pairs, vectors = found
    together = -(-pairs // parts_of(rows * pairs * vectors * MATRICES))
    weights, inputs = MATRICES, rows * together
    assert rows * together * vectors * MATRICES + weights + inputs <= 24


@pytest.mark.parametrize("size", [14, 28, 56])
def test_few_steps_load_two_pairs_at_once(size: int) -> None:
    """What LLVM unrolls has no rows in parts."""
    rows, pairs, vectors = matrix_tile([1, 2], divisors(size // 2), [1, 2, 4], LANES, 2)
    assert rows * pairs * vectors * MATRICES <= MOST_SUMS
