"""The worker that compiles candidates into shared libraries."""

from __future__ import annotations

import importlib
import os
import subprocess
import time
from collections.abc import Callable
from typing import Any

from tvm_mobilenet.tuning.memory import resident_bytes
from tvm_mobilenet.tuning.messages import Build, BuildTask, Done, Settings


class Builder:
    """Compiles candidates into shared libraries."""

    def __init__(self, settings: Settings) -> None:
        from tvm_mobilenet import tvm_runtime

        tvm_runtime.ffi()  # before tvm, which would bring torch in with it
        import tvm

        import tvm_mobilenet.tuning.space

        self._replay = tvm_mobilenet.tuning.space.replay
        self._explain = tvm_mobilenet.tuning.space.last_line
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
        return Done(message.job, time.perf_counter() - start, resident_bytes(), cause, detail)  # type: ignore[arg-type]

    def _compile(self, job: Build) -> None:
        mod = self._workloads[job.task]
        if job.trace_json is not None:
            mod = self._replay(mod, job.trace_json).mod
        module = self._build(mod, self._target)
        # what export_library does, about 10 ms of its own left out
        compiled = f"{job.library}.o"
        module.write_to_file(compiled, "o")
        command = [self._compiler, "-shared", "-o", job.library, compiled]
        subprocess.run(command, check=True, capture_output=True)
        os.unlink(compiled)
