"""Network + GPU target + precision → code, by the pipeline of CPUs but for the legalization."""

from __future__ import annotations

from typing import TYPE_CHECKING

import tvm
import tvm_ffi
from tvm import tirx
from tvm.s_tir import dlight
from tvm.target import Target

from tvm_mobilenet.compiler.cuda.library import GpuCode, generate
from tvm_mobilenet.compiler.cuda.program import make_program
from tvm_mobilenet.compiler.graph import legalization
from tvm_mobilenet.compiler.pipeline import (
    IrDump,
    ScheduleSource,
    lower_graph,
    schedule_kernels,
)
from tvm_mobilenet.hardware.target import TargetSpec

if TYPE_CHECKING:
    from tvm_mobilenet.database.lines import RecordInfo


def compile_for_gpu(
    mod: tvm.IRModule,
    spec: TargetSpec,
    precision: str,
    records: ScheduleSource | None = None,
    dump: IrDump | None = None,
) -> tuple[GpuCode, dict[str, RecordInfo]]:
    """The importer's module → code for `spec`, and each tuned kernel's record.

    Raises BadInput where nvcc is missing or too old, or the network has what no GPU kernel is for.
    """
    dump = dump or IrDump(None)
    target = spec.tvm_target()
    legalize = legalization.for_target(spec, precision)
    lowered = lower_graph(mod, spec.vector_width, dump=dump, legalization=legalize)
    scheduled, tuned = schedule_kernels(lowered, target, records)
    scheduled = schedule_the_rest(scheduled, target)
    dump("schedule", scheduled)
    return generate(make_program(scheduled), target, spec.name), tuned


def schedule_the_rest(mod: tvm.IRModule, target: Target) -> tvm.IRModule:
    """TVM's own fallback for what has no schedule of ours: an element a thread."""
    ours = {gvar for gvar, func in mod.functions.items() if has_threads(func)}
    with target:
        fallback = dlight.ApplyDefaultSchedule(dlight.gpu.Fallback())(mod)
    return tvm.IRModule({g: mod[g] if g in ours else f for g, f in fallback.functions.items()})


def has_threads(func: object) -> bool:
    """Whether it is a kernel that is bound to threads already."""
    if not isinstance(func, tirx.PrimFunc):
        return False
    bound: list[tirx.For] = []

    def visit(loop: tirx.For) -> None:
        if loop.kind == tirx.ForKind.THREAD_BINDING:
            bound.append(loop)

    tvm_ffi.structural_walk(func.body, (tirx.For, visit))
    return bool(bound)
