"""Which cores this process may use, and which of them build and which measure."""

from __future__ import annotations

import os


def usable_cores() -> tuple[int, ...]:
    """The cores this process may run on, in order: fewer than there are where a container or
    ``taskset`` says so. A system that tells no more than how many there are (macOS) has them all.
    """
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def share_cores(threads: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The cores to build on and those to measure on: apart where there are enough."""
    cores = usable_cores()
    if len(cores) <= threads:
        return cores, cores
    # the system's own work prefers the first core
    return cores[:-threads], cores[-threads:]
