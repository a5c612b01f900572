"""How many threads TVM's parallel loops run on, where its virtual machine runs a network.

What TVM 0.27 does (src/runtime/thread_pool.cc, threading_backend.cc):

- Every thread that calls compiled code has a pool of its own, made by its first parallel loop
  with as many workers as ``TVM_NUM_THREADS`` says (unset: half the logical CPUs on x86). That
  number is the pool's size for good: ``runtime.config_threadpool`` can use fewer, never more.
- The calling thread does the first share of the work, the other workers the rest. A worker that
  finds no work spins for ``TVM_THREAD_POOL_SPIN_COUNT`` yields (300000: about 0.1 s) and then
  sleeps until the next loop.
- With a maximum of one thread a parallel loop runs inline and touches no pool.

So the count is set for each calling thread, without environment variables. A process may load
bundles with different counts; only going beyond the size of a pool already made is refused.

With more than one thread the caller is pinned to the first CPU of the list and worker i to the
i-th. Left free, the caller often shares a worker's CPU, and two threads are no faster than one.
``use(1)`` gives the caller its own CPUs back.
"""

from __future__ import annotations

import ctypes
import os
import threading
from pathlib import Path

from tvm_mobilenet import tvm_runtime
from tvm_mobilenet.errors import BadInput, RunFailed
from tvm_mobilenet.hardware.cores import usable_cores

# AffinityMode in src/runtime/threading_backend.h: worker i of the pool is pinned to the CPU i
# of the list that comes with it
ONE_CORE_PER_THREAD = -2

# tvm::runtime::threading::SetMaxConcurrency(int): the calling thread's maximum. No registered
# function sets it without also making a pool, whose size could then not grow.
SET_MAX_CONCURRENCY = "_ZN3tvm7runtime9threading17SetMaxConcurrencyEi"

CPUS = Path("/sys/devices/system/cpu")


class _CallingThread(threading.local):
    threads = 0  # what the calling thread is set to; 0: never set
    pinned = False


class Process:
    cpus: frozenset[int] = frozenset()  # its affinity before a thread of it was first pinned


_calling_thread = _CallingThread()
PROCESS = Process()


def use(threads: int) -> None:
    """Run the parallel loops that this thread calls on ``threads`` threads from now on.

    Costs nothing to speak of when that is already so. Raises BadInput for more threads than this
    process may use CPUs, or than the pool that this thread already has.
    """
    if _calling_thread.threads == threads:
        return
    release()
    check(threads)
    cpus = available_cpus()
    threads = threads or len(cpus)
    if threads == 1:
        _set_max_concurrency(1)
    else:
        _configure_pool(cpus[:threads])
    _calling_thread.threads = threads


def check(threads: int) -> None:
    """Raise BadInput for more threads than this process may use CPUs; 0 is for all of them."""
    cpus = available_cpus()
    if not 0 <= threads <= len(cpus):
        raise BadInput(
            f"{threads} threads asked, CPUs that this process may use: {len(cpus)}; "
            "ask for at least 1 and at most that"
        )


def release() -> None:
    """Let the calling thread run on all the process's CPUs again, until ``use`` is next called."""
    _calling_thread.threads = 0
    if _calling_thread.pinned:
        os.sched_setaffinity(0, PROCESS.cpus)
        _calling_thread.pinned = False


def available_cpus() -> list[int]:
    """The CPUs this process may use, best first.

    One CPU of every physical core comes before the second ones (hyper-threads share the vector
    units), fast cores before slow ones.
    """
    allowed = set(usable_cores())
    if len(allowed) == 1:  # perhaps inherited from a pinned thread
        allowed |= PROCESS.cpus
    return sorted(allowed, key=lambda cpu: (_rank_in_core(cpu, allowed), -_max_khz(cpu), cpu))


def _set_max_concurrency(threads: int) -> None:
    try:
        function = tvm_runtime.library()[SET_MAX_CONCURRENCY]
    except AttributeError as error:
        raise RunFailed(
            f"{tvm_runtime.find_library()} has no SetMaxConcurrency: it is not TVM 0.27's runtime; "
            "pip install apache-tvm==0.27.0.post1"
        ) from error
    function.argtypes = [ctypes.c_int]
    function.restype = None
    function(threads)


def _configure_pool(cpus: list[int]) -> None:
    tvm_runtime.library()
    get_global_func = tvm_runtime.ffi().get_global_func
    if not PROCESS.cpus:
        PROCESS.cpus = frozenset(usable_cores())
    get_global_func("runtime.config_threadpool")(
        ONE_CORE_PER_THREAD, len(cpus), [str(cpu) for cpu in cpus]
    )
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {cpus[0]})  # TVM allows the caller all of these CPUs
        _calling_thread.pinned = True
    granted = get_global_func("runtime.NumThreads")()
    if granted != len(cpus):
        release()
        raise BadInput(
            f"{len(cpus)} threads asked, but TVM's thread pool in this process was made with "
            f"{granted} and cannot grow; load with {len(cpus)} first, or in a process of its own"
        )


def _rank_in_core(cpu: int, allowed: set[int]) -> int:
    """0 for the first allowed hyper-thread of a core, 1 for its second, …"""
    return sum(other < cpu for other in siblings_of(cpu) if other in allowed)


def siblings_of(cpu: int) -> set[int]:
    """The CPUs that are hyper-threads of its core, itself among them; none where nothing tells."""
    return set(_cpu_list(_read(cpu, "topology/thread_siblings_list")))


def _max_khz(cpu: int) -> int:
    text = _read(cpu, "cpufreq/cpuinfo_max_freq")
    return int(text) if text.isdecimal() else 0


def _cpu_list(text: str) -> list[int]:
    """The CPUs in the kernel's list format, such as ``0,8`` or ``0-3``."""
    cpus: list[int] = []
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        cpus += range(int(first), int(last or first) + 1)
    return cpus


def _read(cpu: int, name: str) -> str:
    """A file of /sys about one CPU; empty where the kernel has none."""
    try:
        return (CPUS / f"cpu{cpu}" / name).read_text().strip()
    except OSError:
        return ""
