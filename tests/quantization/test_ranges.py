"""The range of a tensor: what each method makes of values that are known."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest
from numpy.typing import NDArray

from tvm_mobilenet.quantization.ranges import (
    METHODS,
    Histogram,
    Method,
    choose_range,
    clipped_share,
)
from tvm_mobilenet.quantization.scales import Scale, rounded, scale_of


def histogram_of(values: NDArray[Any], parts: int = 4) -> Histogram:
    found = Histogram(float(values.min()), float(values.max()))
    for part in np.array_split(values, parts):
        found.add(part)
    return found


def error(values: NDArray[Any], scale: Scale) -> float:
    return float(np.square(rounded(values, scale) - values).mean())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("low", "high"), [(-1.0, 3.0), (0.0, 6.0), (2.0, 5.0), (-4.0, -1.0), (0.0, 0.0)]
)
def test_zero_is_exact(method: Method, low: float, high: float, rng: np.random.Generator) -> None:
    scale = choose_range(histogram_of(rng.uniform(low, high, 5000)), method)
    assert 0 <= scale.zero <= 255 and scale.step > 0
    assert rounded(np.zeros(1), scale)[0] == 0
    if low >= 0:
        assert scale.zero == 0
    if method == "minmax" and low < high:
        half = scale.step / 2
        assert scale.low - half <= min(low, 0) + 1e-2 and scale.high + half >= max(high, 0) - 1e-2


def test_a_step_is_what_float32_holds() -> None:
    scale = scale_of(-0.3, 0.7)
    assert scale.step == float(np.float32(scale.step))
    assert scale.zero == round(0.3 / scale.step)


def test_few_values_far_off_do_not_decide(rng: np.random.Generator) -> None:
    """Of 100,000 values of variance 1, three are at 40."""
    values = rng.standard_normal(100_000)
    values[:3] = 40
    histogram = histogram_of(values)
    methods: tuple[Method, ...] = get_args(Method)
    scales = {method: choose_range(histogram, method) for method in methods}
    assert scales["minmax"].high == pytest.approx(40, rel=0.02)
    assert 3.5 < scales["percentile"].high < 6
    assert 3.5 < -scales["percentile"].low < 6
    assert clipped_share(histogram, scales["minmax"]) == 0
    assert 0 < clipped_share(histogram, scales["percentile"]) < 2e-4
    errors = {method: error(values, scale) for method, scale in scales.items()}
    assert errors["mse"] <= min(errors.values()) * 1.01
    assert errors["mse"] < errors["minmax"] * 0.95


def test_the_least_squared_error_is_that_of_all_ranges_tried(rng: np.random.Generator) -> None:
    """Laplace's distribution has long tails: cutting them off costs less than it saves."""
    values = rng.laplace(size=50_000)
    found = error(values, choose_range(histogram_of(values), "mse"))
    most = np.abs(values).max()
    others = [error(values, scale_of(-a * most, b * most)) for a in (0.4, 0.7, 1) for b in (0.5, 1)]
    assert found < min(others) * 1.05 and found < others[-1] * 0.95


def test_parts_add_up_to_the_whole(rng: np.random.Generator) -> None:
    values = rng.standard_normal(10_001).astype(np.float32)
    one, several = histogram_of(values, 1), histogram_of(values, 7)
    np.testing.assert_array_equal(one.counts, several.counts)
    assert one.counts.sum() == len(values)
