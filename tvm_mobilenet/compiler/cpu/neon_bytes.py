"""Rounding to bytes as NEON does it: one instruction rounds four floats, and one narrows them.

LLVM rounds in two instructions, and limits integers before it narrows them; ``fcvtns`` rounds ties
to even and saturates, and so does ``sqxtn``, whatever it is given. 32-bit NEON rounds towards zero
alone: there a float that is limited first is rounded by adding what leaves it no bits below one.

Numbers in fixed point (kernels/cpu/requantization.py) need no float: ``sqrdmulh`` multiplies and
rounds them (neon_32.py has its name for 32 bits).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir import Call, Expr
from tvm.script import tirx as T
from tvm.target.codegen import llvm_lookup_intrinsic_id

from schedules.cpu.arm import is_32_bit_arm, is_64_bit_arm
from tvm_mobilenet.kernels.cpu.expressions import LIMITS, LRINT
from tvm_mobilenet.kernels.cpu.requantization import LEAST, POINT

LANES = 4  # of a register of int32
LLVM_CALL = "tirx.call_llvm_pure_intrin"
ROUND = "llvm.aarch64.neon.fcvtns.v4i32.v4f32"
WORDS = "llvm.aarch64.neon.sqxtn.v4i16"
MULTIPLY = "llvm.aarch64.neon.sqrdmulh.v4i32"
MAGIC, MAGIC_BITS = 1.5 * 2**23, 0x4B400000  # of a float whose neighbours are the next integers
SIGN = -128  # the bit by which an int8 differs from the uint8 that is 128 greater
BYTES = {"int8": "llvm.aarch64.neon.sqxtn.v8i8", "uint8": "llvm.aarch64.neon.sqxtun.v8i8"}


@tirx.transform.prim_func_pass(opt_level=0, name="NeonBytes")
def neon_bytes(
    func: tirx.PrimFunc, _mod: tvm.IRModule, _ctx: tvm.transform.PassContext
) -> tirx.PrimFunc:
    """Spell out how bytes are rounded, on ARM."""
    target = func.attrs.get("target")
    if is_32_bit_arm(target):
        body = tvm_ffi.structural_map(func.body, (tirx.BufferStore, _in_fixed_point))
        return func.with_body(tvm_ffi.structural_map(body, (tirx.Cast, _by_addition)))
    if not is_64_bit_arm(target):
        return func
    body = tvm_ffi.structural_map(func.body, (tirx.BufferStore, _narrowed))
    return func.with_body(tvm_ffi.structural_map(body, (Call, _rounded)))


def _narrowed(store: tirx.BufferStore) -> tirx.BufferStore:
    """The store of bytes made of a vector of limited integers; any other as it is."""
    fixed = _in_fixed_point(store)
    value = store.value
    if fixed is not store or not isinstance(value, tirx.Cast):
        return fixed
    dtype, lanes = _type(value)
    if dtype not in LIMITS or lanes < LANES or lanes % LANES:
        return store
    integers = _unlimited(value.value, LIMITS[dtype])
    if integers is None:
        return store
    words = [
        T.call_llvm_pure_intrin(WORDS, part, dtype=f"int16x{LANES}") for part in _quarters(integers)
    ]
    whole = _first(_bytes_of(words, dtype), lanes)
    return tirx.BufferStore(store.buffer, whole, store.indices)


def _in_fixed_point(store: tirx.BufferStore) -> tirx.BufferStore:
    """The store of a vector of int8 made of numbers in fixed point; any other as it is."""
    numbers = fixed_point_of(store)
    lanes = _type(store.value)[1]
    if numbers is None or lanes % LANES:
        return store
    return tirx.BufferStore(store.buffer, _first(bytes_of_sums(numbers), lanes), store.indices)


def _bytes_of(words: list[Expr], dtype: str) -> Expr:
    """Integers of 16 bits, LANES in each, limited to bytes; those of an odd one twice."""
    words = words + words[:1] * (len(words) % 2)
    pairs = [_joined(words[place : place + 2]) for place in range(0, len(words), 2)]
    return _joined(
        [T.call_llvm_pure_intrin(BYTES[dtype], pair, dtype=f"{dtype}x8") for pair in pairs]
    )


def _first(whole: Expr, lanes: int) -> Expr:
    """The first bytes: LANES of them as one integer, or LLVM would make four words again."""
    if lanes != LANES:
        return _slice(whole, range(lanes))
    first = tirx.Shuffle([T.reinterpret(whole, dtype="int32x2")], [tirx.IntImm("int32", 0)])
    return T.reinterpret(first, dtype=f"{_type(whole)[0]}x{LANES}")


def _by_addition(cast: tirx.Cast) -> Expr:
    """A byte made of a rounded number, limited before or after that; any other conversion as it is.

    The sum's lowest bits are the integer.
    """
    dtype, lanes = _type(cast)
    if dtype not in LIMITS or _type(cast.value)[0] != "int32":
        return cast
    value, limits = cast.value, LIMITS[dtype]
    if is_limited(value, limits):
        value = value.a.a
    elif not (is_rounding(value) and is_limited(value.args[1], limits)):
        return cast
    if not is_rounding(value):
        return cast
    number = value.args[1]
    least, greatest, magic = (_filled(float(one), lanes) for one in (*limits, MAGIC))
    bounded = T.max(T.min(number, greatest), least)
    bits = T.reinterpret(bounded + magic, dtype=str(value.ty.dtype))
    return T.cast(bits - _filled(MAGIC_BITS, lanes), str(cast.ty.dtype))


def _filled(number: float, lanes: int) -> Expr:
    one = T.float32(number) if isinstance(number, float) else T.int32(number)
    return one if lanes == 1 else T.broadcast(one, lanes)


def _unlimited(value: Expr, limits: tuple[int, int]) -> Expr | None:
    """The integers that are limited, by themselves or before they are rounded; None if neither."""
    if _type(value)[0] != "int32":
        return None
    if is_limited(value, limits):
        return value.a.a
    if is_rounding(value) and is_limited(value.args[1], limits):
        return T.call_llvm_pure_intrin(LRINT, value.args[1].a.a, dtype=str(value.ty.dtype))
    return None


@dataclass(frozen=True)
class FixedPoint:
    """Integers, what they are multiplied by in fixed point, and what is added to the product."""

    total: Expr
    multiplier: Expr
    offset: int


def fixed_point_of(store: tirx.BufferStore) -> FixedPoint | None:
    """The numbers that a store of int8 rounds; None for any other store."""
    value = store.value
    if not isinstance(value, tirx.Cast) or _type(value)[0] != "int8":
        return None
    integers = _unlimited(value.value, LIMITS["int8"])
    return None if integers is None else _fixed_point(integers)


def _fixed_point(integers: Expr) -> FixedPoint | None:
    """The numbers that are rounded to ``integers``, as ``FixedPoint`` makes them; None for others.

    16 bits hold them, and what they are before the offset is added.
    """
    number = integers.args[1] if is_rounding(integers) else None
    offset: float | None = 0
    if isinstance(number, tirx.Add):
        number, offset = number.a, _number(number.b)
    if not isinstance(number, tirx.Mul) or offset is None or not isinstance(number.b, tirx.Mul):
        return None
    if _number(number.b.b) != 2.0**-POINT:
        return None
    total, multiplier = number.a, number.b.a
    for one in (total, multiplier):
        if not isinstance(one, tirx.Cast) or _type(one.value)[0] != "int32":
            return None
    return FixedPoint(total.value, multiplier.value, int(offset))


def bytes_of_sums(numbers: FixedPoint) -> Expr:
    """Their int8: after LEAST is added it is the uint8 before that, but for the sign.

    Those of an odd register are there twice.
    """
    lanes = _type(numbers.total)[1]
    factors = zip(_quarters(numbers.total), _quarters(numbers.multiplier), strict=True)
    products = [T.call_llvm_pure_intrin(MULTIPLY, *pair, dtype="int32x4") for pair in factors]
    words = [T.cast(product, f"int16x{LANES}") for product in products]
    if numbers.offset == LEAST and lanes > LANES:
        unsigned = _bytes_of(words, "uint8")
        flipped = T.broadcast(T.int8(SIGN), _type(unsigned)[1])
        return T.reinterpret(unsigned, dtype=f"int8x{_type(unsigned)[1]}") ^ flipped
    if numbers.offset:
        added = T.broadcast(T.int16(numbers.offset), LANES)
        words = [word + added for word in words]
    return _bytes_of(words, "int8")


def is_limited(value: Expr, limits: tuple[int, int]) -> bool:
    """Whether it is max(min(x, greatest), least)."""
    if not isinstance(value, tirx.Max) or not isinstance(value.a, tirx.Min):
        return False
    return (_number(value.b), _number(value.a.b)) == limits


def is_rounding(value: Expr) -> bool:
    return is_call_of(value, LRINT)


def is_call_of(value: Expr, intrinsic: str) -> bool:
    """Whether it is one of LLVM's by that name."""
    return (
        isinstance(value, Call)
        and getattr(value.op, "name", "") == LLVM_CALL
        and int(value.args[0].value) == llvm_lookup_intrinsic_id(intrinsic)
    )


def _rounded(call: Call) -> Expr:
    """Vectors of floats rounded; any other call as it is."""
    if not is_rounding(call) or _type(call)[1] % LANES:
        return call
    return _joined(
        [
            T.call_llvm_pure_intrin(ROUND, part, dtype=f"int32x{LANES}")
            for part in _quarters(call.args[1])
        ]
    )


def _type(value: Expr) -> tuple[str, int]:
    """What a value's elements are of, and how many it has."""
    dtype, _, lanes = str(value.ty.dtype).partition("x")
    return dtype, int(lanes or 1)


def _number(value: Expr) -> float | None:
    inner = value.value if isinstance(value, tirx.Broadcast) else value
    return inner.value if isinstance(inner, tirx.IntImm | tirx.FloatImm) else None


def _quarters(vector: Expr) -> list[Expr]:
    """Its registers of LANES elements."""
    lanes = _type(vector)[1]
    return [_slice(vector, range(first, first + LANES)) for first in range(0, lanes, LANES)]


def _slice(vector: Expr, places: Sequence[int]) -> Expr:
    if list(places) == list(range(_type(vector)[1])):
        return vector
    return tirx.Shuffle([vector], [tirx.IntImm("int32", place) for place in places])


def _joined(vectors: Sequence[Expr]) -> Expr:
    if len(vectors) == 1:
        return vectors[0]
    count = sum(_type(one)[1] for one in vectors)
    return tirx.Shuffle(list(vectors), [tirx.IntImm("int32", place) for place in range(count)])
