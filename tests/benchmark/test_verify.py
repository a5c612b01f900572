"""Outputs against the reference."""

from __future__ import annotations

import numpy as np
import pytest

from tvm_mobilenet.benchmark.engines.verify import WrongResult, check

B = np.random.default_rng(5).standard_normal((1, 1000)).astype(np.float32)


def scaled(relative: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return (B.astype(np.float64) * (1 + relative)).astype(np.float32)


def test_the_largest_difference_over_all_outputs() -> None:
    outputs = [scaled(0), B.copy()]
    outputs[1][0, 7] += 1e-4
    assert check(outputs, [B, B], "fp32") == pytest.approx(1e-4, rel=0.01)


@pytest.mark.parametrize("relative", [0, 0.9e-4, -0.9e-4])
def test_within_the_tolerance(relative: float) -> None:
    check([scaled(relative)], [B], "fp32")


@pytest.mark.parametrize("precision", ["tf32", "fp16"])
def test_a_lower_precision_has_a_tolerance_of_its_own(precision: str) -> None:
    check([scaled(0.9e-2)], [B], precision)
    with pytest.raises(WrongResult, match="allowed 1e-02"):
        check([scaled(1.1e-2)], [B], precision)


@pytest.mark.parametrize("relative", [1.1e-4, -1.1e-4, 1, np.inf, np.nan])
def test_beyond_the_tolerance(relative: float) -> None:
    with pytest.raises(WrongResult, match="wrong result: relative error"):
        check([scaled(relative)], [B], "fp32")


def test_another_shape_or_number_of_outputs() -> None:
    with pytest.raises(
        WrongResult, match=r"expected output shapes \[\(1, 1000\)\], got \[\(1000,\)\]"
    ):
        check([B[0]], [B], "fp32")
    with pytest.raises(WrongResult, match="output shapes"):
        check([B, B], [B], "fp32")


def test_a_reference_of_zeros_allows_what_is_near_zero() -> None:
    zeros = np.zeros_like(B)
    assert check([zeros], [zeros], "fp32") == 0
    check([zeros + 1e-9], [zeros], "fp32")
    with pytest.raises(WrongResult):
        check([zeros + 1e-6], [zeros], "fp32")
