from __future__ import annotations

import math

import numpy as np
import pytest

from tvm_mobilenet.numerics import relative_error

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
