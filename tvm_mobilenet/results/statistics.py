"""Latency summaries, the ratio of two engines with its interval, and the verdict.

Two engines that took turns are compared stretch by stretch: the samples of each, in the order they
were taken, are cut into the same number of blocks, and block i of one lies in the same minutes as
block i of the other. What slows the machine for a while then hits both sides of a ratio.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tvm_mobilenet.results.median_interval import interval, interval_of_difference
from tvm_mobilenet.results.schema import Latency

Verdict = Literal["faster", "slower", "no difference"]

BLOCKS = 25  # also the number of rounds ``bench`` measures, so that a block is a round
SAME_STATE = "as"  # letters of a core's states in which two engines are compared
FAIR_PART = 0.25  # of a stretch's samples, so that no pair is of a chance sample
MIN_BLOCKS = 5  # below this a bootstrap interval says nothing
CONFIDENCE = 0.95
# Two processes of the same engine differ by up to this much (placement of buffers and code), which
# an interval taken within one pair of processes cannot know.
MARGIN = 0.01
# Runs at different times differ by more, with references that both had and without any.
MARGIN_ACROSS, MARGIN_WITHOUT_REFERENCE = 0.015, 0.03
P90_RUNS = 100  # ten samples beyond the percentile, as of the 99th
P99_RUNS = 1000  # ten samples beyond the 99th percentile


@dataclass(frozen=True)
class Ratio:
    """An engine's latency ÷ ours, with its 95 % interval: 1.2 says ours takes 1/1.2 of its time."""

    value: float
    low: float
    high: float

    @property
    def verdict(self) -> Verdict:
        """What ours is beside the engine: the interval has to clear 1 by ``MARGIN``."""
        return self.verdict_beyond(MARGIN)

    def verdict_beyond(self, margin: float) -> Verdict:
        """What the divisor is beside the dividend, where the interval clears 1 by ``margin``."""
        if self.low > 1 + margin:
            return "faster"
        if self.high < 1 / (1 + margin):
            return "slower"
        return "no difference"


def summarize(samples_ms: Sequence[float]) -> Latency:
    """Summary in ms of at least one sample; the percentiles are linearly interpolated."""
    samples = np.asarray(samples_ms, dtype=np.float64)
    p50, p90, p99 = np.percentile(samples, [50, 90, 99])
    return Latency(
        min=float(samples.min()),
        p50=float(p50),
        p90=float(p90),
        mean=float(samples.mean()),
        std=float(samples.std()),
        n=samples.size,
        p99=float(p99) if samples.size >= P99_RUNS else None,
    )


def relative_iqr(samples_ms: Sequence[float]) -> float:
    """Interquartile range ÷ median: how wide the middle half of the samples lies."""
    p25, p50, p75 = np.percentile(np.asarray(samples_ms), [25, 50, 75])
    return float((p75 - p25) / p50)


def block_medians(samples_ms: Sequence[float], blocks: int) -> NDArray[np.float64]:
    """Median of each of ``blocks`` consecutive stretches of the samples, shape (blocks,)."""
    stretches = np.array_split(np.asarray(samples_ms, dtype=np.float64), blocks)
    return np.array([np.median(stretch) for stretch in stretches])


def compare(engine_ms: Sequence[float], ours_ms: Sequence[float], blocks: int = BLOCKS) -> Ratio:
    """The engine's latency ÷ ours: median of the paired block ratios, bootstrapped over blocks.

    With fewer than ``MIN_BLOCKS`` samples on either side the interval is (0, inf).
    """
    blocks = _odd(min(blocks, len(engine_ms), len(ours_ms)))
    ratios = block_medians(engine_ms, blocks) / block_medians(ours_ms, blocks)
    value = float(np.median(ratios))
    if blocks < MIN_BLOCKS:
        return Ratio(value, 0.0, float("inf"))
    return Ratio(value, *interval(ratios, CONFIDENCE))


def compare_within_states(
    engine_ms: Sequence[float],
    engine_states: str,
    ours_ms: Sequence[float],
    ours_states: str,
    blocks: int = BLOCKS,
) -> Ratio | None:
    """As ``compare``, of what both took while their core was in the same state.

    The states have a letter for each sample (``schema.CoreUse``). Of every stretch what was taken
    alone is paired, and what was taken on a shared core, each where a fair part of both sides' was.
    None where no stretch has such a pair.
    """
    blocks = min(blocks, len(engine_ms), len(ours_ms))
    ratios = []
    for engine, ours in zip(
        _stretches(engine_ms, engine_states, blocks),
        _stretches(ours_ms, ours_states, blocks),
        strict=True,
    ):
        for state in SAME_STATE:
            one, other = _taken(engine, state), _taken(ours, state)
            if one is not None and other is not None:
                ratios.append(one / other)
    if not ratios:
        return None
    kept = np.array(ratios[: _odd(len(ratios))])
    value = float(np.median(kept))
    if kept.size < MIN_BLOCKS:
        return Ratio(value, 0.0, float("inf"))
    return Ratio(value, *interval(kept, CONFIDENCE))


_Stretch = tuple[NDArray[np.float64], NDArray[np.str_]]


def _stretches(samples_ms: Sequence[float], states: str, blocks: int) -> list[_Stretch]:
    samples = np.array_split(np.asarray(samples_ms, dtype=np.float64), blocks)
    return list(zip(samples, np.array_split(np.array(list(states)), blocks), strict=True))


def _taken(stretch: _Stretch, state: str) -> float | None:
    """The median of what was taken in a state, None where that is too little of the stretch."""
    samples, states = stretch
    taken = samples[states == state]
    return float(np.median(taken)) if taken.size >= FAIR_PART * samples.size else None


def _odd(count: int) -> int:
    """So many blocks or one fewer: the median is then one of them."""
    return count - 1 + count % 2


def geometric_mean(values: Sequence[float]) -> float:
    """Geometric mean of at least one positive value."""
    return float(np.exp(np.mean(np.log(np.asarray(values, dtype=np.float64)))))


def mean_ratio(ratios: Sequence[Ratio]) -> Ratio:
    """Geometric mean of at least one ratio, measured one after the other, with its interval.

    In logarithms the half-widths of independent intervals add up by their squares.
    """
    value = geometric_mean([one.value for one in ratios])
    if any(one.low <= 0 or np.isinf(one.high) for one in ratios):
        return Ratio(value, 0.0, float("inf"))
    below = [np.log(one.value / one.low) for one in ratios]
    above = [np.log(one.high / one.value) for one in ratios]
    low, high = (float(np.sqrt(np.sum(np.square(one))) / len(ratios)) for one in (below, above))
    return Ratio(value, value * float(np.exp(-low)), value * float(np.exp(high)))


def compare_across(
    new_ms: Sequence[float],
    old_ms: Sequence[float],
    new_references: Sequence[Sequence[float]] = (),
    old_references: Sequence[Sequence[float]] = (),
) -> Ratio:
    """An engine's latency in one run ÷ that in another, with its interval.

    The references are engines that are the same in both runs and took turns with it in each: what
    made the machine faster or slower in between is divided out with them. Without references the
    plain medians are compared.
    """
    new, old = _logarithms(new_ms, new_references), _logarithms(old_ms, old_references)
    value = float(np.exp(np.median(new) - np.median(old)))
    if min(new.size, old.size) < MIN_BLOCKS:
        return Ratio(value, 0.0, float("inf"))
    low, high = interval_of_difference(new, old, CONFIDENCE)
    return Ratio(value, float(np.exp(low)), float(np.exp(high)))


def _logarithms(
    samples_ms: Sequence[float], references: Sequence[Sequence[float]]
) -> NDArray[np.float64]:
    """Of the blocks' medians, over the mean of the references' ones."""
    blocks = _odd(min(BLOCKS, len(samples_ms), *map(len, references)))
    logarithms: NDArray[np.float64] = np.log(block_medians(samples_ms, blocks))
    for one in references:
        logarithms = logarithms - np.log(block_medians(one, blocks)) / len(references)
    return logarithms
