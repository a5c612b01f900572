"""What the models know of a core: the ``[core]`` table of a target file."""

from __future__ import annotations

from dataclasses import dataclass

MULTIPLY_LATENCY = 3  # cycles, of scalars; near enough on every core
DIVIDE_LATENCY = 12


@dataclass(frozen=True)
class Core:
    """Whole numbers: per cycle, in cycles, or in bytes.

    ``issue``: instructions of any kind that enter in a cycle; ``vector_issue``: of those on whole
    vectors, as many where the file does not say. ``window``: how many ahead of the
    oldest that waits a vector instruction may start, 0 where all start in the program's order; that
    is what the vector schedulers hold, less than the reorder buffer. ``fmas``, ``vectors`` (other
    vector arithmetic), ``loads``, ``stores``, ``scalars``: of each a cycle, whole vectors.
    ``fma_latency`` is into an accumulator; ``forward_latency`` from a store to a load of the same
    stack slot, within a line. ``mispredict``: what a wrongly predicted branch costs;
    the end of a loop is predicted up to ``predicted_trips``. ``l2_bandwidth``: bytes a cycle into
    L1; ``memory_bandwidth``: into L2, from what lies beyond. ``weights_bandwidth``: bytes a cycle
    of weights that come from L2 beside FMAs, by which x86's schedules choose their tiles; 0 where
    the file does not say.
    """

    clock_mhz: int
    issue: int
    vector_issue: int
    window: int
    fmas: int
    fma_latency: int
    vectors: int
    vector_latency: int
    loads: int
    load_latency: int
    stores: int
    forward_latency: int
    scalars: int
    mispredict: int
    predicted_trips: int
    l1_bytes: int
    l2_bytes: int
    l2_bandwidth: int
    memory_bandwidth: int
    line_bytes: int
    weights_bandwidth: int = 0


# What the ARM schedules' model reads, so that every ARM target must say it; ``tune --measure
# model`` reads the whole table.
SCHEDULED = ("issue", "window", "fmas", "fma_latency", "loads", "l1_bytes", "l2_bytes")
