"""Weights multiplied by a number for each input channel, which comes as a blocked tensor."""

from __future__ import annotations

from tvm import tirx
from tvm.script import tirx as T

from tvm_mobilenet.kernels.cpu.layout import DTYPE, Blocked
from tvm_mobilenet.kernels.parsing import parsed_once


@parsed_once
def scale_weights(scale: Blocked, shape: tuple[int, ...]) -> tirx.PrimFunc:
    """The packed weights of a 1x1 convolution, times ``scale``, one pixel of one image.

    Buffers: scale blocked; weights ``shape``, (panels, 1, 1, C_in, panel, v); the same, scaled.
    """
    panels, _, _, channels, panel, v = shape
    lanes, top, left = scale.vector, scale.halo.top, scale.halo.left

    @T.prim_func(s_tir=True)
    def main(
        data: T.Buffer(scale.shape, DTYPE),
        weight: T.Buffer(shape, DTYPE),
        result: T.Buffer(shape, DTYPE),
    ) -> None:
        T.func_attr({"tirx.noalias": True})
        for n, o, h, w, c in T.grid(1, panels, channels, panel, v):
            with T.sblock("scaled"):
                vn, vo, vh, vw, vc = T.axis.remap("SSSSS", [n, o, h, w, c])
                T.sblock_attr({"schedule_rule": "elementwise"})
                result[vo, vn, 0, vh, vw, vc] = (
                    weight[vo, vn, 0, vh, vw, vc]
                    * data[scale.at(vn, vh // lanes, top, left, vh % lanes)]
                )

    return main
