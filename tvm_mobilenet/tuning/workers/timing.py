"""Timing a kernel by this process's clock."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from tvm_mobilenet.tuning.workers.messages import Settings

WALK_S = 0.05


def block_of(
    kernel: Callable[..., object], rotation: list[tuple[Any, ...]]
) -> Callable[[int], float]:
    """A block of calls by this process's clock, taking the tuples of ``rotation`` in turn."""
    place = 0

    def block(calls: int) -> float:
        nonlocal place
        chosen = [rotation[(place + i) % len(rotation)] for i in range(calls)]
        place += calls
        start = time.perf_counter()
        for arguments in chosen:
            kernel(*arguments)
        return (time.perf_counter() - start) / calls

    return block


def walk(kernel: Callable[..., object], rotation: list[tuple[Any, ...]]) -> None:
    """Call the kernel once on every copy of its weights, for at most WALK_S."""
    start = time.perf_counter()
    for arguments in rotation:
        kernel(*arguments)
        if time.perf_counter() - start > WALK_S:
            return


def time_kernel(
    block: Callable[[int], float], best_s: float | None, settings: Settings
) -> tuple[list[float], bool]:
    """Seconds per call, one median for each repeat, and whether it was cut off for being slow.

    ``block`` makes that many calls and returns the seconds of one. What cannot win is not worth a
    long measurement: after one block that is ``cut_off`` times the best, that block's time is all
    there is.
    """
    limit = float("inf") if best_s is None else settings.cut_off * best_s
    estimate = min(block(1), block(1))
    if estimate > 2 * limit:
        return [estimate], True
    calls = max(1, round(settings.sample_s / max(estimate, 1e-7)))
    first = block(calls)
    if first > limit:
        return [first], True
    medians = [
        statistics.median(block(calls) for _ in range(settings.samples))
        for _ in range(settings.repeats)
    ]
    return medians, False
