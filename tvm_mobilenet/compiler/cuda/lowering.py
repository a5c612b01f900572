"""Scheduled TensorIR → CUDA C++ source and the grids its kernels are launched with.

TVM's TensorIR pipeline as it concerns GPU kernels, and its CUDA code generator. Left out of it:
common subexpressions (nvcc finds them itself, and their names only hide the shape of an index), and
all of the host's side, for the launches are data to us (program.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tvm
import tvm_ffi
from tvm import s_tir, tirx
from tvm.ir import Call, Expr, TensorLoad, Var
from tvm.target import Target

from tvm_mobilenet.errors import RunFailed

LANES = 32
AXES = ("blockIdx.x", "blockIdx.y", "blockIdx.z", "threadIdx.x", "threadIdx.y", "threadIdx.z")
KERNEL_LAUNCH = 2  # TVM's calling convention of a kernel
SUFFIX = "_kernel"  # what TVM appends to a function's name for its part on the device


@dataclass(frozen=True)
class DeviceKernel:
    """One kernel of the source: its name, grid and block, and the buffer behind each parameter.

    ``parameters`` are indices of the TensorIR function's buffers, in the order the kernel takes
    them.
    """

    name: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    parameters: tuple[int, ...]


@tirx.transform.prim_func_pass(opt_level=0, name="LowerFragments")
def lower_fragments(
    func: tirx.PrimFunc, _mod: tvm.IRModule, _ctx: tvm.transform.PassContext
) -> tirx.PrimFunc:
    """Give every lane its own part of the buffers of scope "warp", which are (…, lane, held).

    TVM's LowerWarpMemory does the same later, on flat indices, where it cannot prove for a buffer
    of several tiles that no lane reads another's part. Here the lane is an index of its own.
    """
    lanes = thread_variables(func, "threadIdx.x")
    owned: dict[Var, Var] = {}  # by the buffer that it replaces

    def allocate(alloc: tirx.AllocBuffer) -> tirx.AllocBuffer:
        if alloc.buffer.scope() != "warp":
            return alloc
        *tiles, held = (int(dim) for dim in alloc.buffer.shape)
        own = tirx.decl_buffer(
            [*tiles[:-1], 1, held], alloc.buffer.dtype, alloc.buffer.name, scope="local"
        )
        owned[alloc.buffer] = own
        return tirx.AllocBuffer(own, alloc.annotations)

    def indices(buffer: tirx.Buffer, given: Any) -> list[Expr]:
        *tiles, lane, held = given
        if lane not in lanes:
            raise RunFailed(f"{buffer.name}: lane {lane} of a fragment is not the thread's own")
        return [*tiles, tirx.IntImm("int32", 0), held]

    def load(node: TensorLoad) -> TensorLoad:
        own = owned.get(node.source)
        return node if own is None else own[tuple(indices(own, node.indices))]

    def store(node: tirx.BufferStore) -> tirx.BufferStore:
        own = owned.get(node.buffer)
        if own is None:
            return node
        return tirx.BufferStore(own, node.value, indices(own, node.indices))

    def call(node: Call) -> Call:
        """An instruction takes a fragment as its pointer and, after it, the offset."""
        if not any(is_pointer(arg) and arg.args[0] in owned for arg in node.args):
            return node
        args = list(node.args)
        for place, arg in enumerate(node.args):
            own = owned.get(arg.args[0]) if is_pointer(arg) else None
            if own is not None:
                args[place] = own.data
                args[place + 1] = own_offset(args[place + 1], own, lanes)
        return Call(node.op, args, node.attrs, node.ty_args, ret_ty=node.ty)

    # allocations come before what they allocate is used: a first walk knows all of them
    body = tvm_ffi.structural_map(func.body, (tirx.AllocBuffer, allocate))
    if not owned:
        return func
    return func.with_body(
        tvm_ffi.structural_map(body, [(TensorLoad, load), (tirx.BufferStore, store), (Call, call)])
    )


def is_pointer(value: Expr) -> bool:
    """Whether it is the address of a buffer."""
    return isinstance(value, Call) and getattr(value.op, "name", "") == "tirx.buffer_data"


def own_offset(offset: Expr, own: tirx.Buffer, lanes: list[Var]) -> Expr:
    """The offset in a lane's own part for ``tile · 32 · held + lane · held + position``."""
    held = int(own.shape[-1])
    zero = tirx.IntImm("int32", 0)
    position = tvm_ffi.structural_map(offset, (Var, lambda var: zero if var in lanes else var))
    analyzer = tvm.sym.Analyzer()
    tile = tvm.tirx.floordiv(position, LANES * held)
    return analyzer.simplify(tile * held + tirx.floormod(position, LANES * held))


PASSES = [
    # blocks → loops over buffers
    s_tir.transform.CanonicalizeLoop(),
    s_tir.transform.LowerCrossThreadReduction(),
    s_tir.transform.LowerInitBlock(),
    s_tir.transform.PlanAndUpdateBufferAllocationLocation(),
    s_tir.transform.ConvertBlocksToOpaque(),
    s_tir.transform.LiftThreadBinding(),
    s_tir.transform.StmtSimplify(),  # so that a fragment's indices say what part of it is used
    s_tir.transform.CompactBufferAllocation(),
    s_tir.transform.UnifyThreadBinding(),
    s_tir.transform.LowerMatchBuffer(),
    s_tir.transform.StmtSimplify(),
    s_tir.transform.LowerOpaqueBlock(),
    lower_fragments,
    tirx.transform.FlattenBuffer(),
    tirx.transform.NarrowDataType(32),
    # loops → vectors and straight code
    s_tir.transform.LoopPartition(),
    tirx.transform.VectorizeLoop(True),
    s_tir.transform.HoistIfThenElse(),
    tirx.transform.UnrollLoop(),
    s_tir.transform.RenormalizeSplitPattern(),
    tirx.transform.StmtSimplify(),
    tirx.transform.RemoveNoOp(),
    s_tir.transform.RewriteUnsafeSelect(),
    tirx.transform.VerifyMemory(),
    tirx.transform.AnnotateEntryFunc(),
    # threads
    s_tir.transform.ThreadSync("shared"),
    s_tir.transform.InferFragment(),
    s_tir.transform.LowerThreadAllreduce(),
    s_tir.transform.MergeSharedMemoryAllocations(),
    tirx.transform.SplitHostDevice(),
]
DEVICE_PASSES = [
    tirx.transform.LowerWarpMemory(),
    tirx.transform.StmtSimplify(),
    tirx.transform.LowerIntrin(),
]


def lower(
    functions: dict[str, tirx.PrimFunc], target: Target
) -> tuple[str, dict[str, DeviceKernel]]:
    """CUDA C++ of scheduled functions, all in one source, and the kernel of each by its name.

    Raises RunFailed for a function that is not one kernel.
    """
    named = {name: func.with_attr("global_symbol", name) for name, func in functions.items()}
    bind = tirx.transform.BindTarget(target.with_host(Target("llvm")))
    split = tvm.transform.Sequential([bind, *PASSES])(tvm.IRModule(named))
    device = tirx.transform.Filter(is_on_device)(split)
    device = tvm.transform.Sequential(DEVICE_PASSES)(device)
    on_device = {str(gvar.name_hint): func for gvar, func in device.functions.items()}
    kernels = {}
    for name, func in functions.items():
        mine = [symbol for symbol in on_device if symbol.startswith(name + SUFFIX)]
        if mine != [name + SUFFIX]:
            raise RunFailed(
                f"{name}: expected one kernel, got {len(mine)}; it has no schedule of ours"
            )
        kernels[name] = describe(name + SUFFIX, on_device[name + SUFFIX], func)
    return source_of(device, target), kernels


def is_on_device(func: tirx.PrimFunc) -> bool:
    return bool(func.attrs.get("calling_conv", 0) == KERNEL_LAUNCH)


def describe(name: str, kernel: tirx.PrimFunc, original: tirx.PrimFunc) -> DeviceKernel:
    extents = dict.fromkeys(AXES, 1)

    def visit(node: tirx.AttrStmt) -> None:
        if node.attr_key == "thread_extent":
            extents[node.node.thread_tag] = int(node.value)

    tvm_ffi.structural_walk(kernel.body, (tirx.AttrStmt, visit))
    places = {f"{buffer.name}_ptr": place for place, buffer in enumerate(original.params)}
    sizes = [extents[axis] for axis in AXES]
    return DeviceKernel(
        name,
        (sizes[0], sizes[1], sizes[2]),
        (sizes[3], sizes[4], sizes[5]),
        tuple(places[param.name] for param in kernel.params),
    )


def thread_variables(func: tirx.PrimFunc, axis: str) -> list[Var]:
    """The variables that stand for one axis of a thread's index."""
    found: list[Var] = []

    def visit(node: tirx.AttrStmt) -> None:
        if node.attr_key == "thread_extent" and node.node.thread_tag == axis:
            found.append(node.node.var)

    tvm_ffi.structural_walk(func.body, (tirx.AttrStmt, visit))
    return found


def source_of(device: tvm.IRModule, target: Target) -> str:
    """What TVM's code generator hands to its compile hook; nvcc is ours to call, once a network."""
    hook = "tvm_callback_cuda_compile"
    compile_ptx = tvm.get_global_func(hook)
    tvm_ffi.register_global_func(hook, lambda code, *_: code, override=True)
    try:
        module = tvm.get_global_func("target.build.cuda")(device, target)
        return str(module.inspect_source("cuda"))
    finally:
        tvm_ffi.register_global_func(hook, compile_ptx, override=True)
