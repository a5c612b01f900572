"""Small quantized ONNX networks, as quantizers write them, with random weights and zero points."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 17


@dataclass
class QuantizedNetwork:
    """A graph that grows by layers; each method takes and gives the name of a real tensor.

    ``signed`` activations are int8. Scales are such that results spread over most of their range.
    """

    shape: tuple[int, ...]
    signed: bool = False
    seed: int = 0
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)
    scales: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.count = 0
        self.channels = {"x": self.shape[1]}

    def start(self) -> str:
        return self.quantized("x", 0.02)

    def quantized(self, value: str, scale: float, zero: int | None = None) -> str:
        """A pair of quantize and dequantize."""
        if zero is None:
            zero = int(self.rng.integers(90, 160))
        dtype, offset = (np.int8, 128) if self.signed else (np.uint8, 0)
        parameters = [
            self.constant(np.float32(scale)),
            self.constant(np.array(zero - offset, dtype)),
        ]
        integers = self.node("QuantizeLinear", [value, *parameters])
        real = self.node("DequantizeLinear", [integers, *parameters])
        self.scales[real] = scale
        self.channels[real] = self.channels[value]
        return real

    def convolution(
        self,
        value: str,
        channels: int,
        kernel: tuple[int, int] = (1, 1),
        *,
        per_channel: bool = True,
        **attributes: Any,
    ) -> str:
        """With weights and bias quantized; the real result."""
        groups = int(attributes.get("group", 1))
        shape = (channels, self.channels[value] // groups, *kernel)
        scale = self.rng.uniform(0.5, 2, channels if per_channel else 1) / np.prod(shape[1:])
        weight, bias = self.weights(value, shape, scale, axis=0)
        return self.node(
            "Conv", [value, weight, bias], channels, kernel_shape=list(kernel), **attributes
        )

    def transposed(self, value: str, channels: int, kernel: tuple[int, int]) -> str:
        """A transposed convolution whose windows lie side by side; the real result."""
        shape = (self.channels[value], channels, *kernel)
        scale = self.rng.uniform(0.5, 2, channels) / shape[0]
        weight, bias = self.weights(value, shape, scale, axis=1)
        how = {"kernel_shape": list(kernel), "strides": list(kernel)}
        return self.node("ConvTranspose", [value, weight, bias], channels, **how)

    def dense(self, value: str, features: int) -> str:
        shape = (features, self.channels[value])
        scale = self.rng.uniform(0.5, 2, features) / shape[1]
        weight, bias = self.weights(value, shape, scale, axis=0)
        return self.node("Gemm", [value, weight, bias], features, transB=1)

    def weights(
        self, value: str, shape: tuple[int, ...], scale: NDArray[np.floating], axis: int
    ) -> tuple[str, str]:
        scale = scale.astype(np.float32) * np.float32(0.03)
        integers = self.rng.integers(-127, 128, shape, dtype=np.int8)
        bias = self.rng.integers(-3000, 3000, shape[axis], dtype=np.int32)
        bias_scale = (scale * np.float32(self.scales[value])).astype(np.float32)
        if scale.size == 1:
            scale, bias_scale = scale.reshape(()), bias_scale.reshape(())
        return (
            self.node(
                "DequantizeLinear",
                [
                    self.constant(integers),
                    self.constant(scale),
                    self.constant(np.zeros_like(scale, np.int8)),
                ],
                axis=axis,
            ),
            self.node(
                "DequantizeLinear",
                [
                    self.constant(bias),
                    self.constant(bias_scale),
                    self.constant(np.zeros_like(bias_scale, np.int32)),
                ],
                axis=0,
            ),
        )

    def node(
        self, operator: str, inputs: list[str], channels: int | None = None, **attributes: Any
    ) -> str:
        """One output; as many channels as the first input has unless ``channels`` says it."""
        self.count += 1
        name = f"{operator.lower()}_{self.count}"
        self.nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        self.channels[name] = channels or self.channels.get(inputs[0], 0)
        if operator == "Flatten" and inputs[0] in self.scales:
            self.scales[name] = self.scales[inputs[0]]
        return name

    def constant(self, array: NDArray[np.generic] | np.generic) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def model(self, *outputs: str) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "quantized",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, self.shape)],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
            self.constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
        model.ir_version = 8
        inferred: onnx.ModelProto = onnx.shape_inference.infer_shapes(model)
        onnx.checker.check_model(inferred, full_check=True)
        return inferred


def small_network(batch: int = 1) -> onnx.ModelProto:
    """A stem, a block with a residual and a head, for images of 32x32."""
    net = QuantizedNetwork((batch, 3, 32, 32))
    ring = [1, 1, 1, 1]
    stem = net.convolution(net.start(), 16, (3, 3), strides=[2, 2], pads=ring)
    x = net.quantized(net.node("Relu", [stem]), 0.01, 0)
    y = net.quantized(net.node("HardSwish", [net.convolution(x, 32)]), 0.01)
    y = net.quantized(net.convolution(y, 32, (3, 3), group=32, pads=ring), 0.01)
    x = net.quantized(net.node("Add", [net.convolution(y, 16), x]), 0.0117)
    x = net.quantized(net.node("GlobalAveragePool", [x]), 0.0051)
    return net.model(net.dense(net.node("Flatten", [x]), 10))
