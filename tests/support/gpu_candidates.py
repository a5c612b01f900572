"""Candidates for a GPU that go wrong, each in its own way, of a kernel that is soon run."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import tvm
from support import cuda_emulator, gpu_networks

from tvm_mobilenet.compiler.cuda import library
from tvm_mobilenet.compiler.cuda.lowering import lower
from tvm_mobilenet.compiler.precision import TOLERANCES
from tvm_mobilenet.hardware import target
from tvm_mobilenet.scheduling.space import Candidate, KernelSpace
from tvm_mobilenet.tuning.workers import gpu_kernels
from tvm_mobilenet.tuning.workers.arguments import arguments_of
from tvm_mobilenet.tuning.workers.messages import (
    Build,
    BuildTask,
    Done,
    MakeCase,
    RunTask,
    Settings,
)

SPEC = target.resolve(gpu_networks.KERNEL_TARGET)
ARCH = str(SPEC.target["arch"])
SETTINGS = Settings(
    target=SPEC.tvm_config(),
    gpu=True,
    cold=False,
    repeats=2,
    launches=3,  # an emulated one takes long
    tolerance=TOLERANCES["fp16"],
)
FAULTS: dict[str, Callable[[str], str]] = {
    "none": lambda source: source,
    "nothing": lambda source: in_kernel(source, "return;"),
    "crash": lambda source: in_kernel(source, "*(volatile int *)0 = 1;"),
    "hang": lambda source: in_kernel(source, "for (volatile int i = 0;;) i = 1;"),
    "wrong": lambda source: source.replace("= 0x0p+0f", "= 0x1p+10f"),  # where a sum starts
    "lost kernel": lambda source: source.replace("main_kernel", "other_kernel"),
}


def in_kernel(source: str, statement: str) -> str:
    """The kernel with a statement before all others."""
    return re.sub(r"(main_kernel\([^;{]*\) \{)", rf"\1 {statement}", source)


def faulty(source: str, fault: str) -> str:
    changed = FAULTS[fault](source)
    assert (changed != source) is (fault != "none")
    return changed


@cache
def space() -> KernelSpace:
    return KernelSpace(gpu_networks.kernel("fp16", "pooled_dense").func, SPEC.tvm_target())


def replace_code(machine: cuda_emulator.Machine, candidate: Candidate, fault: str) -> None:
    """Let the machine's nvcc make the fault of this candidate, whoever calls it."""
    source, _ = lower({"main": candidate.schedule.mod["main"]}, SPEC.tvm_target())
    cuda_emulator.module_image(faulty(source, fault), machine.nvcc)
    made = cuda_emulator.kept_library(faulty(source, fault), machine.nvcc)
    made.replace(cuda_emulator.kept_library(source, machine.nvcc))


class Candidates:
    """Libraries of a kernel's default schedule, built in this process, and what checks them."""

    def __init__(
        self,
        folder: Path,
        settings: Settings = SETTINGS,
        objects: tuple[str, ...] = (),
        of: KernelSpace | None = None,
    ) -> None:
        self._folder, self._objects, self._space = folder, objects, of or space()
        self._builder = gpu_kernels.GpuBuilder(settings)
        mod = self._space.mod
        self._builder.handle(BuildTask(0, tvm.ir.save_json(mod)))
        self.task = RunTask(0, arguments_of(mod), str(folder / "case.npz"))
        self._ask(MakeCase(0, 0, self.task.arguments, self.task.case))

    def build(self, fault: str) -> str:
        """The library with this fault."""

        def lower_faulty(*given: Any) -> Any:
            source, kernels = lower(*given)
            return faulty(source, fault), kernels

        path = str(self._folder / f"{fault}.so")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(library, "lower", lower_faulty)
            self._ask(Build(1, 0, self._space.default.trace_json, path, self._objects))
        return path

    def _ask(self, message: Build | MakeCase) -> None:
        done = self._builder.handle(message)
        assert done is not None and done.cause is None, done


def check(done: Done | None, cause: str | None) -> None:
    """Whether a candidate was answered with this cause, and otherwise timed."""
    assert done is not None and done.cause == cause, done
    assert bool(done.medians) is (cause is None) and all(one > 0 for one in done.medians)
