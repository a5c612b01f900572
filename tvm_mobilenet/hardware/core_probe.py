"""Whether something else runs on a core's other hardware thread, as far as its front end tells.

A core hands the places for instructions of every cycle to its two threads in turns while both run,
and to one alone otherwise. So a loop of ``nop``, which nothing but those places bounds, goes about
half as fast while the other thread is busy; that thread may be another guest's, of which nothing
else in a virtual machine tells. Seen, nops a cycle: 5.3 and 2.6 on Emerald Rapids, 11 and 6 on
Zen 4. A loop of register-only FMAs, which bounds itself, goes as fast in both.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from tvm_mobilenet.hardware.machine_code import (
    COUNTER,
    IMUL_R10_R10,
    MOV_R8D_EAX,
    MOV_R9D_EAX,
    NOP,
    OR_RAX_R9,
    RET,
    SHL_R9_32,
    SUB_EAX_R9D,
    SUB_R9D_R8D,
    VZEROALL,
    Code,
    loop,
    outer_loop,
    widest_fma,
)

# Long enough for a counter of 10 ns steps, as AMD's is; 0.2 to 0.6 µs where the core is our own.
NOPS, NOP_TRIPS = 254, 32
# A chain of which each waits for the one before, so that it tells cycles, whatever the frequency
# and whoever shares the core. (Chains of additions are collapsed by some cores.)
CHAIN, CHAIN_TRIPS = 32, 8
CHAIN_CYCLES = 3  # of each 64-bit multiplication, on all of Intel's and AMD's of the last ten years
_LOW = 0xFFFFFFFF


# Enough FMAs under way for a latency of four cycles; 20 to 40 µs of them.
_ACCUMULATORS, _FMA_TRIPS = range(1, 13), 5000


class CoreProbe:
    """Raises OSError where no such probe can be made."""

    def __init__(self) -> None:
        timed = [
            *(COUNTER, MOV_R8D_EAX, loop(NOP * NOPS, NOP_TRIPS)),
            *(COUNTER, MOV_R9D_EAX, loop(IMUL_R10_R10 * CHAIN, CHAIN_TRIPS)),
            COUNTER,
        ]
        # what comes after an inference first has to be fetched
        twice = outer_loop(b"".join(timed), 2)
        self._code = Code([twice, SUB_EAX_R9D, SUB_R9D_R8D, SHL_R9_32, OR_RAX_R9, RET])

    def ticks(self) -> int:
        """Ticks of the nops times 2^32, and of the chain: for ``nops_per_cycle``. Takes 1 µs."""
        return int(self._code.call())

    def nops_per_cycle(self) -> float:
        """How many the calling thread got of its core's places for instructions, now."""
        return nops_per_cycle(self.ticks())


class CompanyProbe:
    """How many FMAs the core still does where each has one other instruction for company.

    So it is in kernels: weights and inputs have to be loaded. Alone, cores have places for both;
    where the core is shared, not all of them. Raises OSError where no such probe can be made.
    """

    def __init__(self) -> None:
        fma = widest_fma()
        if fma is None:
            raise OSError("this CPU has no FMAs")
        fmas = [fma(one) for one in _ACCUMULATORS]
        alone, company = b"".join(fmas), b"".join(one + NOP for one in fmas)
        self._alone, self._company = (
            Code([VZEROALL, loop(body, _FMA_TRIPS), VZEROALL, RET]) for body in (alone, company)
        )

    def share(self) -> float:
        """Of FMAs in company, of as many as there are without, now: 1 where they lose nothing."""
        times = []
        for code in (self._alone, self._company):
            begin = time.perf_counter_ns()
            code.call()
            times.append(time.perf_counter_ns() - begin)
        return min(1.0, times[0] / times[1])


def ticks_of_core() -> Callable[[], int]:
    """``CoreProbe.ticks``, or where there can be no such probe what always gives 0."""
    try:
        return CoreProbe().ticks
    except OSError:
        return lambda: 0


def nops_per_cycle(ticks: int) -> float:
    """Of what ``ticks`` gave; both loops' overhead is in it, so that it is a little low."""
    nops, chain = ticks >> 32, ticks & _LOW
    cycles = CHAIN * CHAIN_TRIPS * CHAIN_CYCLES
    return NOPS * NOP_TRIPS / cycles * chain / max(nops, 1)
