"""Quantized files: what comes out is what the file says, to one integer, by kernels over integers.

The reference is ONNX Runtime with its optimizations off, which computes each operator in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tvm
from numpy.typing import NDArray
from support.quantized_networks import QuantizedNetwork
from support.static_programs import compiled, execute

from tvm_mobilenet.network import cleaning, onnx_export, relax_import

Array = NDArray[np.float32]
# of all results: two ways to round to the nearest integer take different ones as rarely as this
DIFFERENT = 0.01
# and where one that differs is a factor of a whole channel
OF_CHANNELS = 0.2

Layers = Callable[[QuantizedNetwork, str], str]


def pointwise(net: QuantizedNetwork, x: str) -> str:
    return net.convolution(x, 24)


def act(operator: str, **attributes: Any) -> Layers:
    def layers(net: QuantizedNetwork, x: str) -> str:
        return net.node(operator, [net.convolution(x, 20)], **attributes)

    return layers


def clipped(net: QuantizedNetwork, x: str) -> str:
    bounds = [net.constant(np.float32(0)), net.constant(np.float32(0.7))]
    return net.node("Clip", [net.convolution(x, 20), *bounds])


def silu(net: QuantizedNetwork, x: str) -> str:
    sums = net.convolution(x, 20)
    return net.node("Mul", [sums, net.node("Sigmoid", [sums])])


def conv(kernel: tuple[int, int], channels: int = 16, **attributes: Any) -> Layers:
    def layers(net: QuantizedNetwork, x: str) -> str:
        return net.convolution(x, channels, kernel, **attributes)

    return layers


def depthwise(kernel: tuple[int, int], **attributes: Any) -> Layers:
    def layers(net: QuantizedNetwork, x: str) -> str:
        channels = net.channels[x]
        return net.convolution(x, channels, kernel, group=channels, **attributes)

    return layers


def residual(net: QuantizedNetwork, x: str) -> str:
    """With the convolution's own result quantized before it is added, and ReLU after that."""
    branch = net.quantized(net.convolution(x, net.channels[x]), 0.01)
    return net.node("Relu", [net.node("Add", [branch, x])])


def residual_in_float(net: QuantizedNetwork, x: str) -> str:
    return net.node("Add", [net.convolution(x, net.channels[x]), x])


def squeeze_excite(net: QuantizedNetwork, x: str) -> str:
    pooled = net.quantized(net.node("GlobalAveragePool", [x]), 0.0087)
    squeezed = net.quantized(net.node("Relu", [net.convolution(pooled, 8)]), 0.01, 0)
    gate = net.node("HardSigmoid", [net.convolution(squeezed, net.channels[x])], alpha=1 / 6)
    return net.node("Mul", [x, net.quantized(gate, 1 / 255, 0)])


def concatenated(net: QuantizedNetwork, x: str) -> str:
    other = net.quantized(net.convolution(x, 12), 0.02)
    return net.node("Concat", [x, other], net.channels[x] + 12, axis=1)


def classifier(net: QuantizedNetwork, x: str) -> str:
    return net.dense(net.node("Flatten", [x]), 61)


def pooled(net: QuantizedNetwork, x: str) -> str:
    return net.node("GlobalAveragePool", [x])


CASES: dict[str, tuple[tuple[int, ...], Layers]] = {
    "1x1": ((1, 16, 7, 9), pointwise),
    "1x1-of-few-channels": ((2, 6, 5, 5), pointwise),
    "1x1-of-odd-channels": ((1, 37, 3, 5), conv((1, 1), channels=19)),
    "1x1-strided": ((1, 16, 9, 7), conv((1, 1), strides=[2, 2])),
    "one-scale": ((1, 16, 4, 6), conv((1, 1), per_channel=False)),
    "relu": ((1, 16, 6, 6), act("Relu")),
    "relu6-like": ((1, 16, 6, 6), clipped),
    "hard-swish": ((1, 16, 6, 6), act("HardSwish")),
    "leaky-relu": ((1, 16, 6, 6), act("LeakyRelu", alpha=0.1)),
    "silu": ((1, 16, 6, 6), silu),
    "3x3": ((1, 16, 9, 8), conv((3, 3), pads=[1, 1, 1, 1])),
    "3x3-dilated": ((1, 16, 9, 9), conv((3, 3), pads=[2, 2, 2, 2], dilations=[2, 2])),
    "3x3-strided-asymmetric": ((1, 20, 8, 8), conv((3, 3), strides=[2, 2], pads=[0, 0, 1, 1])),
    "grouped": ((1, 32, 6, 5), conv((3, 3), channels=32, group=2, pads=[1, 1, 1, 1])),
    "grouped-narrow": ((1, 18, 6, 5), conv((3, 3), channels=18, group=3, pads=[1, 1, 1, 1])),
    "depthwise": ((1, 32, 8, 12), depthwise((3, 3), pads=[1, 1, 1, 1])),
    "depthwise-odd": ((2, 19, 7, 7), depthwise((3, 3), pads=[1, 1, 1, 1])),
    "depthwise-strided": ((1, 16, 9, 10), depthwise((3, 3), strides=[2, 2], pads=[0, 0, 1, 1])),
    "depthwise-strided-by-row": (
        (1, 16, 9, 11),
        depthwise((3, 3), strides=[2, 1], pads=[1, 1, 1, 1]),
    ),
    "depthwise-5x5": ((1, 16, 8, 12), depthwise((5, 5), pads=[2, 2, 2, 2])),
    "depthwise-5x5-strided": (
        (1, 24, 11, 14),
        depthwise((5, 5), strides=[2, 2], pads=[2, 2, 2, 2]),
    ),
    "depthwise-7x7": ((1, 8, 9, 9), depthwise((7, 7), pads=[3, 3, 3, 3])),
    "depthwise-1x3": ((1, 16, 5, 6), depthwise((1, 3), pads=[0, 1, 0, 1])),
    "depthwise-dilated": ((1, 16, 9, 9), depthwise((3, 3), pads=[2, 2, 2, 2], dilations=[2, 2])),
    "stem": ((1, 3, 17, 20), conv((3, 3), strides=[2, 2], pads=[1, 1, 1, 1])),
    "stem-grey": ((2, 1, 12, 12), conv((5, 5), pads=[2, 2, 2, 2])),
    "residual": ((1, 20, 5, 7), residual),
    "residual-in-float": ((1, 20, 5, 7), residual_in_float),
    "squeeze-excite": ((1, 16, 6, 6), squeeze_excite),
    "concatenated": ((1, 16, 4, 5), concatenated),
    "max-pool": (
        (1, 16, 8, 8),
        lambda net, x: net.node(
            "MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]
        ),
    ),
    "average-pool": (
        (1, 16, 8, 8),
        lambda net, x: net.node("AveragePool", [x], kernel_shape=[2, 2], strides=[2, 2]),
    ),
    "pooled": ((3, 40, 5, 5), pooled),
    "classifier": ((4, 32, 1, 1), classifier),
}
# cases that float kernels compute, from dequantized integers
IN_FLOAT = ("grouped-narrow", "depthwise-dilated", "pooled", "max-pool", "average-pool")


def network(case: str, *, signed: bool) -> tuple[QuantizedNetwork, str]:
    shape, layers = CASES[case]
    net = QuantizedNetwork(shape, signed)
    return net, net.quantized(layers(net, net.start()), 0.0123)


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
