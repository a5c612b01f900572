"""The parent's handle on an engine's process: start it, ask it, and survive what it does."""

from __future__ import annotations

import multiprocessing
import re
import signal
import time
from dataclasses import dataclass
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tvm_mobilenet.benchmark.engines import worker
from tvm_mobilenet.benchmark.engines.protocol import Job
from tvm_mobilenet.errors import RunFailed

if TYPE_CHECKING:
    from tvm_mobilenet.benchmark.engines.protocol import Array


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
        self._log = scratch / worker.LOG
        context = multiprocessing.get_context("spawn")
        self._pipe, childs_end = context.Pipe()
        self._process: SpawnProcess = context.Process(
            target=worker.serve, args=(childs_end, engine_path, job, scratch)
        )
        self._process.start()
        childs_end.close()  # else the end of the child would not end the pipe

    @property
    def pid(self) -> int | None:
        return self._process.pid

    def load(self) -> tuple[float, str]:
        """(load time in ms with the runtime's import, the runtime's version)."""
        elapsed, version = self._ask("load", (), self._timeouts.load)
        return float(elapsed), str(version)

    def first_run(self, x: Array) -> tuple[float, list[Array]]:
        """(time of the first inference in ms, its outputs)."""
        elapsed, outputs = self._ask("first_run", (x,), self._timeouts.first_run)
        return float(elapsed), outputs

    def run(self, unrecorded: int, runs: int, expected_ms: float) -> list[float]:
        """Times in ms of ``runs`` inferences after ``unrecorded`` ones, each about
        ``expected_ms``."""
        expected_s = (unrecorded + runs) * expected_ms / 1e3
        timeout = self._timeouts.run + self._timeouts.run_factor * expected_s
        times: list[float] = self._ask("run", (unrecorded, runs), timeout)
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
        if self._process.is_alive():
            try:
                self._ask("close", (), self._timeouts.close)
            except EngineFailed:
                pass  # it ends below all the same
        self._pipe.close()
        self._process.join(self._timeouts.close)
        self.kill()

    def kill(self) -> None:
        """End the process at once, whatever it is doing."""
        self._process.kill()
        self._process.join()
        self._pipe.close()

    def __enter__(self) -> EngineProcess:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.kill()  # on Ctrl-C a run may have minutes to go

    def _ask(self, request: str, arguments: tuple[Any, ...], timeout_s: float) -> Any:
        try:
            self._pipe.send((request, arguments))
            if not self._pipe.poll(timeout_s):
                self.kill()
                raise EngineFailed(f"no answer to {request!r} in {timeout_s:g} s; process killed")
            status, value = self._pipe.recv()
        except (EOFError, ConnectionError):
            raise EngineFailed(self._death(request)) from None
        if status != "ok":
            raise EngineFailed(value)
        return value

    def _death(self, request: str) -> str:
        self._process.join(self._timeouts.close)
        code = self._process.exitcode
        if code is None:
            how = "closed its pipe"
        elif code < 0:
            how = f"was ended by {signal.Signals(-code).name}"
        else:
            how = f"ended with status {code}"
        said = self._last_words()
        return f"its process {how} during {request!r}" + (f": {said}" if said else "")

    def _last_words(self) -> str:
        """The last line the engine printed."""
        try:
            lines = self._log.read_text(errors="replace").split("\n")
        except OSError:
            return ""
        return next((line.strip()[:200] for line in reversed(lines) if line.strip()), "")


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
