"""The bootstrap distribution of a median, exactly: no resampling, so the same every time.

Draw n of n values with replacement, n odd. Their median is at most the k-th smallest value x(k) if
more than half of the draws are among the k smallest: with the probability that a binomial variable
of n draws, each k/n likely, exceeds n/2. Quantiles of the distribution are therefore values x(k).
"""

from __future__ import annotations

import functools
import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def at_most(n: int, k: int) -> float:
    """The probability that the median of n draws is at most the k-th smallest of n values."""
    if k >= n:
        return 1.0
    if k <= 0:
        return 0.0
    draws = np.arange((n + 1) // 2, n + 1)
    logs = _log_choose(n)[draws] + draws * math.log(k / n) + (n - draws) * math.log1p(-k / n)
    return min(1.0, float(np.exp(logs).sum()))


def interval(values: Array, confidence: float) -> tuple[float, float]:
    """The central interval of the bootstrapped median of an odd number of values."""
    ordered, n = np.sort(values), values.size
    low, high = (_quantile(n, share) for share in ((1 - confidence) / 2, (1 + confidence) / 2))
    return float(ordered[low]), float(ordered[high])


def interval_of_difference(
    values: Array, subtracted: Array, confidence: float
) -> tuple[float, float]:
    """The same for the difference of two independent medians, of odd numbers of values."""
    differences = np.subtract.outer(np.sort(values), np.sort(subtracted)).ravel()
    weights = np.multiply.outer(_weights(values.size), _weights(subtracted.size)).ravel()
    order = np.argsort(differences)
    total = np.cumsum(weights[order])
    places = np.searchsorted(total, [(1 - confidence) / 2, (1 + confidence) / 2])
    low, high = differences[order][np.minimum(places, total.size - 1)]
    return float(low), float(high)


def _quantile(n: int, share: float) -> int:
    """The place, from 0, of the smallest value that the median is at most with this probability."""
    below, found = 0, n
    while found - below > 1:
        middle = (below + found) // 2
        below, found = (below, middle) if at_most(n, middle) >= share else (middle, found)
    return found - 1


@functools.cache
def _weights(n: int) -> Array:
    """The probability of each of n values to be the median, smallest value first."""
    return np.diff([at_most(n, k) for k in range(n + 1)])


@functools.cache
def _log_choose(n: int) -> Array:
    """Logarithms of n over 0, 1, ..., n."""
    factorials = np.array([math.lgamma(k + 1) for k in range(n + 1)])
    choose: Array = factorials[n] - factorials - factorials[::-1]
    return choose
