"""From the probe's readings around inferences to the states that the core was in.

How fast nops go depends on the core, so the two states are read off the readings themselves: they
are two where the readings lie in two heaps with little between, as they do where a neighbour comes
and goes. One heap is one state, whichever that is; so is a smear, of a neighbour that is awake for
a part of every microsecond.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tvm_mobilenet.results.schema import CoreUse, State

FEWEST = 50  # readings of which anything can be told
LEAST_SHARE = 0.05  # of the readings that each state has
# A thread that shares its core gets about half of its places for instructions.
LEAST_APART = 1.3
VALLEY = 0.5  # of the readings' density within the heaps, at most, is between them
# Steps of AMD's counter are 5 % of a reading: no heap is taken for narrower.
NARROWEST = 0.05
INTERRUPTED = 4  # times slower than most: an interrupt fell into the probe, which tells nothing
_BINS = 64  # between which the boundary is looked for

Array = NDArray[np.float64]


def boundary(nops_per_cycle: Sequence[float]) -> float | None:
    """The reading below which the core was shared; None where there are no two states."""
    if len(nops_per_cycle) < FEWEST:
        return None
    readings = np.log(np.asarray(nops_per_cycle, np.float64))
    readings = readings[readings > np.median(readings) - np.log(INTERRUPTED)]
    cut = _best_cut(readings)
    if cut is None:
        return None
    shared, alone = readings[readings < cut], readings[readings >= cut]
    if min(shared.size, alone.size) < LEAST_SHARE * readings.size:
        return None
    low, high = float(np.median(shared)), float(np.median(alone))
    if high - low < np.log(LEAST_APART):
        return None
    third = (high - low) / 3
    between = np.count_nonzero((readings > low + third) & (readings < high - third)) / third
    if between > VALLEY * min(_density(shared), _density(alone)):
        return None
    return float(np.exp(cut))


def _best_cut(readings: Array) -> float | None:
    """Otsu's: where the two sides' means are farthest apart, weighed by how many each has."""
    if readings.min() == readings.max():
        return None
    counts, edges = np.histogram(readings, _BINS)
    sums, _ = np.histogram(readings, _BINS, weights=readings)
    below, sum_below = np.cumsum(counts)[:-1], np.cumsum(sums)[:-1]
    above, sum_above = readings.size - below, readings.sum() - sum_below
    spread = below * above * (sum_below / below - sum_above / above) ** 2
    best = np.flatnonzero(spread >= spread.max() * (1 - 1e-9))  # a gap's edges are equally good
    return float(edges[1:-1][best].mean())


def _density(heap: Array) -> float:
    """Readings for each unit of their logarithm, in the narrowest half of a heap."""
    ordered = np.sort(heap)
    half = max(1, ordered.size // 2)
    width = (ordered[half:] - ordered[: ordered.size - half]).min(initial=np.inf)
    return half / max(float(width), NARROWEST)


def use_of(
    readings: Sequence[Sequence[float]], samples_ms: Sequence[float], shared_below: float | None
) -> CoreUse | None:
    """What a row says of these samples; None where nothing was read.

    ``readings`` are nops a cycle, of each turn one before its first inference and one after each.
    ``shared_below`` is of ``boundary``. An inference counts for a state where the readings before
    and after it say the same.
    """
    if not any(readings):
        return None
    if shared_below is None:
        return CoreUse(1)
    states = "".join(_states(turn, shared_below) for turn in readings)
    assert len(states) == len(samples_ms), "one reading more than inferences, in every turn"
    medians = {}
    for state in ("alone", "shared"):
        taken = [ms for ms, one in zip(samples_ms, states, strict=True) if one == state[0]]
        medians[state] = None if not taken else State(len(taken) / len(states), _median(taken))
    return CoreUse(2, medians["alone"], medians["shared"], states)


def _states(turn: Sequence[float], shared_below: float) -> str:
    """A letter for each inference: a(lone), s(hared), or m(ixed)."""
    shared = [reading < shared_below for reading in turn]
    pairs = itertools.pairwise(shared)
    return "".join("m" if before != after else "s" if after else "a" for before, after in pairs)


def _median(samples: Sequence[float]) -> float:
    return round(float(np.median(np.asarray(samples))), 5)
