"""Sums that are floats in their bits: what they start at, and where there is no such start."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tvm_mobilenet.kernels.cpu.requantization import MAGIC, MAGIC_BITS, sum_bits

CHANNELS, PRODUCTS = 32, 64
LIMITS = np.array([-128, 127])


def results(bits: NDArray[np.int32], scale: NDArray[np.float32], sums: Any) -> NDArray[np.int64]:
    """What NEON makes of sums (channels, n) before it saturates: one rounding, the low 16 bits."""
    floats = (bits[:, :1] + sums).astype(np.int32).view(np.float32).astype(np.float64)
    added = bits[:, 1:].copy().view(np.float32).astype(np.float64)
    exact = floats * scale[:, None].astype(np.float64) + added
    rounded: NDArray[np.int64] = exact.astype(np.float32).view(np.int32).astype(np.int16)
    return rounded.astype(np.int64)


def test_results_are_the_next_integers(rng: np.random.Generator) -> None:
    weight = rng.integers(-127, 128, (CHANNELS, PRODUCTS, 1, 1), dtype=np.int8)
    scale = np.exp(rng.uniform(-9, -5, CHANNELS)).astype(np.float32)
    bias = rng.normal(0, 100, CHANNELS).astype(np.float32)
    bits = sum_bits(weight, scale, bias)
    assert bits is not None
    matrix = weight.reshape(CHANNELS, PRODUCTS).astype(np.int64)
    extremes = np.stack([np.where(matrix > 0, *pair).ravel() for pair in (LIMITS, LIMITS[::-1])])
    worst = (extremes.reshape(2, CHANNELS, PRODUCTS) * matrix).sum(-1).T
    usual = rng.integers(-128, 128, (1000, PRODUCTS)) @ matrix.T
    sums = np.concatenate([worst, usual.T], axis=1)
    exact = sums * scale[:, None].astype(np.float64) + bias[:, None]
    apart = np.abs(results(bits, scale, sums) - exact)
    assert apart.max() < 0.5011
    assert np.abs(exact).max() > 1000, "results that are limited, too"


def test_biases_of_integers_are_exact(rng: np.random.Generator) -> None:
    """As files have them: a scale that is any float, times an integer, plus a zero point."""
    weight = rng.integers(-127, 128, (CHANNELS, PRODUCTS), dtype=np.int8)
    scale = np.exp(rng.uniform(-9, -4, CHANNELS)).astype(np.float32)
    bias = (scale.astype(np.float64) * rng.integers(-999, 999, CHANNELS) - 128).astype(np.float32)
    bits = sum_bits(weight, scale, bias)
    assert bits is not None
    sums = rng.integers(-5000, 5000, (CHANNELS, 500))
    exact = sums * scale[:, None].astype(np.float64) + bias[:, None]
    away = np.abs(exact - np.floor(exact) - 0.5)
    found = results(bits, scale, sums)
    clear = away > 1.1e-3
    np.testing.assert_array_equal(found[clear], np.rint(exact)[clear])


def test_no_start_for_large_sums_or_results() -> None:
    zero = np.zeros(1, np.float32)

    def over(divisor: float) -> NDArray[np.float32]:
        return np.full(1, 1 / divisor, np.float32)

    large = np.full((1, 600), 127, np.int8)  # sums past 2²² at either end
    assert sum_bits(large, over(999), zero) is None
    assert sum_bits(large[:, :100], over(999), zero) is not None
    assert sum_bits(large[:, :100], over(40), zero) is None, "results past 16 bits"
    assert sum_bits(large[:, :1], over(0.7), zero) is None


def test_no_start_where_none_is_near() -> None:
    weight, quarter = np.ones((1, 9), np.int8), np.full(1, 0.25, np.float32)
    assert sum_bits(weight, quarter, np.full(1, 0.5, np.float32)) is not None
    assert sum_bits(weight, quarter, np.full(1, 0.4, np.float32)) is None


def test_zeros_start_at_the_float_itself() -> None:
    bits = sum_bits(np.zeros((1, 4), np.int8), np.full(1, 0.5, np.float32), np.zeros(1, np.float32))
    assert bits is not None
    assert abs(int(bits[0, 0]) - MAGIC_BITS) < 2**20
    assert bits[:, 1].copy().view(np.float32)[0] <= MAGIC
