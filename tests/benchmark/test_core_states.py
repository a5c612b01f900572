"""Two states of a core, told from made-up readings: what is one heap, a smear or two heaps."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from tvm_mobilenet.benchmark.core_states import boundary, use_of
from tvm_mobilenet.results.schema import CoreUse, State

SEED = 19
Array = NDArray[np.float64]


def heap(middle: float, count: int, spread: float = 0.03) -> Array:
    return middle * np.exp(np.random.default_rng(SEED).normal(0, spread, count))


def stepped(readings: Array, ticks: float = 26, whole: float = 6000) -> Array:
    """As a counter gives them that moves in steps."""
    return whole / (np.maximum(1, np.round(whole / readings / ticks)) * ticks)


def interrupted(readings: Array) -> Array:
    """A few of them hundred times slower."""
    readings = readings.copy()
    readings[:: len(readings) // 7] /= 100
    return readings


ONE_STATE = {
    "narrow": heap(5.3, 2000),
    "wide": heap(5.3, 2000, 0.25),
    "of a counter in steps": stepped(heap(11.5, 2000)),
    "interrupted": interrupted(heap(11.5, 2000)),
    "all the same": np.full(500, 5.3),
    "shared throughout": heap(2.6, 2000),
    "a sibling awake for a part of the time": np.random.default_rng(SEED).uniform(2.6, 5.3, 2000),
    "mostly alone, the rest a smear": np.concatenate(
        [heap(5.3, 1800), np.random.default_rng(SEED).uniform(2.6, 5.3, 200)]
    ),
    "two clocks": np.concatenate([heap(5.3, 1000), heap(4.6, 1000)]),
    "a state of a few readings": np.concatenate([heap(5.3, 1990), heap(2.6, 10)]),
    "too few readings": np.concatenate([heap(5.3, 20), heap(2.6, 20)]),
}


@pytest.mark.parametrize("readings", ONE_STATE.values(), ids=ONE_STATE)
def test_one_state(readings: Array) -> None:
    assert boundary(list(readings)) is None


@pytest.mark.parametrize(("alone", "shared"), [(5.3, 2.6), (11.5, 6.0), (5.9, 4.0)])
@pytest.mark.parametrize("share", [0.08, 0.5, 0.92])
def test_two_states(alone: float, shared: float, share: float) -> None:
    count = int(3000 * share)
    readings = np.concatenate([heap(alone, 3000 - count), heap(shared, count)])
    for made in (readings, stepped(readings), interrupted(readings)):
        found = boundary(list(np.random.default_rng(SEED).permutation(made)))
        assert found is not None
        assert shared * 1.1 < found < alone / 1.1


def test_two_states_with_readings_between() -> None:
    """Some probes see the neighbour come or go."""
    between = np.random.default_rng(SEED).uniform(2.6, 5.3, 150)
    assert boundary([*heap(5.3, 1200), *heap(2.6, 800), *between]) is not None


def test_an_inference_has_the_state_of_the_readings_around_it() -> None:
    turns = [[5.0, 5.1, 2.5, 2.6], [2.5, 2.4, 5.2]]
    samples = [10.0, 11.0, 20.0, 22.0, 12.0]
    assert use_of(turns, samples, 3.7) == CoreUse(2, State(0.2, 10.0), State(0.4, 21.0), "amssm")
    assert use_of(turns, samples, 1.0) == CoreUse(2, State(1.0, 12.0), None, "aaaaa")


def test_one_state_and_none_read() -> None:
    assert use_of([[5.0, 5.0]], [10.0], None) == CoreUse(1)
    assert use_of([[], []], [10.0, 10.0], None) is None
