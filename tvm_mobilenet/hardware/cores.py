"""Which cores this process may use, which of them build and which measure."""

from __future__ import annotations

import os


def usable_cores() -> int:
    """How many cores this process may use."""
    if not hasattr(os, "sched_getaffinity"):  # macOS
        return os.cpu_count() or 1
    return len(os.sched_getaffinity(0))


def share_cores(threads: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The cores to build on and those to measure on: apart where there are enough."""
    if not hasattr(os, "sched_getaffinity"):
        return (0,), (0,)
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) <= threads:
        return tuple(cores), tuple(cores)
    # the system's own work prefers the first core
    return tuple(cores[:-threads]), tuple(cores[-threads:])
