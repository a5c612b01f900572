"""The way to compile for a GPU: CUDA C++ by nvcc, launched as one CUDA graph."""

from __future__ import annotations

from functools import partial

import tvm
import tvm_ffi
from tvm import s_tir, tirx
from tvm.s_tir import dlight
from tvm.target import Target

from schedules.cuda import fusion
from tvm_mobilenet.compiler.backend import Finished
from tvm_mobilenet.compiler.cuda.library import generate
from tvm_mobilenet.compiler.cuda.program import make_program
from tvm_mobilenet.compiler.dump import IrDump
from tvm_mobilenet.compiler.graph.legalize_gpu import Fusion, legalize_gpu
from tvm_mobilenet.compiler.graph.topk import legalize_topk
from tvm_mobilenet.compiler.options import CompileOptions
from tvm_mobilenet.kernels.gpu.topk import topk
from tvm_mobilenet.scheduling.plain import inline_all, loops_of

THREADS = 256  # a block, of a kernel without a schedule of ours


class CudaBackend:
    """For one GPU architecture.

    ``finish`` raises BadInput where nvcc is missing or too old, or the network has an operator that
    no GPU kernel supports.
    """

    def __init__(self, options: CompileOptions) -> None:
        self.target = options.spec.tvm_target()
        self.name = options.spec.name
        self.precision = options.precision

    def legalize(self) -> tvm.transform.Pass:
        asked = self.target, self.precision
        pays = Fusion(partial(fusion.cheapest_pairs, *asked), partial(fusion.pooling_pays, *asked))
        return tvm.transform.Sequential([legalize_gpu(self.precision, pays), legalize_topk(topk)])

    def finish(self, mod: tvm.IRModule, dump: IrDump) -> Finished:
        scheduled = schedule_the_rest(mod, self.target)
        dump("schedule-rest", scheduled)
        code = generate(make_program(scheduled), self.target, self.name)
        dump.text("kernels.cu", code.source)
        dump.text("kernels.ptx", code.compiled.ptx)
        return Finished(code, code.program)


def schedule_the_rest(mod: tvm.IRModule, target: Target) -> tvm.IRModule:
    """For what has no schedule of ours: an element a thread, by TVM's own fallback.

    That makes a kernel of each block; where there are several, they become one first.
    """
    mod = tvm.IRModule({gvar: one_kernel(func) for gvar, func in mod.functions.items()})
    ours = {gvar for gvar, func in mod.functions.items() if has_threads(func)}
    with target:
        fallback = dlight.ApplyDefaultSchedule(dlight.gpu.Fallback())(mod)
    return tvm.IRModule({g: mod[g] if g in ours else f for g, f in fallback.functions.items()})


def one_kernel(func: object) -> object:
    """``func``, each thread of which computes all that its element needs, where it is not bound
    to threads and has more than one block that cannot be inlined."""
    if not isinstance(func, tirx.PrimFunc) or has_threads(func):
        return func
    sch = s_tir.Schedule(tvm.IRModule({"main": func}))
    inline_all(sch)
    *before, last = sch.get_child_blocks(sch.get_sblock("root"))
    spatial, _ = loops_of(sch, last)
    if not before or not spatial:
        return func
    blocks, threads = sch.split(sch.fuse(*spatial), [None, THREADS])
    sch.bind(blocks, "blockIdx.x")
    sch.bind(threads, "threadIdx.x")
    for block in reversed(before):
        sch.compute_at(block, threads)
        sch.set_scope(block, 0, "local")
    return sch.mod["main"]


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
