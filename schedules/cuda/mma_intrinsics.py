"""Tensor-core instructions as TVM tensor intrinsics, over fragments in the hardware's own layout.

TVM 0.27 ships such intrinsics too, but its B fragments are in an order that only its own ldmatrix
makes; ours come packed from memory, one 16-byte load a lane, so they have to be in the order that
the instruction reads. A tile is 16 x 16 x 16: of float16 two m16n8k16 (sm_80 on) or four m16n8k8
(sm_75), of tf32 four m16n8k8 (sm_80 on).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from tvm import tirx
from tvm.s_tir import TensorIntrin
from tvm.script import tirx as T

from schedules.cuda import fragments
from schedules.cuda.fragments import HELD, LANES, TILE, Fragments, c_place

FILL = "tvm_mobilenet.mma_fill"
MMA_K16 = "tvm_mobilenet.mma_m16n8k16"
MMA_K8 = "tvm_mobilenet.mma_m16n8k8"
ROUND = "tvm_mobilenet.round_to_tf32"
ROUNDED = 4  # floats at a time: what is stored at once

# to nearest, ties away from zero: the only rounding to tf32 that sm_80 has
ROUND_SOURCE = """
__device__ __forceinline__ float round_to_tf32(float x) {
  unsigned bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
  return __uint_as_float(bits);
}
"""


@dataclass(frozen=True)
class Operand:
    """What is multiplied: ``dtype`` is TVM's name of it, ``ptx_type`` PTX's as TVM spells it."""

    dtype: str
    ptx_type: str
    bytes: int
    load_a: str
    fragments: Fragments


HALF = Operand("float16", "fp16", 2, "tvm_mobilenet.ldmatrix_a", fragments.HALVES)
TF32 = Operand("float32", "tf32", 4, "tvm_mobilenet.ldmatrix_a_tf32", fragments.TF32)
MMA_TF32 = "tvm_mobilenet.mma_m16n8k8_tf32"


@cache
def register() -> None:
    """Make the intrinsics known to ``Schedule.tensorize``.

    Not done on import: TVMScript looks through the call stack, which takes a second while modules
    are being imported, and only tensor cores need them.
    """
    TensorIntrin.register(HALF.load_a, *load_a(HALF, load_halves), override=True)
    TensorIntrin.register(TF32.load_a, *load_a(TF32, load_floats), override=True)
    TensorIntrin.register(FILL, *fill(), override=True)
    TensorIntrin.register(ROUND, *round_to_tf32(), override=True)
    whole = [(0, 4 * half, 4 * half) for half in range(2)]
    TensorIntrin.register(MMA_K16, *multiply(HALF, "m16n8k16", whole), override=True)
    # by halves of k first: each instruction takes 4 of a lane's A and 2 of its B
    halves = [(4 * q, 4 * half + 2 * q, 4 * half) for q in range(2) for half in range(2)]
    TensorIntrin.register(MMA_K8, *multiply(HALF, "m16n8k8", halves), override=True)
    TensorIntrin.register(MMA_TF32, *multiply(TF32, "m16n8k8", halves), override=True)


@T.inline
def load_halves(warp, shared, row, lane):  # type: ignore[no-untyped-def]
    """One ldmatrix.x4: its four 8 x 8 matrices are the tile's quarters."""
    T.evaluate(
        T.ptx_legacy.ldmatrix(
            False,
            4,
            ".b16",
            warp.data,
            warp.elem_offset + HELD * lane,
            shared.access_ptr("r"),
            row * (lane % 16) + 8 * (lane // 16),
            dtype="float16",
        )
    )


@T.inline
def load_floats(warp, shared, row, lane):  # type: ignore[no-untyped-def]
    """Two: to ldmatrix eight rows of 16 bytes, which are four floats, are one matrix."""
    for half in T.unroll(2):
        T.evaluate(
            T.ptx_legacy.ldmatrix(
                False,
                4,
                ".b16",
                warp.data,
                warp.elem_offset + HELD * lane + 4 * half,
                shared.access_ptr("r"),
                row * (lane % 16) + 8 * half + 4 * (lane // 16),
                dtype="float32",
            )
        )


def load_a(operand: Operand, load: Any) -> tuple[tirx.PrimFunc, tirx.PrimFunc]:
    """A tile of A from shared memory to the lanes."""
    dtype, a_place = operand.dtype, operand.fragments.a_place
    aligned = 16 // operand.bytes  # what ldmatrix asks of a row's start

    @T.prim_func(s_tir=True)
    def description(warp_handle: T.handle, shared_handle: T.handle) -> None:
        shared = T.match_buffer(
            shared_handle, (TILE, TILE), dtype, align=64, offset_factor=aligned, scope="shared"
        )
        warp = T.match_buffer(
            warp_handle, (LANES, HELD), dtype, align=64, offset_factor=8, scope="warp"
        )
        with T.sblock("root"):
            T.reads(shared[0:TILE, 0:TILE])
            T.writes(warp[0:LANES, 0:HELD])
            for m, k in T.grid(TILE, TILE):
                with T.sblock("load"):
                    vm, vk = T.axis.remap("SS", [m, k])
                    warp[a_place(vm, vk)[0], a_place(vm, vk)[1]] = shared[vm, vk]

    @T.prim_func(s_tir=True)
    def implementation(warp_handle: T.handle, shared_handle: T.handle) -> None:
        row = T.int32()
        column = T.int32()
        shared = T.match_buffer(
            shared_handle,
            (TILE, TILE),
            dtype,
            align=64,
            offset_factor=aligned,
            scope="shared",
            strides=[row, column],
        )
        warp = T.match_buffer(
            warp_handle, (LANES, HELD), dtype, align=64, offset_factor=8, scope="warp"
        )
        with T.sblock("root"):
            T.reads(shared[0:TILE, 0:TILE])
            T.writes(warp[0:LANES, 0:HELD])
            for lane in T.thread_binding(0, LANES, "threadIdx.x"):
                load(warp, shared, row, lane)

    return description, implementation


def round_to_tf32() -> tuple[tirx.PrimFunc, tirx.PrimFunc]:
    """Floats from registers to registers, what tf32 does not hold rounded away.

    The description is a copy: what a product computes is float32, how exactly is the schedule's.
    """

    @T.prim_func(s_tir=True)
    def description(source: T.handle, rounded: T.handle) -> None:
        x = T.match_buffer(source, (ROUNDED,), "float32", offset_factor=1, scope="local")
        y = T.match_buffer(rounded, (ROUNDED,), "float32", offset_factor=1, scope="local")
        with T.sblock("root"):
            T.reads(x[0:ROUNDED])
            T.writes(y[0:ROUNDED])
            for i in range(ROUNDED):
                with T.sblock("round"):
                    vi = T.axis.spatial(ROUNDED, i)
                    y[vi] = x[vi]

    @T.prim_func(s_tir=True)
    def implementation(source: T.handle, rounded: T.handle) -> None:
        x = T.match_buffer(source, (ROUNDED,), "float32", offset_factor=1, scope="local")
        y = T.match_buffer(rounded, (ROUNDED,), "float32", offset_factor=1, scope="local")
        with T.sblock("root"):
            T.reads(x[0:ROUNDED])
            T.writes(y[0:ROUNDED])
            for i in T.unroll(ROUNDED):
                y[i] = T.cuda.func_call(
                    "round_to_tf32", x[i], source_code=ROUND_SOURCE, return_type="float32"
                )

    return description, implementation


def fill() -> tuple[tirx.PrimFunc, tirx.PrimFunc]:
    """A tile of zeros."""

    @T.prim_func(s_tir=True)
    def description(c: T.handle) -> None:
        warp = T.match_buffer(c, (LANES, HELD), "float32", align=64, offset_factor=8, scope="warp")
        with T.sblock("root"):
            T.reads()
            T.writes(warp[0:LANES, 0:HELD])
            for m, n in T.grid(TILE, TILE):
                with T.sblock("fill"):
                    vm, vn = T.axis.remap("SS", [m, n])
                    warp[c_place(vm, vn)[0], c_place(vm, vn)[1]] = T.float32(0)

    @T.prim_func(s_tir=True)
    def implementation(c: T.handle) -> None:
        warp = T.match_buffer(c, (LANES, HELD), "float32", align=64, offset_factor=8, scope="warp")
        with T.sblock("root"):
            T.reads()
            T.writes(warp[0:LANES, 0:HELD])
            for lane in T.thread_binding(0, LANES, "threadIdx.x"):
                for held in T.unroll(HELD):
                    warp[lane, held] = T.float32(0)

    return description, implementation


def multiply(
    operand: Operand, shape: str, steps: list[tuple[int, int, int]]
) -> tuple[tirx.PrimFunc, tirx.PrimFunc]:
    """C += A · B by instructions of ``shape``; a step is where each operand starts in its eight."""
    dtype, ptx_type = operand.dtype, operand.ptx_type
    a_place, b_place = operand.fragments.a_place, operand.fragments.b_place

    @T.prim_func(s_tir=True)
    def description(a: T.handle, b: T.handle, c: T.handle) -> None:
        A = T.match_buffer(a, (LANES, HELD), dtype, align=64, offset_factor=8, scope="warp")
        B = T.match_buffer(b, (LANES, HELD), dtype, align=64, offset_factor=8, scope="warp")
        C = T.match_buffer(c, (LANES, HELD), "float32", align=64, offset_factor=8, scope="warp")
        with T.sblock("root"):
            T.reads(C[0:LANES, 0:HELD], A[0:LANES, 0:HELD], B[0:LANES, 0:HELD])
            T.writes(C[0:LANES, 0:HELD])
            for m, n, k in T.grid(TILE, TILE, TILE):
                with T.sblock("multiply"):
                    vm, vn, vk = T.axis.remap("SSR", [m, n, k])
                    C[c_place(vm, vn)[0], c_place(vm, vn)[1]] = C[
                        c_place(vm, vn)[0], c_place(vm, vn)[1]
                    ] + T.cast(A[a_place(vm, vk)[0], a_place(vm, vk)[1]], "float32") * T.cast(
                        B[b_place(vk, vn)[0], b_place(vk, vn)[1]], "float32"
                    )

    @T.inline
    def step(A, B, C, lane, from_a, from_b, from_c):  # type: ignore[no-untyped-def]
        T.evaluate(
            T.ptx_legacy.mma(
                shape,
                "row",
                "col",
                ptx_type,
                ptx_type,
                "fp32",
                A.data,
                A.elem_offset + lane * HELD + from_a,
                B.data,
                B.elem_offset + lane * HELD + from_b,
                C.data,
                C.elem_offset + lane * HELD + from_c,
                False,
                dtype="float32",
            )
        )

    emit = emitter(step, steps)

    @T.prim_func(s_tir=True)
    def implementation(a: T.handle, b: T.handle, c: T.handle) -> None:
        A = T.match_buffer(a, (LANES, HELD), dtype, align=64, offset_factor=8, scope="warp")
        B = T.match_buffer(b, (LANES, HELD), dtype, align=64, offset_factor=8, scope="warp")
        C = T.match_buffer(c, (LANES, HELD), "float32", align=64, offset_factor=8, scope="warp")
        with T.sblock("root"):
            T.reads(C[0:LANES, 0:HELD], A[0:LANES, 0:HELD], B[0:LANES, 0:HELD])
            T.writes(C[0:LANES, 0:HELD])
            for lane in T.thread_binding(0, LANES, "threadIdx.x"):
                emit(A, B, C, lane)

    return description, implementation


def emitter(step: Any, steps: list[tuple[int, int, int]]) -> Any:
    """Emits ``step`` for each of ``steps``, of which there are two or four."""
    first, second, *rest = steps

    @T.inline
    def two(A, B, C, lane):  # type: ignore[no-untyped-def]
        step(A, B, C, lane, first[0], first[1], first[2])
        step(A, B, C, lane, second[0], second[1], second[2])

    if not rest:
        return two
    others = emitter(step, rest)

    @T.inline
    def four(A, B, C, lane):  # type: ignore[no-untyped-def]
        two(A, B, C, lane)
        others(A, B, C, lane)

    return four
