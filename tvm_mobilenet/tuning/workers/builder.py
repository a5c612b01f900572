"""The worker that compiles candidates into shared libraries."""

from __future__ import annotations

import importlib
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tvm_mobilenet.errors import last_line
from tvm_mobilenet.hardware.memory import resident_bytes
from tvm_mobilenet.tuning.workers import case
from tvm_mobilenet.tuning.workers.messages import Build, BuildTask, Done, MakeCase, Settings

HOST = {"kind": "llvm"}  # what runs here whatever the target is


class Builder:
    """Compiles candidates, and says what they must compute."""

    def __init__(self, settings: Settings) -> None:
        from tvm_mobilenet import tvm_runtime

        tvm_runtime.ffi()
        with tvm_runtime.torch_left_out():  # it takes longer than TVM
            import tvm

        import tvm_mobilenet.scheduling.space

        self._replay = tvm_mobilenet.scheduling.space.replay
        self._load_json = tvm.ir.load_json
        self._tensor = tvm.runtime.tensor
        self._target = tvm.target.Target(settings.target)
        self._host = tvm.target.Target(HOST)
        module, _, function = settings.build_fn.partition(":")
        self._build: Callable[..., Any] = getattr(importlib.import_module(module), function)
        self._settings = settings
        self._workloads: dict[int, Any] = {}

    def handle(self, message: BuildTask | MakeCase | Build) -> Done | None:
        if isinstance(message, BuildTask):
            self._workloads[message.task] = self._load_json(message.mod_json)
            return None
        start = time.perf_counter()
        cause, detail = None, ""
        try:
            if isinstance(message, Build):
                self._compile(message)
            else:
                detail = self._make_case(message)
        except subprocess.CalledProcessError as error:
            cause, detail = "build error", f"linking: {error.stderr.decode()[-200:].strip()}"
        except Exception as error:  # LLVM's and TVM's errors are of many types
            cause, detail = "build error", last_line(error)
        return Done(message.job, time.perf_counter() - start, resident_bytes(), cause, detail)  # type: ignore[arg-type]

    def _compile(self, job: Build) -> None:
        mod = self._replay(self._workloads[job.task], job.trace_json, self._target).mod
        module = self._build(mod, self._target)
        # what export_library does, about 10 ms of its own left out
        compiled = f"{job.library}.o"
        module.write_to_file(compiled, "o")
        command = [*self._settings.link, "-o", job.library, compiled, *job.objects]
        subprocess.run(command, check=True, capture_output=True)
        os.unlink(compiled)

    def _make_case(self, job: MakeCase) -> str:
        mod = self._workloads[job.task]

        def run(values: list[Any]) -> None:
            self._run_unscheduled(mod, values)

        values, source = case.make(mod["main"], job.arguments, self._settings.seed, run)
        case.save(Path(job.case), values)
        return source

    def _run_unscheduled(self, mod: Any, values: list[Any]) -> None:
        """The unscheduled kernel on this host, in place."""
        tensors = [self._tensor(value) for value in values]
        self._build(mod, self._host)["main"](*tensors)
        values[:] = [tensor.numpy() for tensor in tensors]
