"""Networks in int8 and bf16 on a CPU with tile registers: near their references, by which kernels.

They run where the CPU has AVX512_BF16: without AMX its instructions are emulated.
"""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from support.float_networks import mobile
from support.quantized_networks import QuantizedNetwork
from support.static_programs import arguments
from support.tile_cases import HAS_TILES, NAME, spec_that_runs, tile_unit, tiles
from tvm.runtime import tensor

from schedules.cpu.sharing import num_cores
from tvm_mobilenet import numerics
from tvm_mobilenet.compiler import pipeline
from tvm_mobilenet.compiler.cpu.backends import StaticBackend
from tvm_mobilenet.compiler.cpu.lowering import lower
from tvm_mobilenet.compiler.cpu.static_program import StaticProgram, make_static
from tvm_mobilenet.compiler.options import CompileOptions
from tvm_mobilenet.compiler.precision import Precision, tolerance_of_halves
from tvm_mobilenet.hardware import target
from tvm_mobilenet.hardware.target import TargetSpec
from tvm_mobilenet.network import cleaning, onnx_export, relax_import
from tvm_mobilenet.network.rounding import effect_of_rounding

Array = NDArray[np.float32]


def program_of(model: onnx.ModelProto, spec: TargetSpec, precision: Precision) -> StaticProgram:
    backend = StaticBackend(CompileOptions(spec, precision=precision))
    lowered = pipeline.lower_graph(relax_import.import_onnx(model), backend.legalize())
    scheduled, _ = pipeline.schedule_kernels(lowered, backend.target)
    return make_static(scheduled, spec.vector_width, num_cores(backend.target))


def executed(program: StaticProgram, spec: TargetSpec, x: Array, like: Array) -> Array:
    output = tensor(np.full(like.shape, np.nan, np.float32))
    library = lower(program.module, spec.tvm_target())
    with tiles():
        library["infer"](*arguments(program, x), output)
    result: Array = output.numpy()
    return result


def names_of(program: StaticProgram) -> list[str]:
    return [call.kernel.removesuffix("_fused") for call in program.calls]


def test_int8(rng: np.random.Generator) -> None:
    """A block with a residual, and a head: right to one integer, in two threads."""
    spec = spec_that_runs()
    net = QuantizedNetwork((1, 3, 24, 24))
    x = net.start()
    stem = net.node("Relu", [net.convolution(x, 16, (3, 3), strides=[2, 2], pads=[1, 1, 1, 1])])
    x = net.quantized(stem, 0.01, 0)
    y = net.quantized(net.node("HardSwish", [net.convolution(x, 96)]), 0.01)
    y = net.quantized(net.convolution(y, 96, (3, 3), group=96, pads=[1, 1, 1, 1]), 0.01)
    x = net.quantized(net.node("Add", [net.convolution(y, 16), x]), 0.01)
    y = net.quantized(net.node("Relu", [net.convolution(x, 32, (3, 3), pads=[1] * 4)]), 0.01, 0)
    model = net.model(y)
    image = rng.standard_normal(net.shape, dtype=np.float32)
    (right,) = onnx_export.evaluator(model, optimized=False).run(image)
    program = program_of(cleaning.clean(model).model, spec, "int8")
    assert names_of(program)[:5] == [
        "quantized_stem_conv2d_12x12x16_s2",
        "quantized_tiles_pointwise_conv2d_12x12x16_96",
        "quantized_depthwise_conv2d_12x12x96",
        "quantized_tiles_pointwise_conv2d_12x12x96_16",
        "quantized_tiles_conv2d_12x12x16_32",
    ]
    before = tile_unit().counts()
    found = executed(program, spec, image, right)
    apart = np.abs(np.rint((found - right) / net.scales[y]))
    assert apart.max() <= 1
    assert np.count_nonzero(apart) <= 0.01 * apart.size
    if not HAS_TILES:
        after = tile_unit().counts()
        kernels, configured = 3, after.configurations - before.configurations
        assert configured == after.releases - before.releases
        assert configured % kernels == 0 < configured, "every thread, for every kernel"


def test_bf16(rng: np.random.Generator) -> None:
    """What is no dense convolution of enough pixels is computed in float32, or by pairs."""
    spec = spec_that_runs()
    model = mobile(rng)
    x = rng.standard_normal((1, 8, 8, 8), dtype=np.float32)
    (right,) = onnx_export.evaluate(model, x)
    program = program_of(model, spec, "bf16")
    names = names_of(program)
    assert "bf16_tiles_pointwise_conv2d_4x4x16_16" in names
    assert "depthwise_conv2d_4x4x16" in names
    assert not [name for name in names if name.startswith("bf16_depthwise")]
    found = executed(program, spec, x, right)
    tolerance = tolerance_of_halves(effect_of_rounding(model, [x], "bf16"), "bf16")
    assert 1e-5 < numerics.relative_error(found, right) < tolerance


@pytest.mark.parametrize("precision", ["int8", "bf16"])
def test_without_tiles_there_are_none(precision: Precision, rng: np.random.Generator) -> None:
    model = mobile(rng)
    program = program_of(model, target.resolve("x86-znver4"), precision)
    assert not [name for name in names_of(program) if "tiles" in name]
    assert target.resolve(NAME).name == NAME
