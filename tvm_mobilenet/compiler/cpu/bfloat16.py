"""bfloat16 → what TVM's code generator takes: integers of 16 bits, and LLVM's own bfloat16.

Tensors become uint16. A float32 of one is its bits, shifted. A bfloat16 of a float32, and the
products of schedules/cpu/pair_products.py, are calls of small functions in LLVM's language, which
it inlines: ``vcvtneps2bf16`` and ``vdpbf16ps``, or ``bfcvtn``, ``bfdot`` and ``bfmmla``. Without
them all are arithmetic of what every CPU has. Rounding to bfloat16 is to nearest, ties to even;
with AVX512_BF16 what is no normal number becomes zero.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np
import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir import Call, Expr, StringImm, TensorLoad
from tvm.runtime import DataType
from tvm.script import tirx as T

from schedules.cpu.pair_matrices import MATRIX
from schedules.cpu.pair_products import DOT, on_arm
from schedules.cpu.pair_products import has_bf16 as target_has_bf16
from tvm_mobilenet.compiler.cpu.paired_stores import BOTH

BF16 = "bfloat16"
NARROW = "tvm_mobilenet_narrow_bf16_"  # and the lanes

NARROW_IR = """
define linkonce_odr {integers} @{name}({floats} %x) alwaysinline nounwind {{
  %rounded = fptrunc {floats} %x to {halves}
  %bits = bitcast {halves} %rounded to {integers}
  ret {integers} %bits
}}
"""
BOTH_IR = """
declare {halves} @{instruction}({floats}, {floats})
define linkonce_odr {integers} @{name}({floats} %first, {floats} %second) alwaysinline nounwind {{
  %rounded = call {halves} @{instruction}({floats} %second, {floats} %first)
  %bits = bitcast {halves} %rounded to {integers}
  ret {integers} %bits
}}
"""
PRODUCT_IR = """
declare {floats} @{instruction}({floats}, {pairs}, {pairs})
define linkonce_odr {floats} @{name}({floats} %sums, {dwords} %a, {dwords} %b)
    alwaysinline nounwind {{
  %x = bitcast {dwords} %a to {pairs}
  %y = bitcast {dwords} %b to {pairs}
  %r = call {floats} @{instruction}({floats} %sums, {pairs} %x, {pairs} %y)
  ret {floats} %r
}}
"""


@tirx.transform.prim_func_pass(opt_level=0, name="LowerBfloat16")
def lower_bf16(
    func: tirx.PrimFunc, _mod: tvm.IRModule, _ctx: tvm.transform.PassContext
) -> tirx.PrimFunc:
    """``func`` without bfloat16; as it is where it has none."""
    if not has_bf16(func) and not multiplies_bf16(func):
        return func
    target = func.attrs.get("target")
    native, arm = target_has_bf16(target), on_arm(target)
    called: set[str] = set()

    def convert(cast: tirx.Cast) -> Expr:
        dtype = DataType(str(cast.ty.dtype))
        if is_bf16(cast.value):
            return widened(cast.value, dtype)
        if not is_bf16(cast):
            return cast
        number = T.cast(cast.value, of_lanes("float32", dtype))
        name, integers = f"{NARROW}{dtype.lanes}", of_lanes("uint16", dtype)
        bits = tirx.call_pure_extern(integers, name, number) if native else narrowed(number, dtype)
        return T.reinterpret(bits, dtype=str(cast.ty.dtype))

    def note(call: Call) -> None:
        if isinstance(call.args[0], StringImm) and call.args[0].value.startswith(
            (NARROW, BOTH, DOT, MATRIX)
        ):
            called.add(call.args[0].value)

    def bits(number: tirx.FloatImm) -> Expr:
        if not is_bf16(number):
            return number
        integer = int(np.float32(number.value).astype(ml_dtypes.bfloat16).view(np.uint16))
        return T.reinterpret(T.uint16(integer), dtype=BF16)

    def spread(vector: tirx.Broadcast) -> Expr:
        if not is_bf16(vector):
            return vector
        one = T.reinterpret(vector.value, dtype="uint16")
        return T.reinterpret(T.broadcast(one, vector.lanes), dtype=str(vector.ty.dtype))

    body = tvm_ffi.structural_map(
        func.body, [(tirx.Cast, convert), (tirx.FloatImm, bits), (tirx.Broadcast, spread)]
    )
    tvm_ffi.structural_walk(body, (Call, lambda call: note(call) if len(call.args) else None))
    code = "".join(definition(name, arm=arm) for name in sorted(called))
    if code:
        body = tirx.AttrStmt(tirx.IntImm("int32", 0), "pragma_import_llvm", StringImm(code), body)
    module = tvm.IRModule({"main": func.with_body(body)})
    return tirx.transform.BF16StorageLegalize()(module)["main"]


def has_bf16(func: tirx.PrimFunc) -> bool:
    found: list[object] = []

    def load(one: TensorLoad) -> None:
        if str(one.source.dtype) == BF16:
            found.append(one)

    def store(one: tirx.BufferStore) -> None:
        if str(one.buffer.dtype) == BF16:
            found.append(one)

    tvm_ffi.structural_walk(func.body, ((TensorLoad, load), (tirx.BufferStore, store)))
    return bool(found)


def multiplies_bf16(func: tirx.PrimFunc) -> bool:
    """Whether it calls DOT or MATRIX: of tensors in bfloat16, or of the registers of a probe."""
    found: list[Call] = []

    def visit(call: Call) -> None:
        name = call.args[0] if len(call.args) else None
        if isinstance(name, StringImm) and name.value.startswith((DOT, MATRIX)):
            found.append(call)

    tvm_ffi.structural_walk(func.body, (Call, visit))
    return bool(found)


def is_bf16(value: Expr) -> bool:
    return str(value.ty.dtype).startswith(BF16)


def of_lanes(dtype: str, like: DataType) -> str:
    return dtype if like.lanes == 1 else f"{dtype}x{like.lanes}"


def widened(value: Expr, dtype: DataType) -> Expr:
    """``value`` as numbers of ``dtype``: a bfloat16 is the upper half of a float32."""
    lanes = int(dtype.lanes)
    bits = T.cast(T.reinterpret(value, dtype=of_lanes("uint16", dtype)), of_lanes("uint32", dtype))
    half = T.uint32(16) if lanes == 1 else T.broadcast(T.uint32(16), lanes)
    number = T.reinterpret(T.shift_left(bits, half), dtype=of_lanes("float32", dtype))
    return T.cast(number, str(dtype))


def narrowed(number: Expr, dtype: DataType) -> Expr:
    """The upper half of each float32, rounded; a NaN stays one."""
    words = of_lanes("uint32", dtype)

    def all_lanes(value: int) -> Expr:
        one = T.uint32(value)
        return one if dtype.lanes == 1 else T.broadcast(one, int(dtype.lanes))

    bits = tirx.Var("bits", words)
    odd = T.shift_right(bits, all_lanes(16)) & all_lanes(1)
    nearest = T.shift_right(bits + all_lanes(0x7FFF) + odd, all_lanes(16))
    is_nan = (bits & all_lanes(0x7FFFFFFF)) > all_lanes(0x7F800000)
    rounded = tirx.Select(is_nan, all_lanes(0x7FC0), nearest)
    whole = tirx.Let(bits, T.reinterpret(number, dtype=words), rounded)
    return T.cast(whole, of_lanes("uint16", dtype))


def definition(name: str, *, arm: bool) -> str:
    """A function of NARROW, BOTH, DOT or MATRIX in LLVM's language."""
    lanes = int(name.rpartition("_")[2])

    def vector(of: str, count: int = lanes) -> str:
        return of if count == 1 else f"<{count} x {of}>"

    if name.startswith(NARROW):
        return NARROW_IR.format(
            name=name, floats=vector("float"), halves=vector("bfloat"), integers=vector("i16")
        )
    if name.startswith(BOTH):
        return BOTH_IR.format(
            name=name,
            instruction=f"llvm.x86.avx512bf16.cvtne2ps2bf16.{32 * lanes}",
            floats=vector("float"),
            halves=vector("bfloat", 2 * lanes),
            integers=vector("i16", 2 * lanes),
        )
    if name == MATRIX:
        instruction = "llvm.aarch64.neon.bfmmla"
    elif arm:
        instruction = f"llvm.aarch64.neon.bfdot.v{lanes}f32.v{2 * lanes}bf16"
    else:
        instruction = f"llvm.x86.avx512bf16.dpbf16ps.{32 * lanes}"
    return PRODUCT_IR.format(
        name=name,
        instruction=instruction,
        floats=vector("float"),
        dwords=vector("i32"),
        pairs=vector("bfloat", 2 * lanes),
    )
