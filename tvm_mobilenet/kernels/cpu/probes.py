"""What a core can do at best, measured by code that travels in the bundle.

The roofline of ``bench --profile`` needs the device's own peaks, not a data sheet's. Both probes
are compiled for the bundle's target like every kernel, and exported beside ``infer``.
"""

from __future__ import annotations

from tvm import tirx
from tvm.script import tirx as T

from tvm_mobilenet.kernels.cpu.layout import DTYPE
from tvm_mobilenet.kernels.parsing import parsed_once
from tvm_mobilenet.kernels.probe_sizes import PEAK_OPERATIONS, SCRATCH_FLOATS, STREAM_ROW

CHAINS = 12  # independent FMAs: two a cycle at a latency of 4 need 8; 12 fit 16 registers


@parsed_once
def fma_peak(v: int, dtype: str = DTYPE) -> tirx.PrimFunc:
    """PEAK_OPERATIONS in ``CHAINS`` independent chains of vector FMAs, in registers only.

    They are of ``dtype``, float32 or float16.
    Buffer: scratch (SCRATCH_FLOATS,); the compiler must not know its first ``v`` floats, the factor
    and the addend of every FMA, and must do the work since the results are left behind them.
    """
    rounds = PEAK_OPERATIONS // (2 * CHAINS * v)

    @T.prim_func(s_tir=True)
    def main(scratch: T.Buffer((SCRATCH_FLOATS,), DTYPE)) -> None:
        T.func_attr({"tirx.noalias": True})
        with T.sblock("root"):
            chains = T.sblock_alloc_buffer((CHAINS, v), dtype)
            for i in T.unroll(CHAINS):
                for c in T.vectorized(v):
                    with T.sblock("start"):
                        vi, vc = T.axis.remap("SS", [i, c])
                        chains[vi, vc] = T.cast(scratch[vc], dtype)
            for k in T.serial(rounds):
                for i in T.unroll(CHAINS):
                    for c in T.vectorized(v):
                        with T.sblock("fma"):
                            _, vi, vc = T.axis.remap("RSS", [k, i, c])
                            chains[vi, vc] = chains[vi, vc] * T.cast(scratch[vc], dtype) + T.cast(
                                scratch[vc], dtype
                            )
            for i in T.unroll(CHAINS):
                for c in T.vectorized(v):
                    with T.sblock("finish"):
                        vi, vc = T.axis.remap("SS", [i, c])
                        scratch[v + vi * v + vc] = T.cast(chains[vi, vc], DTYPE)

    return main


@parsed_once
def stream_read(rows: int, v: int) -> tirx.PrimFunc:
    """Column sums of (rows, STREAM_ROW) floats, read in order.

    Buffers: data (rows, STREAM_ROW); sums (STREAM_ROW,).
    """
    vectors = STREAM_ROW // v

    @T.prim_func(s_tir=True)
    def main(
        data: T.Buffer((rows, STREAM_ROW), DTYPE), sums: T.Buffer((STREAM_ROW,), DTYPE)
    ) -> None:
        T.func_attr({"tirx.noalias": True})
        with T.sblock("root"):
            acc = T.sblock_alloc_buffer((vectors, v), DTYPE)
            for i in T.unroll(vectors):
                for c in T.vectorized(v):
                    with T.sblock("start"):
                        vi, vc = T.axis.remap("SS", [i, c])
                        acc[vi, vc] = T.float32(0)
            for k in T.serial(rows):
                for i in T.unroll(vectors):
                    for c in T.vectorized(v):
                        with T.sblock("sum"):
                            vk, vi, vc = T.axis.remap("RSS", [k, i, c])
                            acc[vi, vc] = acc[vi, vc] + data[vk, vi * v + vc]
            for i in T.unroll(vectors):
                for c in T.vectorized(v):
                    with T.sblock("finish"):
                        vi, vc = T.axis.remap("SS", [i, c])
                        sums[vi * v + vc] = acc[vi, vc]

    return main
