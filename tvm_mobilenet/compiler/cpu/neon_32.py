"""NEON's instructions over integers on 32-bit ARM, for kernels written with those of 64 bits.

LLVM has other names for them there. Of whole registers, neighbours are added up in two halves; and
sums that neighbours of 16 bits are added to are named as operands (``vpadal``), which LLVM finds by
itself on 64 bits alone.
"""

from __future__ import annotations

import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir import Call, Expr
from tvm.script import tirx as T

from schedules.cpu.arm import is_32_bit_arm
from schedules.cpu.register_products import ADDP, SADDLP
from schedules.cpu.vectors import shuffled
from tvm_mobilenet.compiler.cpu.neon_bytes import is_call_of

NAMES = {
    "llvm.aarch64.neon.smull.v8i16": "llvm.arm.neon.vmulls.v8i16",
    SADDLP: "llvm.arm.neon.vpaddls.v4i32.v8i16",
    "llvm.aarch64.neon.sqrdmulh.v4i32": "llvm.arm.neon.vqrdmulh.v4i32",
    "llvm.aarch64.neon.sqxtn.v8i8": "llvm.arm.neon.vqmovns.v8i8",
    "llvm.aarch64.neon.sqxtun.v8i8": "llvm.arm.neon.vqmovnsu.v8i8",
}
ADD_TO_SUMS = "llvm.arm.neon.vpadals.v4i32.v8i16"
ADD_NEIGHBOURS = "llvm.arm.neon.vpadd.v2i32"
LOW, HIGH = (0, 1), (2, 3)  # lanes of a register of int32


@tirx.transform.prim_func_pass(opt_level=0, name="Neon32")
def neon_32(
    func: tirx.PrimFunc, _mod: tvm.IRModule, _ctx: tvm.transform.PassContext
) -> tirx.PrimFunc:
    """Spell NEON's instructions as LLVM has them for 32 bits, where that is the target."""
    if not is_32_bit_arm(func.attrs.get("target")):
        return func
    body = tvm_ffi.structural_map(func.body, (tirx.Add, _added_to_sums))
    return func.with_body(tvm_ffi.structural_map(body, (Call, _of_32_bits)))


def _added_to_sums(add: tirx.Add) -> Expr:
    """Sums and the neighbours that are added to them; any other addition as it is."""
    if not is_call_of(add.b, SADDLP):
        return add
    return T.call_llvm_pure_intrin(ADD_TO_SUMS, add.a, add.b.args[1], dtype=str(add.ty.dtype))


def _of_32_bits(call: Call) -> Expr:
    """The same by the instructions of 32 bits; any other call as it is."""
    if is_call_of(call, ADDP):
        halves = [
            T.call_llvm_pure_intrin(
                ADD_NEIGHBOURS, shuffled(one, LOW), shuffled(one, HIGH), dtype="int32x2"
            )
            for one in call.args[1:]
        ]
        return tirx.Shuffle(halves, [tirx.IntImm("int32", lane) for lane in (*LOW, *HIGH)])
    for name, other in NAMES.items():
        if is_call_of(call, name):
            dtype = str(call.ty.dtype)
            return T.call_llvm_pure_intrin(other, *call.args[1:], dtype=dtype)
    return call
