"""Summaries, ratios with their intervals, and the verdict's boundaries."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tvm_mobilenet.results.median_interval import interval, interval_of_difference
from tvm_mobilenet.results.statistics import (
    MARGIN,
    Ratio,
    block_medians,
    compare,
    geometric_mean,
    relative_iqr,
    summarize,
)

TIMES = st.lists(st.floats(0.01, 100), min_size=1, max_size=60)


def noisy(median: float, scatter: float, runs: int = 500, seed: int = 0) -> list[float]:
    return list(median * np.random.default_rng(seed).lognormal(0, scatter, runs))


def test_summary() -> None:
    latency = summarize([5, 1, 2, 3, 4])
    assert (latency.min, latency.p50, latency.p90, latency.mean) == (1, 3, 4.6, 3)
    assert latency.std == pytest.approx(2**0.5)
    assert latency.n == 5


@pytest.mark.parametrize(("runs", "known"), [(999, False), (1000, True)])
def test_p99_only_where_the_runs_support_it(runs: int, known: bool) -> None:
    assert (summarize([1.0] * runs).p99 is not None) is known


@given(TIMES)
def test_a_summary_is_in_order(times: list[float]) -> None:
    latency = summarize(times)
    assert min(times) == latency.min <= latency.p50 <= latency.p90 <= max(times)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (1 + MARGIN + 1e-9, 1.5, "faster"),
        (1 + MARGIN, 1.5, "no difference"),
        (0.999, 1.5, "no difference"),
        (1.001, 1.009, "no difference"),
        (0.5, 1 / (1 + MARGIN), "no difference"),
        (0.5, 1 / (1 + MARGIN) - 1e-9, "slower"),
        (0.0, float("inf"), "no difference"),
    ],
)
def test_verdict(low: float, high: float, verdict: str) -> None:
    assert Ratio(1.0, low, high).verdict == verdict


def test_a_clear_difference_is_detected_with_its_direction() -> None:
    ratio = compare(noisy(12, 0.05, seed=1), noisy(10, 0.05, seed=2))
    assert ratio.low < 1.2 < ratio.high
    assert ratio.high - ratio.low < 0.03
    assert ratio.verdict == "faster"


def test_exchanging_the_sides_inverts() -> None:
    a, b = noisy(12, 0.05, seed=1), noisy(10, 0.05, seed=2)
    there, back = compare(a, b), compare(b, a)
    assert back.value == pytest.approx(1 / there.value, rel=1e-3)
    assert (there.verdict, back.verdict) == ("faster", "slower")


def test_the_same_engine_twice_is_no_difference() -> None:
    verdicts = [
        compare(noisy(10, 0.1, seed=2 * i), noisy(10, 0.1, seed=2 * i + 1)).verdict
        for i in range(20)
    ]
    assert verdicts.count("no difference") >= 19


def test_slowness_that_both_engines_share_does_not_change_the_ratio() -> None:
    pace = np.repeat([1.0, 2.0, 1.0], [200, 100, 200])
    ours = np.array(noisy(10, 0.01, seed=3)) * pace
    engine = np.array(noisy(11, 0.01, seed=4)) * pace
    ratio = compare(list(engine), list(ours))
    assert ratio.value == pytest.approx(1.1, rel=0.01)
    assert ratio.high - ratio.low < 0.02


def test_noise_in_one_engine_alone_gives_no_verdict() -> None:
    ours, engine = noisy(10, 0.01, seed=5), noisy(10, 0.01, seed=6)
    engine[100:120] = [500.0] * 20
    assert compare(engine, ours).verdict == "no difference"


def test_the_interval_is_the_same_every_time() -> None:
    a, b = noisy(12, 0.05, seed=1), noisy(10, 0.05, seed=2)
    assert compare(a, b) == compare(a, b)


@pytest.mark.parametrize("count", [5, 25, 101])
def test_the_interval_is_what_resampling_comes_to(count: int) -> None:
    values = np.random.default_rng(count).lognormal(0, 0.3, count)
    drawn = np.random.default_rng(1).integers(count, size=(20_000, count))
    medians = np.median(values[drawn], axis=1)
    low, high = interval(values, 0.95)
    # shares of the resampled medians outside the exact interval: at most 2.5 % on each side
    assert (medians < low).mean() < 0.029 and (medians > high).mean() < 0.029
    assert (medians <= low).mean() > 0.021 and (medians >= high).mean() > 0.021
    others = np.random.default_rng(count + 1).lognormal(0, 0.3, count)
    drawn = np.random.default_rng(2).integers(count, size=(20_000, count))
    differences = medians - np.median(others[drawn], axis=1)
    bounds = interval_of_difference(values, others, 0.95)
    assert np.quantile(differences, [0.025, 0.975]) == pytest.approx(bounds, abs=0.02)


def test_engines_with_different_numbers_of_runs_are_paired_in_time() -> None:
    assert compare([2.0] * 1000, [1.0] * 100).value == 2


def test_too_few_runs_give_no_verdict() -> None:
    ratio = compare([2.0] * 4, [1.0] * 400)
    assert (ratio.value, ratio.low, ratio.high) == (2, 0, float("inf"))
    assert ratio.verdict == "no difference"


@given(TIMES, TIMES)
def test_a_ratio_lies_in_its_interval(a: list[float], b: list[float]) -> None:
    ratio = compare(a, b)
    assert 0 <= ratio.low <= ratio.value * (1 + 1e-9)
    assert ratio.value <= ratio.high * (1 + 1e-9)


def test_block_medians_follow_the_order_of_the_runs() -> None:
    np.testing.assert_array_equal(block_medians([1, 1, 9, 2, 2, 2, 3, 3], 3), [1, 2, 3])


def test_relative_iqr() -> None:
    assert relative_iqr([8, 9, 10, 11, 12]) == pytest.approx(0.2)


def test_geometric_mean() -> None:
    assert geometric_mean([1, 4, 2]) == pytest.approx(2)
