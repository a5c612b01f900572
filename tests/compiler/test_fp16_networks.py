"""Networks in float16: near their float32 reference, and by which kernels.

They run on this machine, whose LLVM computes with float16 by float32's instructions; aarch64's own
are asked on the emulated device (tests/emulation/test_arm_fp16.py).
"""

from __future__ import annotations

import platform

import numpy as np
import onnx
import pytest
from support.float_networks import mobile
from support.half_networks import check, foreign, kernels_of_mobile
from tvm.target import Target

from schedules.facts import FACTS
from tvm_mobilenet.compiler import pipeline
from tvm_mobilenet.compiler.cpu.static_program import make_static
from tvm_mobilenet.compiler.graph.legalize_cpu import CpuKernels, legalize
from tvm_mobilenet.compiler.graph.legalize_fp16 import HalfLegalizer
from tvm_mobilenet.hardware import target
from tvm_mobilenet.network import relax_import
from tvm_mobilenet.scheduling.rules import rules_of

pytestmark = pytest.mark.isa("f16c")
LANES = 8
HERE = {
    "kind": "llvm",
    "keys": ["arm_cpu", "cpu"],
    "mtriple": f"{platform.machine()}-linux-gnu",
    "mattr": ["+f16c"] if platform.machine() == "x86_64" else ["+fullfp16"],
    "num-cores": 4,
    FACTS: dict(target.resolve("arm-rpi5").facts),
}


def kernels(model: onnx.ModelProto, rng: np.random.Generator) -> list[str]:
    machine = Target(HERE)
    to_kernels = legalize(CpuKernels(LANES, rules_of(machine)), HalfLegalizer)
    lowered = pipeline.lower_graph(relax_import.import_onnx(model), to_kernels)
    scheduled, _ = pipeline.schedule_kernels(lowered, machine)
    return check(model, make_static(scheduled, LANES // 2), machine, "fp16", rng)


def test_a_layer_of_every_kind(rng: np.random.Generator) -> None:
    found = kernels(mobile(rng), rng)
    assert [one.removesuffix("_fused") for one in found] == kernels_of_mobile("fp16")


def test_what_has_no_kernel_in_fp16(rng: np.random.Generator) -> None:
    found = kernels(foreign(rng), rng)
    assert "softmax" in found, "TVM's, of float32"
    assert "depthwise_conv2d_8x8x12" in found, "more products than float16 sums up: float32"
    assert "fp16_depthwise_conv2d_8x8x8" in found
    assert any(one.startswith("fp16_conv2d_8x8x8_12") for one in found)
    assert any(one.startswith("fp16_pointwise_conv2d_8x8x12_8") for one in found)
