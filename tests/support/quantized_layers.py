"""Single layers over integers, as quantized files have them: each is a small network of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import onnx
from onnx import compose, helper
from support.quantized_networks import OPSET, QuantizedNetwork

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


def of_bytes(layers: Layers, operator: str) -> Layers:
    """What follows a layer whose own result is quantized: a function of one byte."""

    def extended(net: QuantizedNetwork, x: str) -> str:
        return net.node(operator, [net.quantized(layers(net, x), 0.0173)])

    return extended


def silu_of_bytes(layers: Layers) -> Layers:
    """As exporters spell it, its sigmoid quantized too."""

    def extended(net: QuantizedNetwork, x: str) -> str:
        sums = net.quantized(layers(net, x), 0.0173)
        gate = net.quantized(net.node("Sigmoid", [sums]), 1 / 255, 0)
        return net.node("Mul", [sums, gate])

    return extended


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


def scaled(net: QuantizedNetwork, x: str) -> str:
    """Nothing but arithmetic between what is quantized twice."""
    return net.node("Mul", [x, net.constant(np.float32(0.5))])


def pooled(net: QuantizedNetwork, x: str) -> str:
    return net.node("GlobalAveragePool", [x])


def beside_its_bytes(net: QuantizedNetwork, x: str) -> str:
    """A function of bytes that somebody else reads too."""
    sums = net.quantized(net.convolution(x, 16), 0.0173)
    active = net.quantized(net.node("Tanh", [sums]), 0.0079)
    return net.node("Add", [net.convolution(active, 16), sums])


def transposed(channels: int, kernel: tuple[int, int], operator: str = "Relu") -> Layers:
    def layers(net: QuantizedNetwork, x: str) -> str:
        return net.node(operator, [net.transposed(x, channels, kernel)])

    return layers


def transposed_twice(net: QuantizedNetwork, x: str) -> str:
    """As a detector's head has them: a function of bytes between, real numbers after."""
    larger = net.quantized(net.transposed(x, 8, (2, 2)), 0.0173)
    active = net.quantized(net.node("HardSwish", [larger]), 0.0123)
    last = net.transposed(active, 1, (2, 2))
    return net.node("Mul", [last, net.quantized(net.node("Sigmoid", [last]), 1 / 255, 0)])


CASES: dict[str, tuple[tuple[int, ...], Layers]] = {
    "1x1": ((1, 16, 7, 9), pointwise),
    "1x1-of-few-channels": ((2, 6, 5, 5), pointwise),
    "1x1-of-many-channels": ((1, 256, 3, 5), conv((1, 1), channels=48)),
    "1x1-of-rows-of-14": ((1, 136, 3, 14), conv((1, 1), channels=19)),
    "1x1-of-rows-of-9": ((2, 256, 2, 9), conv((1, 1), channels=40)),
    "3x3-of-rows-of-13": ((1, 136, 3, 13), conv((3, 3), channels=9, pads=[1, 1, 1, 1])),
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
    "groups-of-eight": (
        (1, 16, 6, 5),
        conv((3, 3), channels=16, group=2, pads=[1, 1, 1, 1]),
    ),
    "groups-of-four": ((1, 16, 4, 5), conv((1, 1), channels=32, group=4)),
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
    "silu-of-bytes": ((1, 16, 7, 9), silu_of_bytes(conv((1, 1), channels=37))),
    "hard-swish-of-bytes": (
        (2, 19, 7, 7),
        of_bytes(depthwise((3, 3), pads=[1, 1, 1, 1]), "HardSwish"),
    ),
    "stem-of-bytes": (
        (1, 3, 17, 22),
        silu_of_bytes(conv((3, 3), strides=[2, 2], pads=[1, 1, 1, 1])),
    ),
    "transposed": ((1, 16, 5, 7), transposed(20, (2, 2))),
    "transposed-3x1": ((2, 12, 4, 3), transposed(33, (3, 1), "HardSwish")),
    "transposed-twice": ((1, 16, 3, 5), transposed_twice),
    "beside-its-bytes": ((1, 16, 6, 5), beside_its_bytes),
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
    "scaled": ((2, 3, 6, 5), scaled),
    "pooled": ((3, 40, 5, 5), pooled),
    "classifier": ((4, 32, 1, 1), classifier),
}


def network(case: str, *, signed: bool) -> tuple[QuantizedNetwork, str]:
    shape, layers = CASES[case]
    net = QuantizedNetwork(shape, signed)
    return net, net.quantized(layers(net, net.start()), 0.0123)


def side_by_side(cases: Iterable[str]) -> tuple[onnx.ModelProto, list[float]]:
    """One network of many, each with an input and an output, and the scales of the outputs."""
    graphs: list[onnx.GraphProto] = []
    scales: list[float] = []
    for case in cases:
        net, output = network(case, signed=len(graphs) % 2 == 1)
        graphs.append(compose.add_prefix(net.model(output), f"{case}_").graph)
        scales.append(net.scales[output])
    graph = helper.make_graph(
        [node for one in graphs for node in one.node],
        "side_by_side",
        [value for one in graphs for value in one.input],
        [value for one in graphs for value in one.output],
        [value for one in graphs for value in one.initializer],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = 8
    return model, scales
