"""Scales in fixed point: how near results are to exact ones, and which layers have none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tvm_mobilenet.kernels.cpu.requantization import LEAST, POINT, fixed_point

CHANNELS, PRODUCTS = 32, 64
LIMITS = np.array([-128, 127])


def results(offset: int, bits: NDArray[np.int32], sums: Any) -> NDArray[np.int64]:
    """What NEON makes of sums (channels, n): ``sqrdmulh``, the low 16 bits, the offset, a byte."""
    start, multiplier = bits[:, :1].astype(np.int64), bits[:, 1:].astype(np.int64)
    total = start + sums
    assert np.abs(total).max() < 2**31
    rounded = (2 * total * multiplier + 2**POINT) >> (POINT + 1)
    words: NDArray[np.int64] = rounded.astype(np.int16).astype(np.int64) + offset
    return words.clip(*LIMITS)


def exact_results(scale: Any, bias: Any, sums: Any) -> NDArray[np.float64]:
    exact: NDArray[np.float64] = sums * scale[:, None].astype(np.float64) + bias[:, None]
    return exact


@pytest.mark.parametrize("zero", [-128, 0, 5])
def test_results_are_the_next_integers(zero: int, rng: np.random.Generator) -> None:
    weight = rng.integers(-127, 128, (CHANNELS, PRODUCTS, 1, 1), dtype=np.int8)
    scale = np.exp(rng.uniform(-9, -5, CHANNELS)).astype(np.float32)
    # as files have them: an integer in units of sums, plus a zero point
    bias = (scale.astype(np.float64) * rng.integers(-9999, 9999, CHANNELS) + zero).astype("float32")
    found = fixed_point(weight, scale, bias)
    assert found is not None
    how, bits = found
    assert how.offset == zero
    matrix = weight.reshape(CHANNELS, PRODUCTS).astype(np.int64)
    extremes = np.stack([np.where(matrix > 0, *pair).ravel() for pair in (LIMITS, LIMITS[::-1])])
    worst = (extremes.reshape(2, CHANNELS, PRODUCTS) * matrix).sum(-1).T
    usual = rng.integers(-128, 128, (1000, PRODUCTS)) @ matrix.T
    sums = np.concatenate([worst, usual.T], axis=1)
    exact = exact_results(scale, bias, sums)
    assert np.abs(exact).max() > 1000, "results that are limited, too"
    assert np.abs(results(zero, bits, sums) - exact.clip(*LIMITS)).max() < 0.5011
    clear = np.abs(exact - np.floor(exact) - 0.5) > 1.1e-3
    expected = np.rint(exact).clip(*LIMITS)
    np.testing.assert_array_equal(results(zero, bits, sums)[clear], expected[clear])


def test_a_zero_point_is_part_of_what_sums_start_at_where_scales_are_small() -> None:
    weight, scale = np.full((2, 9), 3, np.int8), np.full(2, 1 / 999, np.float32)
    found = fixed_point(weight, scale, np.full(2, -7.0, np.float32))
    assert found is not None and found[0].offset == 0
    assert found[1][:, 0].tolist() == [-7 * 999] * 2


def test_none_for_large_results_or_a_scale_of_one() -> None:
    zero = np.zeros(1, np.float32)

    def over(divisor: float) -> NDArray[np.float32]:
        return np.full(1, 1 / divisor, np.float32)

    large = np.full((1, 600), 127, np.int8)
    assert fixed_point(large, over(999), zero) is not None
    assert fixed_point(large[:, :100], over(40), zero) is None, "results past 16 bits"
    assert fixed_point(large[:, :1], over(1), zero) is None


def test_none_where_one_is_not_near() -> None:
    weight, quarter = np.ones((1, 9), np.int8), np.full(1, 0.25, np.float32)
    assert fixed_point(weight, quarter, np.full(1, 0.5, np.float32)) is not None
    assert fixed_point(weight, quarter, np.full(1, 0.4, np.float32)) is None
    # so few bits that the largest results would be off
    small = np.full(1, 2.0**-16 / 3, np.float32)
    assert fixed_point(np.full((1, 60000), 127, np.int8), small, np.zeros(1, np.float32)) is None


def test_channels_without_weights_keep_their_bias() -> None:
    scale, bias = np.array([0.5, 1e-9], np.float32), np.array([-100.0, -3.25], np.float32)
    found = fixed_point(np.array([[1], [0]], np.int8), scale, bias)
    assert found is not None
    how, bits = found
    assert results(how.offset, bits, np.zeros((2, 1), np.int64)).ravel().tolist() == [-100, -3]


def test_the_zero_point_after_relu_comes_first() -> None:
    """It costs one instruction for a register of bytes, others one for half of it."""
    weight, half = np.ones((1, 9), np.int8), np.full(1, 0.5, np.float32)
    found = fixed_point(weight, half, np.full(1, 0.5, np.float32))
    assert found is not None and found[0].offset == 0
    found = fixed_point(weight, np.full(1, 0.3, np.float32), np.full(1, LEAST + 0.6, np.float32))
    assert found is not None and found[0].offset == LEAST
