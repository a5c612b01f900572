"""Lowered TensorIR → native code: a large network's in parts, which compile at the same time.

LLVM compiles a module on one core. It also puts every kernel that is called once into the function
that calls it, whose size it then pays for again, and how threads claim their work into every
kernel. So a network of many kernels becomes several modules: one has the exported functions and the
region that calls the kernels, the others have kernels. They are linked together in a fixed order.
The parts follow from the network alone: the same library comes out on any number of cores, and a
network that fits into one part is one module.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir import Call, GlobalVar
from tvm.target import Target

from tvm_mobilenet.compiler.cpu.instruction_order import order_of
from tvm_mobilenet.hardware.cores import usable_cores
from tvm_mobilenet.kernels.arithmetic import Arithmetic, probe_of

PART_KERNELS = 32  # MobileNetV1 has at most 29
# what a library's own C calls
ENTRIES = ("network", *map(probe_of, get_args(Arithmetic)), "stream_read")
ENTRY = "tmn_kernel_"  # what their symbols begin with
ALLOCATE = "TVMBackendAllocWorkspace"  # (device, its number, bytes, …)
ALIGNMENT = 64  # bytes, to which a library rounds what a kernel allocates
EXTERNAL = "tvm_mobilenet_part_"  # what a symbol that another part calls begins with


@dataclass(frozen=True)
class NativeCode:
    """The LLVM modules that one library is linked from, in this order.

    ``scratch_bytes`` is what a thread allocates at most while it is in one of its kernels.
    """

    parts: tuple[tvm.runtime.Module, ...]
    scratch_bytes: int = 0

    def write_objects(self, folder: Path) -> list[Path]:
        """Write each part's object file into ``folder``."""
        paths = [folder / f"lib{index}.o" for index in range(len(self.parts))]
        with ThreadPoolExecutor(len(usable_cores())) as pool:
            list(pool.map(lambda part, path: part.write_to_file(str(path), "o"), self.parts, paths))
        return paths


def generate(lowered: tvm.IRModule, target: Target) -> NativeCode:
    """Optimized native code for every function of a lowered module, as a C library calls it."""
    build = tvm.get_global_func("target.build.llvm")
    first, *others = split(lowered)
    parts = [for_library(first), *others]
    # LLVM runs without Python's lock, each module in a context of its own
    with ThreadPoolExecutor(len(usable_cores())) as pool:
        modules = tuple(pool.map(lambda part: build(part, order_of(part, target)), parts))
    return NativeCode(modules, max(map(scratch_bytes, lowered.functions.values()), default=0))


def for_library(lowered: tvm.IRModule) -> tvm.IRModule:
    """The module without the functions that TVM's runtime calls, and with symbols for C's."""
    functions = {
        gvar: func
        for gvar, func in lowered.functions.items()
        if "global_symbol" not in func.attrs or gvar.name_hint not in ("infer", "profile")
    }
    for gvar, func in functions.items():
        if gvar.name_hint in ENTRIES:
            functions[gvar] = func.with_attr("global_symbol", ENTRY + gvar.name_hint)
    return tvm.IRModule(functions)


def scratch_bytes(func: tirx.PrimFunc) -> int:
    """What all allocations of a lowered function take together."""
    found: list[int] = []

    def visit(call: Call) -> None:
        if getattr(call.op, "name", "").endswith(ALLOCATE):
            found.append(-(-int(call.args[2]) // ALIGNMENT) * ALIGNMENT)

    tvm_ffi.structural_walk(func.body, (Call, visit))
    return sum(found)


def split(lowered: tvm.IRModule) -> list[tvm.IRModule]:
    """The module in parts: one of all but the kernels, then at most PART_KERNELS of them in each.

    Kernels are what the exported functions' network calls.
    """
    exported = [gvar for gvar, func in lowered.functions.items() if "global_symbol" in func.attrs]
    networks = unique(callees(lowered[gvar]) for gvar in exported)
    kernels = unique(callees(lowered[gvar]) for gvar in networks)
    if len(kernels) <= PART_KERNELS:
        return [lowered]
    # what one part calls of another has a symbol
    called = [*kernels, *unique(callees(lowered[gvar]) for gvar in kernels)]
    symbols = {gvar: EXTERNAL + gvar.name_hint for gvar in called}

    def external(call: Call) -> Call:
        if call.op not in symbols:
            return call
        return tirx.call_extern("int32", symbols[call.op], *call.args)

    functions = {
        gvar: func.with_body(tvm_ffi.structural_map(func.body, (Call, external)))
        for gvar, func in lowered.functions.items()
    }
    for gvar, symbol in symbols.items():
        functions[gvar] = functions[gvar].with_attr("global_symbol", symbol)
    parts = [tvm.IRModule({gvar: functions[gvar] for gvar in functions if gvar not in kernels})]
    count = -(-len(kernels) // PART_KERNELS)
    for index in range(count):
        # even shares, so that no core waits long for another at the end
        first, end = (place * len(kernels) // count for place in (index, index + 1))
        parts.append(tvm.IRModule({gvar: functions[gvar] for gvar in kernels[first:end]}))
    return parts


def unique(groups: Iterable[Iterable[GlobalVar]]) -> list[GlobalVar]:
    """All of them, each once, in order."""
    return list(dict.fromkeys(itertools.chain.from_iterable(groups)))


def callees(func: tirx.PrimFunc) -> list[GlobalVar]:
    """The functions of its module that a function calls, in order, each as often as it does."""
    found: list[GlobalVar] = []

    def visit(call: Call) -> None:
        if isinstance(call.op, GlobalVar):
            found.append(call.op)

    tvm_ffi.structural_walk(func.body, (Call, visit))
    return found
