"""Small kernels, their schedule rule, and candidates that go wrong, for the tuner's tests.

The rule's last knob picks a fault; ``build`` plays it. Worker processes import this module.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import tvm
import tvm_ffi
from tvm import s_tir, te, tirx
from tvm.s_tir.schedule import SBlockRV

from schedules import RULES
from tvm_mobilenet.compiler.cpu import lowering
from tvm_mobilenet.hardware.target import TargetSpec
from tvm_mobilenet.tuning.workers.messages import Settings

if TYPE_CHECKING:
    from tvm_mobilenet.scheduling.space import KernelSpace
    from tvm_mobilenet.tuning.measuring.measurer import Job

FAULTS = (
    "none",
    "build error",
    "build crash",
    "build hang",
    "segfault",
    "hang",
    "exit",
    "nothing",
    "wrong",
)

FIXED_COST_S = 0.01

SPEC = TargetSpec(
    name="tuning-test",
    family="x86",
    target={
        "kind": "llvm",
        "mcpu": "x86-64",
        "keys": ["tuning_test", "cpu"],
        "mtriple": "x86_64-linux-gnu",
    },
    device="any",
    num_cores=1,
    vector_width=4,
)

# as a worker imports them
BUILD, BUILD_SLOW = f"{__name__}:build", f"{__name__}:build_slow"

SETTINGS = Settings(target=SPEC.target, build_fn=BUILD, repeats=2, samples=2, sample_s=2e-4)


@dataclass(frozen=True)
class Kernel:
    name: str
    func: tirx.PrimFunc
    count: int
    flops: int


def matmul(m: int, n: int, k: int, rule: str = "matmul", count: int = 1) -> Kernel:
    a = te.placeholder((m, k), "float32", "a")
    b = te.placeholder((k, n), "float32", "b")
    r = te.reduce_axis((0, k), "r")
    c = te.compute(
        (m, n),
        lambda i, j: te.sum(a[i, r] * b[r, j], r),
        "c",
        attrs={"schedule_rule": rule},
    )
    return Kernel(f"matmul_{m}x{n}x{k}", te.create_prim_func([a, b, c]), count, 2 * m * n * k)


def _schedule(sch: s_tir.Schedule, block: SBlockRV, faults: tuple[str, ...]) -> list[Any]:
    i, j, k = sch.get_loops(block)
    width = int(sch.get(j).extent)
    jo, ji = sch.split(j, sch.sample_perfect_tile(j, 2, 16, [width // 4, 4]))
    io, ii = sch.split(i, sch.sample_perfect_tile(i, 2, 4, [int(sch.get(i).extent), 1]))
    order = sch.sample_categorical([0, 1], [0.5, 0.5], 0)
    # a branch on a decision: replaying a trace with another decision would not take it
    if int(sch.get(order)) == 0:
        sch.reorder(io, jo, k, ii, ji)
    else:
        sch.reorder(jo, io, k, ii, ji)
    sch.vectorize(ji)
    sch.decompose_reduction(block, k)
    if faults:
        fault = sch.sample_categorical(list(range(len(faults))), [1 / len(faults)] * len(faults), 0)
        sch.annotate(block, "fault", faults[int(sch.get(fault))])
    return [sch]


def register() -> None:
    """Make the rules known in this process."""
    rules = {"matmul": (), "faulty_matmul": FAULTS, "wrong_matmul": ("none", "wrong")}
    for name, faults in rules.items():

        def rule(sch: s_tir.Schedule, block: SBlockRV, faults: tuple[str, ...] = faults) -> Any:
            return _schedule(sch, block, faults)

        full = f"s_tir.meta_schedule.tuning_test.{name}"
        tvm_ffi.register_global_func(full, rule, override=True)
        RULES.setdefault("tuning_test", {})[name] = rule


class CSource:
    """A library whose ``main`` is this C, in the place of what the compiler makes."""

    def __init__(self, body: str) -> None:
        self.body = body

    def write_to_file(self, path: str, _format: str) -> None:
        code = f"int __tvm_ffi_main(void *s, void *a, int n, void *r) {{ {self.body} return 0; }}"
        command = ["cc", "-x", "c", "-c", "-fPIC", "-o", path, "-"]
        subprocess.run(command, input=code.encode(), check=True)


def build(mod: tvm.IRModule, target: tvm.target.Target) -> Any:
    """Compile, or play the fault that the module is annotated with."""
    if "unbuildable" in mod["main"].attrs:
        raise ValueError("nothing of this kernel builds")
    match fault_of(mod):
        case "build error":
            raise ValueError("this candidate does not build")
        case "build crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "build hang":
            time.sleep(3600)
        case "segfault":
            return CSource("*(volatile int *)0 = 1;")
        case "hang":
            return CSource("extern int pause(void); for (;;) pause();")
        case "exit":
            return CSource("extern void _exit(int); _exit(0);")
        case "nothing":
            return CSource("")
        case "wrong":
            return lowering.lower(off_by_one(mod), target)
    return lowering.lower(mod, target)


def build_slow(mod: tvm.IRModule, target: tvm.target.Target) -> Any:
    """A kernel that takes FIXED_COST_S, whatever its schedule, and no time of a CPU."""
    main = mod["main"]
    pause = tirx.call_extern("int32", "usleep", int(FIXED_COST_S * 1e6))
    body = tirx.SeqStmt([tirx.Evaluate(pause), main.body])
    return lowering.lower(tvm.IRModule({"main": main.with_body(body)}), target)


def jobs(space: KernelSpace, *faults: str) -> list[Job]:
    """Different schedules of a ``faulty_matmul``, with a fault each."""
    from tvm_mobilenet.tuning.measuring.measurer import Job

    points = list(space.points())[:: len(FAULTS)]
    return [
        Job(space.at((*point[:-1], FAULTS.index(fault))).trace_json, fault)
        for point, fault in zip(points[: len(faults)], faults, strict=True)
    ]


def fault_of(mod: tvm.IRModule) -> str:
    found = ["none"]

    def visit(block: s_tir.SBlock) -> None:
        if "fault" in block.annotations:
            found.append(str(block.annotations["fault"]))

    tvm_ffi.structural_walk(mod["main"].body, (s_tir.SBlock, visit))
    return found[-1]


def off_by_one(mod: tvm.IRModule) -> tvm.IRModule:
    """Start the sums at 1."""
    body = tvm_ffi.structural_map(
        mod["main"].body, (tirx.FloatImm, lambda value: tirx.FloatImm("float32", 1.0))
    )
    return tvm.IRModule({"main": mod["main"].with_body(body)})
