"""How a parallel loop's iterations, the shares of a kernel, go to the target's cores."""

from __future__ import annotations

from collections.abc import Sequence

from tvm.target import Target

from schedules.primitives import divisors

EVEN = 1.1  # a stretch that nobody minds: a core idles for a tenth of the time


def num_cores(target: Target | None = None) -> int:
    """The cores of ``target``, or of the one in whose scope a rule runs; 1 by default."""
    target = target or Target.current(allow_none=True)
    return 1 if target is None else int(target.attrs.get("num-cores", 1))


def stretch(shares: int, cores: int) -> float:
    """How many times longer the busiest core works than if it had just its part of ``shares``.

    TVM gives each core a run of iterations, of lengths that differ by one at most.
    """
    return -(-shares // cores) * cores / shares


def most_even(counts: Sequence[int]) -> int:
    """The first of ``counts`` of shares that keeps all cores busy; else the most even."""
    cores = num_cores()

    def badness(count: int) -> float:
        return max(EVEN, stretch(count, cores))

    return min(counts, key=badness)


def even_bands(rows: int, row_bytes: int, most_bytes: int) -> int:
    """In how many bands ``rows`` of tiles go: the most even of those with at most ``most_bytes``.

    One row, if it has more.
    """
    fitting = [d for d in divisors(rows) if d == rows or rows // d * row_bytes <= most_bytes]
    return most_even(fitting)
