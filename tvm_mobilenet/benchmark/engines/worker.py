"""The child process of one engine: requests come over a pipe, answers go back.

The first message is ``(engine_path, job)``. A request is ``(name, arguments)``; an answer is
``(status, value)`` with the status ``ok``, ``unavailable`` or ``failed``, the last two with a
reason. The end of the pipe ends the process.
"""

from __future__ import annotations

import gc
import importlib
import resource
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from tvm_mobilenet.benchmark.engines.protocol import Engine, EngineUnavailable, Job
from tvm_mobilenet.errors import TvmMobilenetError, first_line
from tvm_mobilenet.hardware.core_probe import nops_per_cycle, ticks_of_core
from tvm_mobilenet.processes import connect_to_parent

if TYPE_CHECKING:
    from tvm_mobilenet.benchmark.engines.protocol import Array

_NS_PER_MS = 1e6


def main() -> None:
    """Answer requests until the pipe ends."""
    pipe = connect_to_parent()
    engine_path, job = pipe.recv()
    server = _Server(engine_path, job)
    requests: dict[str, Callable[..., Any]] = {
        "load": server.load,
        "first_run": server.first_run,
        "run": server.run,
        "outputs": server.outputs,
        "peak_rss_mb": peak_rss_mb,
        "close": server.close,
    }
    while True:
        try:
            name, arguments = pipe.recv()
            pipe.send(_answer(requests[name], arguments))
        except (EOFError, ConnectionError):
            return


def _answer(request: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[str, Any]:
    try:
        return "ok", request(*arguments)
    except EngineUnavailable as error:
        return "unavailable", str(error)
    except TvmMobilenetError as error:
        return "failed", str(error)
    except ModuleNotFoundError as error:
        return "unavailable", f"{error.name} is not installed"
    except Exception as error:
        # Whatever a runtime raises is one row's reason, not the end of the benchmark.
        return "failed", f"{type(error).__name__}: {first_line(error)}"


def peak_rss_mb() -> float:
    """This process's peak resident memory in 10^6 bytes."""
    try:
        # Not ru_maxrss: on Linux a child begins with the peak of the parent that spawned it.
        status = Path("/proc/self/status").read_text()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # bytes on macOS
    kibibytes = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    return int(kibibytes) * 1024 / 1e6


class _Server:
    def __init__(self, engine_path: str, job: Job) -> None:
        self._engine_path = engine_path
        self._job = job
        self._engine: Engine
        self._probe = ticks_of_core()

    def load(self) -> tuple[float, str]:
        """(time in ms from importing the runtime until the network is ready, its version)."""
        start = perf_counter_ns()
        module, _, name = self._engine_path.partition(":")
        self._engine = getattr(importlib.import_module(module), name)(self._job)
        self._engine.load()
        elapsed = (perf_counter_ns() - start) / _NS_PER_MS
        return elapsed, self._engine.version()

    def first_run(self, inputs: Sequence[Array]) -> tuple[float, list[Array]]:
        """(time of the first inference in ms, its outputs)."""
        self._engine.set_inputs(inputs)
        start = perf_counter_ns()
        self._engine.infer()
        elapsed = (perf_counter_ns() - start) / _NS_PER_MS
        return elapsed, self._engine.outputs()

    def run(self, unrecorded: int, runs: int) -> tuple[list[float], list[float]]:
        """Times in ms of ``runs`` inferences that follow ``unrecorded`` ones.

        Beside them, before the first and after each, the nops a cycle that this thread's core had
        for it then; none where no probe can be made.
        """
        infer, probe = self._engine.infer, self._probe
        begins, ends, ticks = [0] * runs, [0] * runs, [0] * (runs + 1)
        gc.collect()
        gc.disable()
        try:
            for _ in range(unrecorded):
                infer()
            ticks[0] = probe()
            for i in range(runs):
                begins[i] = perf_counter_ns()
                infer()
                ends[i] = perf_counter_ns()
                ticks[i + 1] = probe()
        finally:
            gc.enable()
        times = [(end - begin) / _NS_PER_MS for begin, end in zip(begins, ends, strict=True)]
        return times, [nops_per_cycle(one) for one in ticks] if all(ticks) else []

    def outputs(self) -> list[Array]:
        """The outputs of the last inference."""
        return self._engine.outputs()

    def close(self) -> None:
        self._engine.close()


if __name__ == "__main__":
    main()
