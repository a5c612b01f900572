"""A worker process of the tuner: ``python -m tvm_mobilenet.measure_worker builder|runner FD``.

It imports what it needs once and then serves jobs from the socket FD until that closes. A
candidate may hang or crash it: the tuner then kills it and starts another.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import os
import signal
import statistics
import subprocess
import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tvm_mobilenet.measure_messages import (
    Argument,
    Build,
    BuildTask,
    Done,
    Hello,
    Ready,
    Run,
    RunTask,
    Settings,
)

PR_SET_PDEATHSIG = 1
KEPT_TASKS = 4  # whose arguments a runner keeps in memory
L2_DEFAULT = 2 << 20  # bytes, where the system does not tell
MAX_COPIES = 2048  # of one kernel's weights
MAX_COPIES_BYTES = 128 << 20
WALK_S = 0.05
GUARD = 64  # bytes after each argument that a kernel must leave alone
GUARD_BYTE = 0xA5


def main() -> None:
    kind, descriptor = sys.argv[1], int(sys.argv[2])
    _die_with_parent()
    connection = Connection(descriptor)
    hello = connection.recv()
    assert isinstance(hello, Hello)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, hello.cores)
    workers = importlib.import_module(hello.settings.workers)
    worker = (workers.Builder if kind == "builder" else workers.Runner)(hello.settings)
    connection.send(Ready(_rss()))
    # the tuner has gone: nothing is left to do
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            answer = worker.handle(connection.recv())
            if answer is not None:
                connection.send(answer)


class Builder:
    """Compiles candidates into shared libraries."""

    def __init__(self, settings: Settings) -> None:
        from tvm_mobilenet import tvm_runtime

        tvm_runtime.ffi()  # before tvm, which would bring torch in with it
        import tvm

        import tvm_mobilenet.space

        self._replay = tvm_mobilenet.space.replay
        self._explain = tvm_mobilenet.space.last_line
        self._load_json = tvm.ir.load_json
        self._target = tvm.target.Target(settings.target)
        module, _, function = settings.build_fn.partition(":")
        self._build: Callable[..., Any] = getattr(importlib.import_module(module), function)
        self._compiler = settings.compiler
        self._workloads: dict[int, Any] = {}

    def handle(self, message: BuildTask | Build) -> Done | None:
        if isinstance(message, BuildTask):
            self._workloads[message.task] = self._load_json(message.mod_json)
            return None
        start = time.perf_counter()
        cause, detail = None, ""
        try:
            self._compile(message)
        except subprocess.CalledProcessError as error:
            cause, detail = "build error", f"linking: {error.stderr.decode()[-200:].strip()}"
        except Exception as error:  # LLVM's and TVM's errors are of many types
            cause, detail = "build error", self._explain(error)
        return Done(message.job, time.perf_counter() - start, _rss(), cause, detail)  # type: ignore[arg-type]

    def _compile(self, job: Build) -> None:
        mod = self._workloads[job.task]
        if job.trace_json is not None:
            mod = self._replay(mod, job.trace_json).mod
        self._write(self._build(mod, self._target), job.library)

    def _write(self, module: Any, library: str) -> None:
        # what export_library does, about 10 ms of its own left out
        compiled = f"{library}.o"
        module.write_to_file(compiled, "o")
        command = [self._compiler, "-shared", "-o", library, compiled]
        subprocess.run(command, check=True, capture_output=True)
        os.unlink(compiled)


class Runner:
    """Checks and times compiled candidates."""

    def __init__(self, settings: Settings) -> None:
        from tvm_mobilenet import thread_pool, tvm_runtime

        tvm_runtime.library()
        thread_pool.use(settings.threads)
        self._load: Callable[[str], Any] = tvm_runtime.ffi().load_module
        self._settings = settings
        self._descriptions: dict[int, RunTask] = {}
        self._prepared: OrderedDict[int, _Arguments] = OrderedDict()
        self._last_task: int | None = None
        gc.disable()  # it would run in the middle of a timing

    def handle(self, message: RunTask | Run) -> Done | None:
        if isinstance(message, RunTask):
            self._descriptions[message.task] = message
            return None
        start = time.perf_counter()
        done = self._run(message)
        gc.collect()
        return Done(
            done.job,
            time.perf_counter() - start,
            _rss(),
            done.cause,
            done.detail,
            done.medians,
            done.cut,
            done.error,
        )

    def _run(self, job: Run) -> Done:
        arguments = self._arguments(job.task)
        settings = self._settings
        try:
            kernel = self._load(job.library)["main"]
            arguments.poison_outputs()
            kernel(*arguments.rotation[0])
        except Exception as error:  # TVM's errors are of many types
            return Done(job.job, 0, 0, "run error", str(error).strip()[-200:])
        wrong, error_norm = arguments.check(settings.tolerance)
        if wrong:
            # it may have written over its inputs too
            del self._prepared[job.task]
            return Done(job.job, 0, 0, "wrong result", wrong)
        if job.task != self._last_task:
            # else the first candidate alone would find its weights in memory, the others in L3
            walk(kernel, arguments.rotation)
            self._last_task = job.task
        medians, cut = time_kernel(kernel, arguments.rotation, job.best_s, settings)
        return Done(job.job, 0, 0, None, "", tuple(medians), cut, error_norm)

    def _arguments(self, task: int) -> _Arguments:
        if task not in self._prepared:
            while len(self._prepared) >= KEPT_TASKS:
                self._prepared.popitem(last=False)
            description = self._descriptions[task]
            arguments = _Arguments(description.arguments, self._settings)
            arguments.expect(description, self._load)
            self._prepared[task] = arguments
        self._prepared.move_to_end(task)
        return self._prepared[task]


class _Arguments:
    """A kernel's arguments in one arena on huge pages, as in the network.

    ``rotation`` holds one tuple of tensors for each copy of the constants: going through it brings
    every weight from beyond L2, while the activations stay where the last call left them.
    """

    def __init__(self, arguments: tuple[Argument, ...], settings: Settings) -> None:
        import numpy as np

        from tvm_mobilenet import arena, tvm_runtime

        from_dlpack = tvm_runtime.ffi().from_dlpack
        sizes = [_bytes(one) for one in arguments]
        constant_bytes = sum(
            size for size, one in zip(sizes, arguments, strict=True) if one.role == "constant"
        )
        copies = _copies(constant_bytes) if settings.cold else 1
        order = [
            (place, copy)
            for copy in range(copies)
            for place, one in enumerate(arguments)
            if one.role == "constant" or copy == 0
        ]
        blocks = arena.allocate([sizes[place] + GUARD for place, _ in order])
        rng = np.random.default_rng(settings.seed)
        views: dict[tuple[int, int], Any] = {}
        self._guards = []
        for (place, copy), block in zip(order, blocks, strict=True):
            argument = arguments[place]
            view = block[: sizes[place]].view(argument.dtype).reshape(argument.shape)
            view[...] = views[place, 0] if copy else _random(rng, argument)
            views[place, copy] = view
            self._guards.append(block[sizes[place] :])
            self._guards[-1][:] = GUARD_BYTE
        self.values = [views[place, 0] for place in range(len(arguments))]
        self.outputs = [
            value for value, one in zip(self.values, arguments, strict=True) if one.role == "output"
        ]
        self._expected: list[Any] = []
        tensors = {key: from_dlpack(view) for key, view in views.items()}
        self.rotation = [
            tuple(
                tensors[place, copy if one.role == "constant" else 0]
                for place, one in enumerate(arguments)
            )
            for copy in range(copies)
        ]

    def expect(self, task: RunTask, load: Callable[[str], Any]) -> None:
        """Compute the reference's outputs, or read them where an earlier runner has."""
        import numpy as np

        path = Path(task.expected)
        if not path.exists():
            load(task.reference)["main"](*self.rotation[0])
            draft = path.with_suffix(f".{os.getpid()}.npz")
            np.savez(draft, *self.outputs)
            os.replace(draft, path)
        with np.load(path) as stored:
            self._expected = [stored[name] for name in stored.files]

    def poison_outputs(self) -> None:
        """Make an output that the kernel does not write a wrong one."""
        for output in self.outputs:
            output.fill(float("nan") if output.dtype.kind == "f" else 77)

    def check(self, tolerance: float) -> tuple[str, float]:
        """What is wrong with the outputs (empty: nothing), and their relative error."""
        import numpy as np

        if any((guard != GUARD_BYTE).any() for guard in self._guards):
            return "it wrote outside its arguments", 0.0
        worst = 0.0
        for output, expected in zip(self.outputs, self._expected, strict=True):
            if not np.isfinite(output).all():
                return "an output is left unwritten or not finite", 0.0
            scale = float(np.linalg.norm(expected.astype(np.float64))) or 1.0
            difference = np.linalg.norm(output.astype(np.float64) - expected.astype(np.float64))
            worst = max(worst, float(difference) / scale)
        wrong = worst > tolerance
        return (f"relative error {worst:.1e}, at most {tolerance:.0e}" if wrong else ""), worst


def walk(kernel: Callable[..., object], rotation: list[tuple[Any, ...]]) -> None:
    """Call the kernel once on every copy of its weights, for at most WALK_S."""
    start = time.perf_counter()
    for arguments in rotation:
        kernel(*arguments)
        if time.perf_counter() - start > WALK_S:
            return


def time_kernel(
    kernel: Callable[..., object],
    rotation: list[tuple[Any, ...]],
    best_s: float | None,
    settings: Settings,
) -> tuple[list[float], bool]:
    """Seconds per call, one median for each repeat, and whether it was cut off for being slow.

    What cannot win is not worth a long measurement: after one block that is ``cut_off`` times the
    best, that block's time is all there is.
    """
    place = 0

    def block(calls: int) -> float:
        nonlocal place
        chosen = [rotation[(place + i) % len(rotation)] for i in range(calls)]
        place += calls
        start = time.perf_counter()
        for arguments in chosen:
            kernel(*arguments)
        return (time.perf_counter() - start) / calls

    limit = float("inf") if best_s is None else settings.cut_off * best_s
    estimate = min(block(1), block(1))
    if estimate > 2 * limit:
        return [estimate], True
    calls = max(1, round(settings.sample_s / max(estimate, 1e-7)))
    first = block(calls)
    if first > limit:
        return [first], True
    medians = [
        statistics.median(block(calls) for _ in range(settings.samples))
        for _ in range(settings.repeats)
    ]
    return medians, False


def _copies(constant_bytes: int) -> int:
    """How many copies of the weights, taken in turn, never meet one still in L2."""
    if constant_bytes == 0:
        return 1
    wanted = -(-2 * _l2_bytes() // constant_bytes)
    return max(1, min(wanted + 1, MAX_COPIES, MAX_COPIES_BYTES // constant_bytes))


def _l2_bytes() -> int:
    core = min(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    try:
        text = Path(f"/sys/devices/system/cpu/cpu{core}/cache/index2/size").read_text().strip()
        return int(text.rstrip("KM")) * (1 << 20 if text.endswith("M") else 1 << 10)
    except (OSError, ValueError):
        return L2_DEFAULT


def _bytes(argument: Argument) -> int:
    import numpy as np

    return int(np.prod(argument.shape, dtype=np.int64)) * np.dtype(argument.dtype).itemsize


def _random(rng: Any, argument: Argument) -> Any:
    import numpy as np

    if np.dtype(argument.dtype).kind == "f":
        return rng.standard_normal(argument.shape, dtype=np.float32)
    return rng.integers(0, 100, argument.shape)


def _rss() -> int:
    """This process's resident memory in bytes, 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _die_with_parent() -> None:
    """Not even kill -9 of the tuner may leave a worker behind, looping in some candidate."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    main()
