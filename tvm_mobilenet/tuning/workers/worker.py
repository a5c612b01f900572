"""A worker process of the tuner: ``python -m tvm_mobilenet.tuning.workers.worker KIND FD``.

KIND is builder, runner or device.

It imports what it needs once and then serves jobs from the socket FD until that closes. A
candidate may hang or crash it: the tuner then kills it and starts another.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from typing import TYPE_CHECKING

from tvm_mobilenet import tvm_runtime
from tvm_mobilenet.errors import TvmMobilenetError
from tvm_mobilenet.hardware.memory import resident_bytes
from tvm_mobilenet.processes import connect_to_parent
from tvm_mobilenet.tuning.workers.builder import Builder
from tvm_mobilenet.tuning.workers.messages import Done, Hello, Ready, Refused, Settings, refuse
from tvm_mobilenet.tuning.workers.runner import Runner

if TYPE_CHECKING:
    from tvm_mobilenet.tuning.workers.device_worker import DeviceWorker


def main() -> None:
    kind, connection = sys.argv[1], connect_to_parent()
    hello = connection.recv()
    assert isinstance(hello, Hello)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, hello.cores)
    gc.disable()  # all that is imported stays, and each search for garbage goes through it
    if kind == "device":
        from tvm_mobilenet.tuning.workers import device_worker

        on_device = make_device_worker(hello)
        gc.enable()
        device_worker.serve(connection, on_device)
        return
    worker = make_worker(kind, hello.settings)
    gc.freeze()  # the runner collects after every candidate: not all that was imported, each time
    if kind == "builder":
        gc.enable()
    connection.send(Ready(resident_bytes()))
    # the tuner has gone: nothing is left to do
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        ready = True
        while ready:
            answer: Done | Refused | None
            try:
                answer = worker.handle(connection.recv())
            except TvmMobilenetError as error:
                answer = refuse(error)
            if answer is not None:
                connection.send(answer)
                ready = isinstance(answer, Done) and answer.ready  # else the tuner starts another


def make_worker(kind: str, settings: Settings) -> Builder | Runner:
    """What builds or runs candidates for this machine's CPU or GPU."""
    if settings.gpu:
        with tvm_runtime.torch_left_out():  # it takes longer than TVM
            from tvm_mobilenet.tuning.workers import gpu_kernels

        is_builder = kind == "builder"
        return gpu_kernels.GpuBuilder(settings) if is_builder else gpu_kernels.GpuRunner(settings)
    return Builder(settings) if kind == "builder" else Runner(settings)


def make_device_worker(hello: Hello) -> DeviceWorker:
    """What runs candidates on the CPU or GPU of a device over RPC."""
    assert hello.device is not None
    if hello.settings.gpu:
        with tvm_runtime.torch_left_out():
            from tvm_mobilenet.tuning.workers.gpu_worker import GpuDeviceWorker

        return GpuDeviceWorker(hello.settings, hello.device)
    from tvm_mobilenet.tuning.workers.device_worker import DeviceWorker

    return DeviceWorker(hello.settings, hello.device)


if __name__ == "__main__":
    main()
