"""A process beside the engines that keeps another CPU busy, as other programs and guests do.

It moves memory, which leaves less of the shared caches and of the memory's bandwidth, or it
multiplies and adds, which lowers the frequency and, on a core's other hyper-thread, leaves less of
the core.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from tvm_mobilenet.errors import RunFailed
from tvm_mobilenet.processes import Child, ChildDied, connect_to_parent
from tvm_mobilenet.results.schema import Neighbour
from tvm_mobilenet.runtime.threads import siblings_of

MEMORY_FLOATS = 32 << 20  # 128 MB, of which no cache holds much
MATRIX = 128  # rows and columns: three of them lie in L2
READY = "ready"


def cpu_beside() -> int | None:
    """A hyper-thread of the first usable CPU's core, else the last usable CPU; None of one CPU."""
    first, *others = sorted(os.sched_getaffinity(0))
    beside = sorted(siblings_of(first) & set(others))
    return beside[0] if beside else others[-1] if others else None


@contextmanager
def beside(kind: Neighbour, cpu: int) -> Iterator[Child]:
    """Such a process runs on that CPU meanwhile. Raises RunFailed where it ends by itself."""
    # one thread, however many NumPy's library would start
    child = Child(__name__, (kind, str(cpu)), environment={"OPENBLAS_NUM_THREADS": "1"})
    try:
        child.receive()
        yield child
        if child.wait(0) is not None:
            raise RunFailed(f"the process that makes noise ({kind}) ended while engines were timed")
    except ChildDied as died:
        raise RunFailed(f"the process that makes noise ({kind}) {died}") from None
    finally:
        child.kill()


def main() -> None:
    pipe = connect_to_parent()
    kind, cpu, _ = sys.argv[1:]
    os.sched_setaffinity(0, {int(cpu)})
    work = WORK[kind]()
    work()
    pipe.send(READY)
    while True:
        work()


def moving_memory() -> Callable[[], object]:
    source, target = np.ones(MEMORY_FLOATS, np.float32), np.empty(MEMORY_FLOATS, np.float32)
    return lambda: np.copyto(target, source)


def multiplying() -> Callable[[], object]:
    left = np.full((MATRIX, MATRIX), 0.5, np.float32)
    product = np.empty_like(left)
    return lambda: np.matmul(left, left, out=product)


WORK = {"memory": moving_memory, "fma": multiplying}

if __name__ == "__main__":
    main()
