"""Bytes of two neighbouring pixels of eight channels → one register, and one store, on ARM.

``smmla`` leaves two pixels by two channels in a register. They are scaled and narrowed as they lie
there, and put in order as bytes: all 16 of them by one ``tbl``, where putting sums in order takes
an instruction for each four. The last pixel of an odd row has no neighbour, and its pair is stored
by itself, as any other.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import tvm
import tvm_ffi
from tvm import sym, tirx
from tvm.ir import Expr, TensorLoad

from schedules.cpu.arm import is_64_bit_arm
from schedules.cpu.vectors import shuffled
from tvm_mobilenet.compiler.cpu.neon_bytes import FixedPoint, bytes_of_sums, fixed_point_of

LANES = 8  # channels of each pixel
PAIR = 2  # of pixels, or channels, in a matrix
MATRIX = 4
BOTH = 2 * LANES
# of a pixel's sums in matrices, and of its bytes among those of the two
PLACES = [MATRIX * matrix + channel for matrix in range(LANES // PAIR) for channel in range(PAIR)]
ORDER = [*PLACES, *(place + PAIR for place in PLACES)]
OPERATIONS: dict[type, Callable[[int, int], int]] = {
    tirx.Add: operator.add,
    tirx.Sub: operator.sub,
    tirx.Mul: operator.mul,
    tirx.FloorDiv: operator.floordiv,
    tirx.FloorMod: operator.mod,
}


@tirx.transform.prim_func_pass(opt_level=0, name="PairPixels")
def pair_pixels(
    func: tirx.PrimFunc, _mod: tvm.IRModule, _ctx: tvm.transform.PassContext
) -> tirx.PrimFunc:
    """Join the stores of each run of statements that are nothing else, on 64-bit ARM."""
    if not is_64_bit_arm(func.attrs.get("target")):
        return func
    return func.with_body(tvm_ffi.structural_map(func.body, (tirx.SeqStmt, _joined)))


@dataclass(frozen=True)
class _Pixel:
    """A store of LANES bytes: where, and what they are made of.

    ``first`` is where its sums begin among those of matrices; None where they lie together.
    """

    store: tirx.BufferStore
    base: Expr
    sums: TensorLoad
    factors: TensorLoad
    offset: int
    first: int | None

    def precedes(self, other: _Pixel) -> bool:
        """Whether the other pixel is this one's neighbour, in memory and in its matrices."""
        if self.first is None or other.first is None:
            matching = self.first is other.first
        else:
            matching = self.first + PAIR == other.first
        return (
            matching
            and self.store.buffer.same_as(other.store.buffer)
            and self.sums.source.same_as(other.sums.source)
            and self.offset == other.offset
            and bool(tvm_ffi.structural_equal(self.factors, other.factors))
            and number_of(sym.Analyzer().simplify(other.base - self.base)) == LANES
        )


def _joined(statements: tirx.SeqStmt) -> tirx.Stmt:
    kept: list[tirx.Stmt] = []
    run: list[_Pixel] = []
    for statement in statements.seq:
        pixel = _pixel(statement)
        if pixel is not None:
            run.append(pixel)
            continue
        kept += [*_pairs(run), statement]
        run = []
    kept += _pairs(run)
    if len(kept) == len(statements.seq):
        return statements
    return kept[0] if len(kept) == 1 else tirx.SeqStmt(kept)


def _pairs(run: Sequence[_Pixel]) -> list[tirx.Stmt]:
    """The stores of a run, each with its neighbour's where there is one."""
    left, stores = list(run), []
    while left:
        one = left.pop(0)
        other = next((each for each in left if one.precedes(each)), None)
        if other is None:
            stores.append(one.store)
            continue
        left.remove(other)
        whole = _beside(one, other) if one.first is None else _of_matrices(one, one.first)
        index = tirx.Ramp(one.base, 1, BOTH)
        stores.append(tirx.BufferStore(one.store.buffer, whole, [index]))
    return stores


def _beside(one: _Pixel, other: _Pixel) -> Expr:
    """The bytes of two pixels."""
    sums, factors = concatenated([one.sums, other.sums]), concatenated([one.factors] * 2)
    return bytes_of_sums(FixedPoint(sums, factors, one.offset))


def _of_matrices(pixel: _Pixel, first: int) -> Expr:
    """The bytes of a pixel and its neighbour, whose sums begin at ``first``."""
    places = range(0, BOTH, MATRIX)
    sums = [pixel.sums.source.vload([first + place], f"int32x{MATRIX}") for place in places]
    (factor,) = pixel.factors.indices
    pairs = [
        pixel.factors.source.vload([factor.base + place // PAIR], f"int32x{PAIR}")
        for place in places
    ]
    factors = concatenated([pair for pair in pairs for _ in range(PAIR)])
    return shuffled(bytes_of_sums(FixedPoint(concatenated(sums), factors, pixel.offset)), ORDER)


def _pixel(statement: tirx.Stmt) -> _Pixel | None:
    """A store of a pixel's bytes; None for any other statement."""
    if not isinstance(statement, tirx.BufferStore) or len(statement.indices) != 1:
        return None
    index, numbers = ramp_of(statement.indices), fixed_point_of(statement)
    if index is None or numbers is None:
        return None
    sums, factors = numbers.total, numbers.multiplier
    if not isinstance(sums, TensorLoad) or not isinstance(factors, TensorLoad):
        return None
    if ramp_of(factors.indices) is None:
        return None
    first = None
    together = str(sums.source.dtype) == str(sums.ty.dtype)  # the buffer is of vectors
    if not together and ramp_of(sums.indices) is None:
        places = places_of(sums.indices[0])
        if places is None or [place - places[0] for place in places] != PLACES:
            return None
        first = places[0]
    return _Pixel(statement, index.base, sums, factors, numbers.offset, first)


def ramp_of(indices: Sequence[Expr]) -> tirx.Ramp | None:
    """The place of LANES neighbours; None for any other."""
    (index,) = indices
    if not isinstance(index, tirx.Ramp) or number_of(index.stride) != 1:
        return None
    return index if int(index.lanes) == LANES else None


def places_of(index: Expr) -> list[int] | None:
    """The numbers in a vector of LANES that is constant, a scalar's as often; None for others."""
    if isinstance(index, tirx.IntImm):
        return [int(index.value)] * LANES
    if isinstance(index, tirx.Broadcast):
        return places_of(index.value)
    if isinstance(index, tirx.Ramp):
        base, stride = places_of(index.base), places_of(index.stride)
        if base is None or stride is None:
            return None
        return [base[0] + stride[0] * lane for lane in range(LANES)]
    operation = OPERATIONS.get(type(index))
    if operation is None:
        return None
    one, other = places_of(index.a), places_of(index.b)
    return None if one is None or other is None else list(map(operation, one, other))


def number_of(value: Expr) -> int | None:
    return int(value.value) if isinstance(value, tirx.IntImm) else None


def concatenated(vectors: Sequence[Expr]) -> Expr:
    count = sum(int(one.ty.dtype.lanes) for one in vectors)
    return tirx.Shuffle(list(vectors), [tirx.IntImm("int32", place) for place in range(count)])
