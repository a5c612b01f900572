"""A small convolution for the benchmarks of the tuner, and builds of it that fail or take long.

What is to go wrong with a candidate stands in its trace, as an annotation. The tuner's workers
import this module to build candidates by ``build`` or ``build_slowly``.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from typing import Any

import tvm
import tvm_ffi
from tvm import s_tir, tirx

from schedules.filter_window import Window
from tvm_mobilenet.compiler.cpu import lowering
from tvm_mobilenet.hardware.target import TargetSpec
from tvm_mobilenet.kernels.cpu.conv2d import Activation, conv2d
from tvm_mobilenet.kernels.cpu.layout import Blocked
from tvm_mobilenet.scheduling.space import KernelSpace, Rejected
from tvm_mobilenet.scheduling.traces import canonical_json
from tvm_mobilenet.tuning.measuring.measurer import Job

BUILD, BUILD_SLOWLY = "small_kernel:build", "small_kernel:build_slowly"
PAUSE_S = 0.01  # of every call of a slow one
SIZE, CHANNELS = 14, (64, 128)
FAULT = "fault"  # the annotation
# a library whose kernel is this C
IN_C = {
    "segfault": "*(volatile int *)0 = 1;",
    "hang": "for (volatile int i = 0;;) i++;",
    "exit": "extern void _exit(int); _exit(0);",
    "nothing": "",
}
FAULTS = ("build error", "build crash", "build hang", *IN_C, "wrong")


def make_space(spec: TargetSpec) -> KernelSpace:
    """The schedules of the convolution on a CPU target."""
    shape = (SIZE, SIZE, spec.vector_width)
    x, out = (Blocked(1, count, *shape) for count in CHANNELS)
    return KernelSpace(conv2d(x, out, Window(), Activation(0.0)), spec.tvm_target())


def make_jobs(space: KernelSpace, *faults: str | None) -> list[Job]:
    """Different schedules, each with a fault or with none."""
    found: list[Job] = []
    points = space.points()
    while len(found) < len(faults):
        try:
            schedule = space.at(next(points)).schedule
        except Rejected:
            continue
        fault = faults[len(found)]
        if fault is not None:
            schedule.annotate(schedule.get_sblock("root"), FAULT, fault)
        found.append(Job(canonical_json(schedule.trace.as_json()), fault))
    return found


def build(mod: tvm.IRModule, target: tvm.target.Target) -> Any:
    """Compile a candidate, or play its fault."""
    fault = annotated(mod)
    if fault == "build error":
        raise ValueError("this candidate does not build")
    if fault == "build crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if fault == "build hang":
        time.sleep(3600)
    if fault in IN_C:
        return CSource(IN_C[fault])
    return lowering.lower(with_wrong_zero(mod) if fault == "wrong" else mod, target)


def build_slowly(mod: tvm.IRModule, target: tvm.target.Target) -> Any:
    """A kernel that pauses before it computes, and takes no time of a CPU meanwhile."""
    main = mod["main"]
    pause = tirx.call_extern("int32", "usleep", int(PAUSE_S * 1e6))
    body = tirx.SeqStmt([tirx.Evaluate(pause), main.body])
    return lowering.lower(tvm.IRModule({"main": main.with_body(body)}), target)


class CSource:
    """A library whose ``main`` is this C, in the place of what the compiler makes."""

    def __init__(self, body: str) -> None:
        self.body = body

    def write_to_file(self, path: str, _format: str) -> None:
        code = f"int __tvm_ffi_main(void *s, void *a, int n, void *r) {{ {self.body} return 0; }}"
        command = ["cc", "-x", "c", "-c", "-fPIC", "-o", path, "-"]
        subprocess.run(command, input=code.encode(), check=True)


def annotated(mod: tvm.IRModule) -> str:
    """The fault that a scheduled module is annotated with."""
    found = [""]

    def visit(block: s_tir.SBlock) -> None:
        if FAULT in block.annotations:
            found.append(str(block.annotations[FAULT]))

    tvm_ffi.structural_walk(mod["main"].body, (s_tir.SBlock, visit))
    return found[-1]


def with_wrong_zero(mod: tvm.IRModule) -> tvm.IRModule:
    """Start the sums at 1."""
    body = tvm_ffi.structural_map(
        mod["main"].body, (tirx.FloatImm, lambda value: tirx.FloatImm("float32", 1.0))
    )
    return tvm.IRModule({"main": mod["main"].with_body(body)})
