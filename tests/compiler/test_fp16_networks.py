"""Networks in float16: near their float32 reference, and by which kernels.

They run on this machine, whose LLVM computes with float16 by float32's instructions; aarch64's own
are asked on the emulated device (tests/emulation/test_arm_fp16.py).
"""

from __future__ import annotations

import platform

import numpy as np
import onnx
import pytest
from support.float_networks import conv, mobile, network, node
from support.static_programs import arguments
from tvm.runtime import tensor
from tvm.target import Target

from schedules.facts import FACTS
from tvm_mobilenet import numerics
from tvm_mobilenet.compiler import pipeline
from tvm_mobilenet.compiler.cpu.lowering import lower
from tvm_mobilenet.compiler.cpu.static_program import make_static
from tvm_mobilenet.compiler.graph.legalize_cpu import legalize
from tvm_mobilenet.compiler.graph.legalize_fp16 import HalfLegalizer
from tvm_mobilenet.compiler.precision import tolerance_of_halves
from tvm_mobilenet.hardware import target
from tvm_mobilenet.network import onnx_export, relax_import
from tvm_mobilenet.network.rounding import effect_of_rounding
from tvm_mobilenet.scheduling.rules import rules_of

pytestmark = pytest.mark.isa("f16c")
IMAGE = (1, 8, 8, 8)
LANES = 8
HERE = {
    "kind": "llvm",
    "keys": ["arm_cpu", "cpu"],
    "mtriple": f"{platform.machine()}-linux-gnu",
    "mattr": ["+f16c"] if platform.machine() == "x86_64" else ["+fullfp16"],
    "num-cores": 4,
    FACTS: dict(target.resolve("arm-rpi5").facts),
}


def check(model: onnx.ModelProto, rng: np.random.Generator) -> list[str]:
    """Run it; the kernels' names."""
    x = rng.standard_normal(IMAGE, dtype=np.float32)
    right = onnx_export.evaluate(model, x)
    machine = Target(HERE)
    to_kernels = legalize(LANES, rules_of(machine), of=HalfLegalizer)
    lowered = pipeline.lower_graph(relax_import.import_onnx(model), to_kernels)
    scheduled, _ = pipeline.schedule_kernels(lowered, machine)
    program = make_static(scheduled, LANES // 2)
    outputs = [tensor(np.full(one.shape, np.nan, np.float32)) for one in right]
    lower(program.module, machine)["infer"](*arguments(program, x), *outputs)
    tolerance = tolerance_of_halves(effect_of_rounding(model, [x], "fp16"), "fp16")
    for output, one in zip(outputs, right, strict=True):
        assert 1e-6 < numerics.relative_error(output.numpy(), one) < tolerance
    return [call.kernel for call in program.calls]


def test_a_layer_of_every_kind(rng: np.random.Generator) -> None:
    kernels = check(mobile(rng), rng)
    assert [one.removesuffix("_fused") for one in kernels] == [
        "pack_8x8x8",
        "fp16_conv2d_4x4x8_16_s2",
        "fp16_depthwise_conv2d_4x4x16",
        "blocked_avg_pool2d_4x4x16",
        "fp16_pointwise_conv2d_1x1x16_16",
        "elementwise_4x4x16",
        "fp16_pointwise_conv2d_4x4x16_16",
        "max_pool2d_2x2x16",
        "fp16_pointwise_conv2d_2x2x16_32",
        "global_avg_pool2d_2x2x32",
        "fp16_dense_32_10",
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


def test_what_has_no_kernel_in_fp16(rng: np.random.Generator) -> None:
    kernels = check(foreign(rng), rng)
    assert "softmax" in kernels, "TVM's, of float32"
    assert "depthwise_conv2d_8x8x12" in kernels, "more products than float16 sums up: float32"
    assert "fp16_depthwise_conv2d_8x8x8" in kernels
    assert any(one.startswith("fp16_conv2d_8x8x8_12") for one in kernels)
    assert any(one.startswith("fp16_pointwise_conv2d_8x8x12_8") for one in kernels)
