"""The parent's handle on an engine's process: start it, ask it, and survive what it does."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tvm_mobilenet.benchmark.engines.protocol import Job
from tvm_mobilenet.errors import RunFailed
from tvm_mobilenet.processes import Child, ChildDied, NoAnswer

if TYPE_CHECKING:
    from tvm_mobilenet.benchmark.engines.protocol import Array


LOG = "log.txt"  # in an engine's scratch folder: what it prints


class EngineFailed(RunFailed):
    """An engine could not load or run; the text is the reason for its row."""


@dataclass(frozen=True)
class Timeouts:
    """How long an engine may take to answer, in s, before its process is killed.

    ``first_run`` has to allow for an engine that compiles then; ``run`` comes on top of a multiple
    of the time that the runs should take.
    """

    load: float = 300.0
    first_run: float = 600.0
    run: float = 60.0
    run_factor: float = 20.0
    close: float = 10.0


class EngineProcess:
    """One engine in a spawned process of its own: own thread pool, own memory, own load time.

    Every method but ``close`` raises EngineFailed where the engine fails, dies or does not answer
    in time; after the last two the process is gone and only ``close`` may follow.
    """

    def __init__(self, engine_path: str, job: Job, scratch: Path, timeouts: Timeouts) -> None:
        """``scratch`` is an empty directory for what the engine prints and its temporary files."""
        self._timeouts = timeouts
        self.nops_per_cycle: Sequence[float] = ()
        self._child = Child(
            "tvm_mobilenet.benchmark.engines.worker",
            log=scratch / LOG,
            environment={
                "TMPDIR": str(scratch),  # so that nothing is left behind where it is killed
                # for thread pools that read the environment; engines set their own as well
                "OMP_NUM_THREADS": str(job.threads),
                "OPENBLAS_NUM_THREADS": "1",  # NumPy only moves arrays there
            },
        )
        self._child.send((engine_path, job))

    @property
    def pid(self) -> int:
        return self._child.pid

    def load(self) -> tuple[float, str]:
        """(load time in ms with the runtime's import, the runtime's version)."""
        elapsed, version = self._ask("load", (), self._timeouts.load)
        return float(elapsed), str(version)

    def first_run(self, inputs: Sequence[Array]) -> tuple[float, list[Array]]:
        """(time of the first inference in ms, its outputs)."""
        elapsed, outputs = self._ask("first_run", (inputs,), self._timeouts.first_run)
        return float(elapsed), outputs

    def run(self, unrecorded: int, runs: int, expected_ms: float) -> list[float]:
        """Times in ms of ``runs`` inferences after ``unrecorded`` ones, each about
        ``expected_ms``; ``nops_per_cycle`` then has what was probed around them."""
        expected_s = (unrecorded + runs) * expected_ms / 1e3
        timeout = self._timeouts.run + self._timeouts.run_factor * expected_s
        times: list[float]
        times, self.nops_per_cycle = self._ask("run", (unrecorded, runs), timeout)
        return times

    def outputs(self) -> list[Array]:
        """The outputs of the last inference."""
        outputs: list[Array] = self._ask("outputs", (), self._timeouts.run)
        return outputs

    def peak_rss_mb(self) -> float:
        """The process's own peak resident memory in 10^6 bytes."""
        return float(self._ask("peak_rss_mb", (), self._timeouts.run))

    def close(self) -> None:
        """End the process: asked first, killed where that does not help."""
        with contextlib.suppress(EngineFailed):  # it ends below all the same
            self._ask("close", (), self._timeouts.close)
        self._child.close_pipe()
        self._child.wait(self._timeouts.close)
        self.kill()

    def kill(self) -> None:
        """End the process at once, whatever it is doing."""
        self._child.kill()

    def __enter__(self) -> EngineProcess:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.kill()  # on Ctrl-C a run may have minutes to go

    def begin(self, request: str, *arguments: Any) -> None:
        """Send a request, and do not wait for its answer."""
        self._child.send((request, arguments))

    def _ask(self, request: str, arguments: tuple[Any, ...], timeout_s: float) -> Any:
        self.begin(request, *arguments)
        try:
            status, value = self._child.receive(timeout_s)
        except NoAnswer:
            self.kill()
            raise EngineFailed(
                f"no answer to {request!r} in {timeout_s:g} s; process killed"
            ) from None
        except ChildDied as died:
            said = self._child.last_words()
            how = f"its process {died} during {request!r}" + (f": {said}" if said else "")
            raise EngineFailed(how) from None
        if status != "ok":
            raise EngineFailed(value)
        return value


_POLL_S = 0.002
_QUIET_POLLS = 3  # in a row: a thread that spins can be caught between two looks
_STATE = re.compile(r"\) (\w)")


def wait_until_asleep(pid: int | None, limit_s: float = 0.5) -> bool:
    """Wait until no thread of a process runs; False where one still did after ``limit_s``.

    Thread pools spin for a while after a run (OpenMP, ONNX Runtime, TVM) and would take the cores
    from the engine whose turn comes next. Without ``/proc`` this waits for the whole limit.
    """
    deadline = time.monotonic() + limit_s
    quiet = 0
    while time.monotonic() < deadline:
        states = _thread_states(pid)
        quiet = quiet + 1 if states and "R" not in states else 0
        if quiet == _QUIET_POLLS:
            return True
        time.sleep(_POLL_S)
    return not Path("/proc/self/task").exists()


def _thread_states(pid: int | None) -> list[str]:
    states = []
    for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
        try:
            match = _STATE.search(stat.read_text())
        except OSError:
            continue  # the thread ended meanwhile
        if match is not None:
            states.append(match[1])
    return states
