"""Quantized files: what comes out is what the file says, to one integer, by kernels over integers.

The reference is ONNX Runtime with its optimizations off, which computes each operator in float32.
"""

from __future__ import annotations

import numpy as np
import pytest
import tvm
from numpy.typing import NDArray
from support.quantized_layers import CASES, network
from support.quantized_networks import QuantizedNetwork
from support.static_programs import compiled, execute
from tvm import tirx

from tvm_mobilenet.compiler import pipeline
from tvm_mobilenet.compiler.cpu.backends import StaticBackend
from tvm_mobilenet.compiler.options import CompileOptions
from tvm_mobilenet.hardware import target
from tvm_mobilenet.network import cleaning, onnx_export, relax_import

Array = NDArray[np.float32]
# of all results: two ways to round to the nearest integer take different ones as rarely as this
DIFFERENT = 0.01
# and where one that differs is a factor of a whole channel
OF_CHANNELS = 0.2

# cases that float kernels compute, from dequantized integers
IN_FLOAT = (
    *("grouped-narrow", "depthwise-dilated", "pooled", "max-pool", "average-pool"),
    "scaled",
)


@pytest.mark.in_turns(3)
@pytest.mark.parametrize("case", CASES)
def test_each_result_is_the_right_integer_or_the_next(case: str, rng: np.random.Generator) -> None:
    net, output = network(case, signed=False)
    found, right, kernels = run(net, output, rng)
    different = OF_CHANNELS if case == "squeeze-excite" else DIFFERENT
    check(found, right, net.scales[output], different)
    assert any("quantized" in name for name in kernels) == (case not in IN_FLOAT)


@pytest.mark.parametrize("case", ["stem", "depthwise-5x5", "residual", "classifier"])
def test_signed_activations(case: str, rng: np.random.Generator) -> None:
    net, output = network(case, signed=True)
    found, right, kernels = run(net, output, rng)
    check(found, right, net.scales[output])
    assert any("quantized" in name for name in kernels)


def test_no_real_values_in_memory_between_integer_layers(rng: np.random.Generator) -> None:
    """A block with a residual, and a head: everything but the last result is integers."""
    net = QuantizedNetwork((1, 3, 32, 32))
    x = net.start()
    stem = net.node("Relu", [net.convolution(x, 16, (3, 3), strides=[2, 2], pads=[1, 1, 1, 1])])
    x = net.quantized(stem, 0.01, 0)
    y = net.quantized(net.node("HardSwish", [net.convolution(x, 32)]), 0.01)
    y = net.quantized(net.convolution(y, 32, (3, 3), group=32, pads=[1, 1, 1, 1]), 0.01)
    x = net.quantized(net.node("Add", [net.convolution(y, 16), x]), 0.01)
    x = net.quantized(net.node("GlobalAveragePool", [x]), 0.005)
    output = net.dense(net.node("Flatten", [x]), 10)
    program = compiled(imported(net, output))
    kernels = [call.kernel for call in program.calls]
    assert [name.rpartition("_")[0] if name.endswith("_fused") else name for name in kernels] == [
        "quantized_stem_conv2d_16x16x16_s2",
        "quantized_pointwise_conv2d_16x16x16_32",
        "quantized_depthwise_conv2d_16x16x32",
        "quantized_pointwise_conv2d_16x16x32_16",
        "global_avg_pool2d_16x16x16",
        "quantized_dense_16_10",
    ]


@pytest.mark.parametrize(("machine", "tables"), [("x86-znver4", 1), ("x86-skylake-avx512", 0)])
@pytest.mark.parametrize("case", ["silu-of-bytes", "hard-swish-of-bytes", "beside-its-bytes"])
def test_functions_of_a_byte_are_tables(case: str, machine: str, tables: int) -> None:
    """Where the CPU looks up bytes; in the kernel of the layer before, or by themselves."""
    backend = StaticBackend(CompileOptions(target.resolve(machine)))
    net, output = network(case, signed=False)
    lowered = pipeline.lower_graph(imported(net, output), backend.legalize())
    reads = [
        str(buffer.dtype)
        for function in lowered.functions.values()
        if isinstance(function, tirx.PrimFunc)
        for buffer in function.params
        if [int(extent) for extent in buffer.shape] == [256]
    ]
    assert reads == ["uint8"] * tables


def check(found: Array, right: Array, scale: float, different: float = DIFFERENT) -> None:
    integers = np.rint((found - right) / scale)
    assert np.abs(integers).max() <= 1
    assert np.count_nonzero(integers) <= max(1, different * integers.size)
    # a result that is all one value would say nothing
    assert len(np.unique(np.rint(right / scale))) > min(8, right.size // 3)


def imported(net: QuantizedNetwork, output: str) -> tvm.IRModule:
    return relax_import.import_onnx(cleaning.clean(net.model(output)).model)


def run(
    net: QuantizedNetwork, output: str, rng: np.random.Generator
) -> tuple[Array, Array, list[str]]:
    """The compiled network's result, the right one, and the kernels' names."""
    x = rng.standard_normal(net.shape, dtype=np.float32)
    (right,) = onnx_export.evaluator(net.model(output), optimized=False).run(x)
    program = compiled(imported(net, output))
    (found,) = execute(program, x, [right.shape])
    return found, right, [call.kernel for call in program.calls]
