"""The worker that measures on a device: a session with one that the tracker has, for as long as it
lasts, then another. It blocks where TVM's RPC blocks; the tuner kills it when it takes too long.
"""

from __future__ import annotations

import contextlib
import gc
import secrets
import signal
import time
from collections import OrderedDict
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tvm_mobilenet.errors import BadInput, TvmMobilenetError, last_line
from tvm_mobilenet.hardware import cpu
from tvm_mobilenet.hardware.memory import resident_bytes
from tvm_mobilenet.remote.device import (
    Device,
    DeviceLost,
    NotLoaded,
    check_features,
    check_tvm,
)
from tvm_mobilenet.tuning.workers import case
from tvm_mobilenet.tuning.workers.arguments import L2_DEFAULT, L2_OF_CORE, copies_of, parse_size
from tvm_mobilenet.tuning.workers.messages import (
    DeviceAddress,
    Done,
    Ready,
    Run,
    RunTask,
    Settings,
    Waiting,
    refuse,
)
from tvm_mobilenet.tuning.workers.timing import time_kernel

SESSION_S = 3600.0  # the server itself ends a session then
RENEW_S = 1800.0  # when the worker begins a new one, between two candidates
RENEW_RUNS = 1000  # and after how many libraries, whose memory the device's loader never gives back
RETRY_S = 1.0
KEPT_TASKS = 4  # whose arguments a device keeps in memory
KEPT_LIBRARIES = 8  # sentinels
MAX_COPIES = 128  # of one kernel's weights: each is an argument of a remote call


def serve(connection: Connection, worker: DeviceWorker) -> None:
    """Answer the tuner until it goes, or until there is a device that is no good."""
    connection.send(Waiting())
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        try:
            while True:
                connection.send(worker.connect())
                ready = True
                while ready:
                    done = worker.handle(connection.recv())
                    if done is not None:
                        connection.send(done)
                        ready = done.ready
                worker.disconnect()
        except TvmMobilenetError as error:
            connection.send(refuse(error))


@dataclass
class _Prepared:
    """A task's arguments on the device: the tensors of each copy, one list after another."""

    rotation: list[Any]
    copies: int
    outputs: list[Any]
    poison: list[Any]
    expected: list[Any]

    @property
    def parameters(self) -> int:
        return len(self.rotation) // self.copies


class DeviceWorker:
    """Checks and times compiled candidates on whichever device the tracker gives."""

    def __init__(self, settings: Settings, address: DeviceAddress) -> None:
        from tvm_mobilenet import tvm_runtime

        tvm_runtime.ffi()
        with tvm_runtime.torch_left_out():  # it takes longer than TVM
            import tvm
        from tvm import rpc

        self._tvm, self._client = tvm, rpc
        self._settings, self._address = settings, address
        self._tasks: dict[int, RunTask] = {}
        self._device: Device | None = None
        self._reset()

    def _reset(self) -> None:
        self._prepared: OrderedDict[int, Any] = OrderedDict()
        self._libraries: OrderedDict[str, Any] = OrderedDict()
        self._last_task: int | None = None
        self._cpu: Any = None
        self._l2 = L2_DEFAULT
        self._runs = 0
        self._since = time.monotonic()

    # ---- the session

    def connect(self) -> Ready:
        """Wait for a device, begin a session. Raises BadInput or RunFailed where it is no good."""
        while True:
            try:
                return self._begin()
            except (OSError, RuntimeError, DeviceLost) as error:
                if "protocol version mismatch" in str(error):
                    raise BadInput(
                        f"{self._who} speaks another RPC protocol; "
                        f"install apache-tvm {self._tvm.__version__} there"
                    ) from error
                self.disconnect()
                time.sleep(RETRY_S)
            except TvmMobilenetError:
                self.disconnect()
                raise

    def disconnect(self) -> None:
        """End the session; what refers into it goes first."""
        self._reset()
        gc.collect()
        if self._device is not None:
            self._device.close()
            self._device = None

    @property
    def _who(self) -> str:
        return f"a device of key {self._address.key!r}"

    def _begin(self) -> Ready:
        address = self._address
        tracker = self._client.connect_tracker(address.host, address.port)
        try:
            rpc = tracker.request(address.key, session_timeout=SESSION_S, max_retry=1)
        finally:
            tracker.close()
        self._reset()
        try:
            self._device = Device(rpc, Path(address.library))
        except NotLoaded as error:
            raise BadInput(
                f"{self._who} runs no code for {address.triple}: {error}; name its own --target, "
                "or another --rpc-key"
            ) from error
        about = self._device.about()
        try:
            check_features(about, address.features, "the target", "name its own --target")
            check_tvm(about, self._tvm.__version__, "candidates are")
        except BadInput as error:
            raise BadInput(f"{self._who}: {error}") from None
        if cpu.TILES in address.features:
            self._device.permit_tiles()
        with contextlib.suppress(ValueError):
            self._l2 = parse_size(self._device.read_file(L2_OF_CORE.format(0)) or "")
        self._cpu = self._device.rpc.cpu(0)
        self._device.use_threads(self._settings.threads)
        return Ready(resident_bytes(), about.cpu or "unknown")

    def _alive(self) -> bool:
        return self._device is not None and self._device.alive()

    # ---- jobs

    def handle(self, message: RunTask | Run) -> Done | None:
        """The answer to a job. Raises BadInput or RunFailed where the device is no good."""
        if isinstance(message, RunTask):
            self._tasks[message.task] = message
            return None
        start = time.perf_counter()
        try:
            done = self._run(message)
        except TvmMobilenetError:
            raise  # the device is no good
        except Exception as error:  # TVM's errors are of many types
            if self._alive():
                done = Done(message.job, cause="run error", detail=last_line(error)[-200:])
            else:
                detail = f"the device went: {last_line(error)[:160]}"
                done = Done(message.job, cause="device lost", detail=detail, lost=True, ready=False)
        self._runs += 1
        if self._runs >= RENEW_RUNS or time.monotonic() - self._since > RENEW_S:
            done = replace(done, ready=False)
        return replace(done, seconds=time.perf_counter() - start, rss=resident_bytes())

    def _run(self, job: Run) -> Done:
        prepared: _Prepared = self._arguments(job.task)
        module = self._load(job)
        deadline = time.monotonic() + job.timeout_s
        call = module["calls"]
        place = 0

        def calls(count: int) -> float:
            nonlocal place
            left = max(deadline - time.monotonic(), 1e-3)
            seconds = call(count, place, prepared.parameters, left, *prepared.rotation)
            if seconds < 0:
                raise _Caught(-int(seconds))
            place = (place + count) % prepared.copies
            return float(seconds)

        try:
            for output, poison in zip(prepared.outputs, prepared.poison, strict=True):
                poison.copyto(output)
            calls(1)
            outputs = [output.numpy() for output in prepared.outputs]
            wrong, error = case.wrong(outputs, prepared.expected, self._settings.tolerance)
            if wrong:
                del self._prepared[job.task]  # it may have written over its inputs too
                return Done(job.job, cause="wrong result", detail=wrong)
            if job.task != self._last_task:
                # else the first candidate alone would find its weights in memory
                calls(prepared.copies)
                self._last_task = job.task
            medians, cut = time_kernel(calls, job.best_s, self._settings)
        except _Caught as caught:
            # who knows what it wrote over: a new session
            return Done(job.job, cause=caught.cause, detail=caught.detail, ready=False)
        return Done(job.job, medians=tuple(medians), cut=cut, error=error)

    def _load(self, job: Run) -> Any:
        if job.library in self._libraries:
            return self._libraries[job.library]
        assert self._device is not None
        # not by Device.upload, which reads everything back: a broken library does not load
        rpc, name = self._device.rpc, f"{secrets.token_hex(4)}.so"
        rpc.upload(bytearray(Path(job.library).read_bytes()), name)
        module = rpc.load_module(name)
        rpc.remove(name)  # it is mapped
        if job.keep:
            self._libraries[job.library] = module
            while len(self._libraries) > KEPT_LIBRARIES:
                self._libraries.popitem(last=False)
        return module

    def _arguments(self, task: int) -> Any:
        """What ``_prepare`` made of a task, kept for the next candidates of it."""
        if task not in self._prepared:
            while len(self._prepared) >= KEPT_TASKS:
                self._prepared.popitem(last=False)
            self._prepared[task] = self._prepare(self._tasks[task])
        self._prepared.move_to_end(task)
        return self._prepared[task]

    def _prepare(self, task: RunTask) -> Any:
        """Send the case once; more copies of the weights are made on the device."""
        import numpy as np

        right = case.load(task.case)
        values = case.cast(right, task.arguments)
        copies = 1
        if self._settings.cold:
            copies = min(MAX_COPIES, copies_of(values, task.arguments, self._l2))
        sent = [self._tensor(value) for value in values]
        rotation = list(sent)
        for _ in range(copies - 1):
            for one, tensor in zip(task.arguments, sent, strict=True):
                rotation.append(self._copy(tensor) if one.role == "constant" else tensor)
        places = [place for place, one in enumerate(task.arguments) if one.role == "output"]
        return _Prepared(
            rotation,
            copies,
            outputs=[sent[place] for place in places],
            poison=[
                self._tensor(np.full_like(values[place], case.poison(str(values[place].dtype))))
                for place in places
            ],
            expected=[right[place] for place in places],
        )

    def _tensor(self, value: Any) -> Any:
        return self._tvm.runtime.tensor(value, self._cpu)

    def _copy(self, tensor: Any) -> Any:
        copy = self._tvm.runtime.empty(tensor.shape, tensor.dtype, self._cpu)
        tensor.copyto(copy)
        return copy


class _Caught(Exception):
    """A signal ended the candidate."""

    def __init__(self, number: int) -> None:
        timeout = number == signal.SIGALRM
        self.cause: Any = "run timeout" if timeout else "run error"
        name = signal.Signals(number).name
        self.detail = "no end in time" if timeout else f"killed by {name}"
        super().__init__(self.detail)
