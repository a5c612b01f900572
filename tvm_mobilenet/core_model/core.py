"""What the model knows of a core: the ``[core]`` table of a target file."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Core:
    """Instructions a cycle, latencies in cycles, sizes in bytes, bytes a cycle.

    ``issue``: instructions of any kind that enter the core in a cycle; ``window``: how many it
    looks ahead, 0 where it starts them in the order of the program. ``fmas``, ``vectors`` (other
    vector arithmetic), ``loads``, ``stores``, ``scalars``: of each kind a cycle, as whole vectors.
    ``fma_latency`` is into an accumulator. ``mispredict``: cycles a wrongly predicted branch costs;
    a loop's end is predicted up to ``predicted_trips``. ``l2_bandwidth`` is into L1,
    ``memory_bandwidth`` into L2 from what lies beyond.
    """

    clock_mhz: int
    issue: int
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
    l1_ways: int
    l2_bytes: int
    l2_bandwidth: int
    memory_bandwidth: int
    line_bytes: int = 64

MULTIPLY_LATENCY = 3
DIVIDE_LATENCY = 12
