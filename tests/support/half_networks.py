"""Networks whose layers are in numbers of 16 bits, and how near their reference they are."""

from __future__ import annotations

import numpy as np
import onnx
from support.float_networks import IMAGE, conv, network, node
from support.static_programs import arguments
from tvm.runtime import tensor
from tvm.target import Target

from tvm_mobilenet import numerics
from tvm_mobilenet.compiler.cpu.lowering import lower
from tvm_mobilenet.compiler.cpu.static_program import StaticProgram
from tvm_mobilenet.compiler.precision import tolerance_of_halves
from tvm_mobilenet.network import onnx_export
from tvm_mobilenet.network.rounding import effect_of_rounding

LEAST_ERROR = {"bf16": 1e-5, "fp16": 1e-6}  # of a network that rounds


def check(
    model: onnx.ModelProto,
    program: StaticProgram,
    machine: Target,
    precision: str,
    rng: np.random.Generator,
) -> list[str]:
    """Run what the model was compiled to; its kernels' names."""
    x = rng.standard_normal(IMAGE, dtype=np.float32)
    right = onnx_export.evaluate(model, x)
    outputs = [tensor(np.full(one.shape, np.nan, np.float32)) for one in right]
    lower(program.module, machine)["infer"](*arguments(program, x), *outputs)
    tolerance = tolerance_of_halves(effect_of_rounding(model, [x], precision), precision)
    for output, one in zip(outputs, right, strict=True):
        error = numerics.relative_error(output.numpy(), one)
        assert LEAST_ERROR[precision] < error < tolerance, "rounded, and no more than that"
    return [call.kernel for call in program.calls]


def kernels_of_mobile(precision: str) -> list[str]:
    """Those that ``float_networks.mobile`` has in ``precision``."""
    return [
        "pack_8x8x8",
        f"{precision}_conv2d_4x4x8_16_s2",
        f"{precision}_depthwise_conv2d_4x4x16",
        "blocked_avg_pool2d_4x4x16",
        f"{precision}_pointwise_conv2d_1x1x16_16",
        "elementwise_4x4x16",
        f"{precision}_pointwise_conv2d_4x4x16_16",
        "max_pool2d_2x2x16",
        f"{precision}_pointwise_conv2d_2x2x16_32",
        "global_avg_pool2d_2x2x32",
        f"{precision}_dense_32_10",
    ]


def foreign(rng: np.random.Generator) -> onnx.ModelProto:
    """Large windows, groups, and what kernels for float32 or TVM's own compute in between."""
    nodes = [
        node("Conv", ["x", "w0"], ["c0"], pads=[2] * 4, dilations=[2, 2], group=8),
        node("Conv", ["c0", "w1"], ["c1"], pads=[1] * 4, group=2),
        node("Split", ["c1"], ["left", "right"], axis=1, num_outputs=2),
        node("Softmax", ["left"], ["soft"], axis=1),
        node("Concat", ["right", "soft"], ["both"], axis=1),
        node("Conv", ["both", "w3"], ["wide"], pads=[6] * 4, group=12),
        node("Resize", ["wide", "", "scales"], ["large"], mode="linear"),
        node("AveragePool", ["large"], ["a"], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4),
        node("Conv", ["a", "w2"], ["c2"]),
        node("Add", ["c2", "x"], ["sum"]),
        node("Sigmoid", ["sum"], ["y"]),
        node("GlobalMaxPool", ["c2"], ["z"]),
    ]
    weights = {
        "w0": conv(rng, 8, 1, 3),
        "w1": conv(rng, 12, 4, 3),
        "w2": conv(rng, 8, 12),
        "w3": conv(rng, 12, 1, 13),
        "scales": np.array([1, 1, 2, 2], np.float32),
    }
    return network(nodes, weights, ("y", "z"))
