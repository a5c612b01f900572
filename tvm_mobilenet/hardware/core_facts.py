"""What can be found out about this process's cores beyond what they are called."""

from __future__ import annotations

import os
import threading
import time
from ctypes import CFUNCTYPE, byref, c_int32, c_void_p
from dataclasses import dataclass
from pathlib import Path

from tvm_mobilenet.hardware.core_probe import CHAIN_CYCLES
from tvm_mobilenet.hardware.cores import usable_cores
from tvm_mobilenet.hardware.machine_code import (
    ANSWER,
    IMUL_R10_R10,
    RET,
    VZEROALL,
    Code,
    loop,
    widest_fma,
)
from tvm_mobilenet.strict import Amount, Count

_CPUS = Path("/sys/devices/system/cpu")
_CHAIN = 28  # multiplications that wait for each other, and two FMAs beside each
_ACCUMULATORS = range(1, 8)
_CHUNK_CYCLES, _CHUNKS = 5_000_000, 4  # 1 to 2 ms each: a frequency follows within less
_TURNS, _PARTS = 300, 5  # about half a millisecond in all


@dataclass(frozen=True)
class CoreFacts:
    """What was found out about the cores at the start; what could not be is None.

    ``threads_per_core`` and ``last_level_caches`` are of the CPUs that this process may use, as the
    system tells: a virtual machine's often tells of one thread and one cache whatever there is.
    ``handover_ns`` was measured: how long a cache line takes from the first CPU to the second and
    back, 70 to 130 ns where they share a cache and several times that where not. ``clock_mhz`` is
    of a core that does little, ``vector_clock_mhz`` of one with FMAs of its widest vectors.
    """

    threads_per_core: Count | None = None
    last_level_caches: Count | None = None
    handover_ns: Amount | None = None
    clock_mhz: Count | None = None
    vector_clock_mhz: Count | None = None


def find_core_facts() -> CoreFacts:
    """Of this process's cores, now. Takes about 30 ms."""
    cpus = usable_cores()
    lists = [_lists_of(one) for one in cpus]
    cores = {threads for threads, _ in lists}
    caches = {cache for _, cache in lists}
    try:
        clock, vector_clock = _clock_mhz(vectors=False), _clock_mhz(vectors=True)
        pinned = len(cpus) > 1 and hasattr(os, "sched_setaffinity")
        handover = handover_ns(*cpus[:2]) if pinned else None
    except OSError:
        clock = vector_clock = handover = None
    return CoreFacts(
        None if "" in cores else max(1, round(len(cpus) / len(cores))),
        None if "" in caches else len(caches),
        None if handover is None else round(handover, 1),
        clock,
        vector_clock,
    )


def _lists_of(cpu: int) -> tuple[str, str]:
    """The CPUs of its core and those of its last level cache, as the system lists them."""
    folder = _CPUS / f"cpu{cpu}"
    # index0 is L1's of data; the last one is the largest
    caches = sorted(folder.glob("cache/index*/shared_cpu_list"))
    return _text(folder / "topology/thread_siblings_list"), _text(caches[-1]) if caches else ""


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _clock_mhz(*, vectors: bool) -> int | None:
    """The core's frequency by a chain of multiplications, with FMAs beside them or without.

    Two FMAs a multiplication leave the chain its three cycles on cores that have one a cycle.
    Raises OSError where no code can be written; None where the CPU has no FMAs.
    """
    fma = widest_fma()
    if vectors and fma is None:
        return None
    body = b""
    for number in range(_CHAIN):
        body += IMUL_R10_R10
        if vectors and fma is not None:
            first, second = (_ACCUMULATORS[(2 * number + one) % 7] for one in (0, 1))
            body += fma(first) + fma(second)
    trips = _CHUNK_CYCLES // (_CHAIN * CHAIN_CYCLES)
    clear = VZEROALL if vectors else b""  # whose products are zero, and never denormal
    code = Code([clear, loop(body, trips), clear, RET])
    nanoseconds = []
    for _ in range(_CHUNKS):
        begin = time.perf_counter_ns()
        code.call()
        nanoseconds.append(time.perf_counter_ns() - begin)
    # the first warms up, and who takes the CPU away makes others longer
    return round(trips * _CHAIN * CHAIN_CYCLES * 1e3 / min(nanoseconds[1:]))


def handover_ns(first: int, second: int) -> float:
    """Nanoseconds that a cache line takes from one CPU to another and back, now.

    Two threads answer each other through one word. The calling thread, which may be pinned
    elsewhere, is back there afterwards. Raises OSError where no code can be written.
    """
    code = Code([ANSWER])
    answer = CFUNCTYPE(None, c_void_p, c_int32, c_int32)(code.address)
    word = c_int32(0)
    arguments = (byref(word), 1, _PARTS * _TURNS)
    thread = threading.Thread(target=answer, args=arguments, daemon=True)
    before, took = os.sched_getaffinity(0), []
    try:
        for one in (first, second):  # both can be had; the other thread inherits the second
            os.sched_setaffinity(0, {one})
        thread.start()
        os.sched_setaffinity(0, {first})
        for part in range(_PARTS):
            begin = time.perf_counter_ns()
            answer(byref(word), 2 * part * _TURNS, _TURNS)
            took.append(time.perf_counter_ns() - begin)
        thread.join()
    finally:
        os.sched_setaffinity(0, before)
    # the first waits for the other thread, and who takes a CPU away makes others longer
    return min(took) / _TURNS
