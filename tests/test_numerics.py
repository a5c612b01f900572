from __future__ import annotations

import math

import numpy as np
import pytest

from tvm_mobilenet.numerics import (
    ABSOLUTE_FLOOR,
    Difference,
    difference,
    largest,
    relative_error,
)

REFERENCE = np.array([3.0, 4.0], np.float32)


def test_the_distance_is_in_parts_of_the_reference() -> None:
    assert relative_error(REFERENCE, REFERENCE) == 0
    assert relative_error(REFERENCE * 2, REFERENCE) == pytest.approx(1)
    assert relative_error(np.array([3.0, 9.0]), REFERENCE) == pytest.approx(1)


def test_against_zeros_only_zeros_are_right() -> None:
    zeros = np.zeros_like(REFERENCE)
    assert relative_error(zeros, zeros) == 0
    assert relative_error(REFERENCE, zeros) == math.inf


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_passes_no_bound(bad: float) -> None:
    spoilt = np.array([bad, 4.0], np.float32)
    for error in (relative_error(spoilt, REFERENCE), relative_error(REFERENCE, spoilt)):
        assert not error <= 1e30


def test_sums_do_not_overflow_in_half_precision() -> None:
    large = np.full(1000, 60000, np.float16)
    assert relative_error(large, large * np.float16(0.5)) == pytest.approx(1)


def test_a_difference_is_right_by_either_bound() -> None:
    near_zero = np.full(8, 1e-9)
    off = difference(near_zero + ABSOLUTE_FLOOR / 2, near_zero)
    assert off.relative > 100
    assert off.within(1e-4)
    assert "absolute" in str(off)
    assert not difference(near_zero + ABSOLUTE_FLOOR * 2, near_zero).within(1e-4)
    ordinary = difference(REFERENCE * 1.00005, REFERENCE)
    assert ordinary.absolute > ABSOLUTE_FLOOR
    assert ordinary.within(1e-4)
    assert str(ordinary) == "5.0e-05"


def test_one_element_that_is_off_is_seen_among_many() -> None:
    zeros = np.zeros(10**6, np.float32)
    spoilt = zeros.copy()
    spoilt[7] = 1e-5
    assert not difference(spoilt, zeros).within(1e-4)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_difference_that_is_not_finite_is_wrong(bad: float) -> None:
    assert not difference(np.array([bad, 4.0]), REFERENCE).within(1e30)


def test_the_largest_difference_is_a_wrong_one() -> None:
    near_zero, wrong = Difference(1e3, 1e-9), Difference(1e-3, 1e-3)
    assert largest([near_zero, wrong], 1e-4) is wrong
    assert largest([near_zero, Difference(0, 0)], 1e-4) is near_zero
