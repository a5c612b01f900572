"""Networks in bfloat16: near their float32 reference, and by which kernels.

They run by AVX512_BF16's instructions where the CPU has them, and by float32 arithmetic in their
place, as any CPU does.
"""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from support.float_networks import conv, mobile, network, node
from support.static_programs import arguments
from tvm.runtime import tensor

from tvm_mobilenet import numerics
from tvm_mobilenet.compiler import pipeline
from tvm_mobilenet.compiler.cpu.lowering import lower
from tvm_mobilenet.compiler.cpu.static_program import StaticProgram, make_static
from tvm_mobilenet.compiler.graph.legalize_cpu import legalize
from tvm_mobilenet.compiler.precision import tolerance_of_halves
from tvm_mobilenet.hardware import target
from tvm_mobilenet.network import onnx_export, relax_import
from tvm_mobilenet.network.rounding import effect_of_rounding
from tvm_mobilenet.scheduling.rules import rules_of

IMAGE = (1, 8, 8, 8)
PLAIN, NATIVE = "x86-64-v3", "x86-znver4"
TARGETS = [
    pytest.param(PLAIN, marks=pytest.mark.isa("avx2"), id="float32"),
    pytest.param(NATIVE, marks=pytest.mark.isa("avx512_bf16"), id="avx512_bf16"),
]


def compiled(model: onnx.ModelProto, name: str) -> StaticProgram:
    """In bf16, also for a target that ``compile`` refuses it for."""
    spec = target.resolve(name)
    found = spec.tvm_target()
    rules = rules_of(found) - {"strassen_conv2d", "winograd_conv2d"}
    to_kernels = legalize(spec.vector_width, rules, bf16=True)
    lowered = pipeline.lower_graph(relax_import.import_onnx(model), to_kernels)
    scheduled, _ = pipeline.schedule_kernels(lowered, found)
    return make_static(scheduled, spec.vector_width)


def check(model: onnx.ModelProto, name: str, rng: np.random.Generator) -> list[str]:
    """Run it; the kernels' names."""
    x = rng.standard_normal(IMAGE, dtype=np.float32)
    right = onnx_export.evaluate(model, x)
    program = compiled(model, name)
    outputs = [tensor(np.full(one.shape, np.nan, np.float32)) for one in right]
    library = lower(program.module, target.resolve(name).tvm_target())
    library["infer"](*arguments(program, x), *outputs)
    tolerance = tolerance_of_halves(effect_of_rounding(model, [x], "bf16"), "bf16")
    for output, one in zip(outputs, right, strict=True):
        error = numerics.relative_error(output.numpy(), one)
        assert 1e-5 < error < tolerance, "rounded, and no more than that"
    return [call.kernel for call in program.calls]


@pytest.mark.parametrize("name", TARGETS)
def test_a_layer_of_every_kind(name: str, rng: np.random.Generator) -> None:
    kernels = check(mobile(rng), name, rng)
    assert [one.removesuffix("_fused") for one in kernels] == [
        "pack_8x8x8",
        "bf16_conv2d_4x4x8_16_s2",
        "bf16_depthwise_conv2d_4x4x16",
        "blocked_avg_pool2d_4x4x16",
        "bf16_pointwise_conv2d_1x1x16_16",
        "elementwise_4x4x16",
        "bf16_pointwise_conv2d_4x4x16_16",
        "max_pool2d_2x2x16",
        "bf16_pointwise_conv2d_2x2x16_32",
        "global_avg_pool2d_2x2x32",
        "bf16_dense_32_10",
    ]


def foreign(rng: np.random.Generator) -> onnx.ModelProto:
    """What kernels for float32 compute between those in bfloat16, or TVM's own."""
    nodes = [
        node("Conv", ["x", "w0"], ["c0"], pads=[2] * 4, dilations=[2, 2], group=8),
        node("Conv", ["c0", "w1"], ["c1"], pads=[1] * 4, group=2),
        node("Split", ["c1"], ["left", "right"], axis=1, num_outputs=2),
        node("Softmax", ["left"], ["soft"], axis=1),
        node("Concat", ["right", "soft"], ["both"], axis=1),
        node("Resize", ["both", "", "scales"], ["large"], mode="linear"),
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
        "scales": np.array([1, 1, 2, 2], np.float32),
    }
    return network(nodes, weights, ("y", "z"))


@pytest.mark.parametrize("name", TARGETS)
def test_what_has_no_kernel_in_bf16(name: str, rng: np.random.Generator) -> None:
    kernels = check(foreign(rng), name, rng)
    assert "depthwise_conv2d_8x8x8" in kernels, "dilated: by float32 products"
    assert "softmax" in kernels, "TVM's, of float32"
    assert any(one.startswith("bf16_conv2d_8x8x8_12") for one in kernels)
    assert any(one.startswith("bf16_pointwise_conv2d_8x8x12_8") for one in kernels)


def test_half_the_bytes(rng: np.random.Generator) -> None:
    model = mobile(rng)
    spec = target.resolve(NATIVE)
    module = relax_import.import_onnx(model)
    exact = pipeline.lower_graph(module, legalize(spec.vector_width))
    scheduled, _ = pipeline.schedule_kernels(exact, spec.tvm_target())
    exact_program, program = make_static(scheduled, spec.vector_width), compiled(model, NATIVE)
    assert len(program.parameters) < 0.75 * len(exact_program.parameters)
    pointwise = "pointwise_conv2d_2x2x16_32"
    nbytes = {call.kernel: call.nbytes for call in (*exact_program.calls, *program.calls)}
    assert nbytes[f"bf16_{pointwise}"] < 0.6 * nbytes[pointwise]
