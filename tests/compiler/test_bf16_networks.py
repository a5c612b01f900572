"""Networks in bfloat16: near their float32 reference, and by which kernels.

They run by AVX512_BF16's instructions where the CPU has them, and by float32 arithmetic in their
place, as any CPU does.
"""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from support.float_networks import mobile
from support.half_networks import check, foreign, kernels_of_mobile

from tvm_mobilenet.compiler import pipeline
from tvm_mobilenet.compiler.cpu.static_program import StaticProgram, make_static
from tvm_mobilenet.compiler.graph.legalize_cpu import CpuKernels, legalize
from tvm_mobilenet.hardware import target
from tvm_mobilenet.network import relax_import
from tvm_mobilenet.scheduling.rules import rules_of

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
    to_kernels = legalize(CpuKernels(spec.vector_width, rules, bf16=True))
    lowered = pipeline.lower_graph(relax_import.import_onnx(model), to_kernels)
    scheduled, _ = pipeline.schedule_kernels(lowered, found)
    return make_static(scheduled, spec.vector_width)


def kernels(model: onnx.ModelProto, name: str, rng: np.random.Generator) -> list[str]:
    return check(model, compiled(model, name), target.resolve(name).tvm_target(), "bf16", rng)


@pytest.mark.parametrize("name", TARGETS)
def test_a_layer_of_every_kind(name: str, rng: np.random.Generator) -> None:
    found = kernels(mobile(rng), name, rng)
    assert [one.removesuffix("_fused") for one in found] == kernels_of_mobile("bf16")


@pytest.mark.parametrize("name", TARGETS)
def test_what_has_no_kernel_in_bf16(name: str, rng: np.random.Generator) -> None:
    found = kernels(foreign(rng), name, rng)
    assert "depthwise_conv2d_8x8x8" in found, "dilated: by float32 products"
    assert "softmax" in found, "TVM's, of float32"
    assert any(one.startswith("bf16_conv2d_8x8x8_12") for one in found)
    assert any(one.startswith("bf16_pointwise_conv2d_8x8x12_8") for one in found)


def test_half_the_bytes(rng: np.random.Generator) -> None:
    model = mobile(rng)
    spec = target.resolve(NATIVE)
    module = relax_import.import_onnx(model)
    exact = pipeline.lower_graph(module, legalize(CpuKernels(spec.vector_width)))
    scheduled, _ = pipeline.schedule_kernels(exact, spec.tvm_target())
    exact_program, program = make_static(scheduled, spec.vector_width), compiled(model, NATIVE)
    assert len(program.parameters) < 0.75 * len(exact_program.parameters)
    pointwise = "pointwise_conv2d_2x2x16_32"
    nbytes = {call.kernel: call.nbytes for call in (*exact_program.calls, *program.calls)}
    assert nbytes[f"bf16_{pointwise}"] < 0.6 * nbytes[pointwise]
