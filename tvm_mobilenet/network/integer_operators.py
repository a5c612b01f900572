"""Operators over integers → what they stand for: float ones between quantize and dequantize.

QLinearConv and QLinearMatMul are ONNX's own; the others are ONNX Runtime's, whose quantizer writes
them (``QuantFormat.QOperator``), and mean the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

ONNX_RUNTIME = "com.microsoft"
BOTH = ("DequantizeLinear", "QuantizeLinear")  # operators that it has too, and they mean the same
WITHOUT_MEANING = ("channels_last", "opset")  # attributes that only ONNX Runtime's operators have


class _Spelling:
    """The nodes that one operator becomes."""

    def __init__(self, node: onnx.NodeProto, constants: dict[str, NDArray[np.generic]]) -> None:
        self.node = node
        self.constants = constants  # of the whole graph; gets those that are made here
        self.made: dict[str, NDArray[np.generic]] = {}
        self.nodes: list[onnx.NodeProto] = []

    def real(self, first: int, axis: int | None = None) -> str:
        """What the integers, scale and zero point from the ``first`` input on stand for."""
        return self.dequantized(list(self.node.input[first : first + 3]), axis)

    def dequantized(self, inputs: list[str], axis: int | None = None) -> str:
        # before opset 13 there is no axis, nor more than one scale
        several = self.constants[inputs[1]].size > 1 if inputs[1] in self.constants else True
        attributes: dict[str, Any] = {"axis": axis} if axis is not None and several else {}
        return self.add("DequantizeLinear", [one for one in inputs if one], **attributes)

    def bias(self, name: str, scales: tuple[str, str], factor: float = 1.0) -> str:
        """An int32 bias, whose scale is that of the products that are summed, times ``factor``."""
        first, second = (self.constants[scale].astype(np.float32) for scale in scales)
        product = (first * second * np.float32(factor)).astype(np.float32)
        return self.dequantized([name, self.constant("scale", product)], axis=0)

    def quantized(self, value: str, first: int) -> None:
        """The operator's result: by the scale and zero point from the ``first`` input on."""
        inputs = [value, *(one for one in self.node.input[first : first + 2] if one)]
        self.add("QuantizeLinear", inputs, self.node.output[0])

    def add(self, operator: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        from onnx import helper

        name = output or f"{self.node.output[0]}_{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    def same(self, operator: str, inputs: list[str], output: str = "") -> str:
        """The float operator, with the attributes of the one over integers."""
        name = self.add(operator, inputs, output)
        kept = [one for one in self.node.attribute if one.name not in WITHOUT_MEANING]
        self.nodes[-1].attribute.extend(kept)
        return name

    def constant(self, title: str, array: NDArray[np.generic]) -> str:
        name = f"{self.node.output[0]}_{title}"
        self.made[name] = self.constants[name] = array
        return name


def _convolution(to: _Spelling) -> None:
    inputs = [to.real(0), to.real(3, axis=0)]
    if len(to.node.input) > 8 and to.node.input[8]:
        inputs.append(to.bias(to.node.input[8], (to.node.input[1], to.node.input[4])))
    to.quantized(to.same("Conv", inputs), 6)


def _matrix_product(to: _Spelling) -> None:
    to.quantized(to.add("MatMul", [to.real(0), to.real(3, axis=1)]), 6)


def _gemm(to: _Spelling) -> None:
    names = to.node.input
    transposed = any(one.name == "transB" and one.i for one in to.node.attribute)
    inputs = [to.real(0), to.real(3, axis=0 if transposed else 1)]
    if len(names) > 6 and names[6]:
        (factor,) = [one.f for one in to.node.attribute if one.name == "alpha"] or [1.0]
        inputs.append(to.bias(names[6], (names[1], names[4]), factor))
    if len(names) > 8 and names[7]:
        to.quantized(to.same("Gemm", inputs), 7)
    else:
        to.same("Gemm", inputs, to.node.output[0])


def _of_one(operator: str) -> Callable[[_Spelling], None]:
    return lambda to: to.quantized(to.same(operator, [to.real(0)]), 3)


def _of_two(operator: str) -> Callable[[_Spelling], None]:
    return lambda to: to.quantized(to.add(operator, [to.real(0), to.real(3)]), 6)


def _softmax(to: _Spelling) -> None:
    """Of opsets before 13 it is over all axes from ``axis`` on, of which only one may be there."""
    older = any(one.name == "opset" and one.i < 13 for one in to.node.attribute)
    given = any(one.name == "axis" for one in to.node.attribute)
    if older and not given:
        value = to.add("Softmax", [to.real(0)], axis=1)
    else:
        value = to.same("Softmax", [to.real(0)])
    to.quantized(value, 3)


def _concat(to: _Spelling) -> None:
    parts = [to.real(first) for first in range(2, len(to.node.input), 3)]
    to.quantized(to.same("Concat", parts), 0)


Spelled: TypeAlias = Callable[[_Spelling], None]
SPELLED: dict[str, Spelled] = {
    "QGemm": _gemm,
    "QLinearAdd": _of_two("Add"),
    "QLinearAveragePool": _of_one("AveragePool"),
    "QLinearConcat": _concat,
    "QLinearConv": _convolution,
    "QLinearGlobalAveragePool": _of_one("GlobalAveragePool"),
    "QLinearLeakyRelu": _of_one("LeakyRelu"),
    "QLinearMatMul": _matrix_product,
    "QLinearMul": _of_two("Mul"),
    "QLinearSigmoid": _of_one("Sigmoid"),
    "QLinearSoftmax": _softmax,
}


def spell_out(model: onnx.ModelProto) -> None:
    """Rewrite ``model`` in place; an operator that it leaves, the importer names."""
    from onnx import numpy_helper

    graph = model.graph
    constants = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.op_type in BOTH and node.domain == ONNX_RUNTIME:
            node.domain = ""
        spelled = SPELLED.get(node.op_type)
        if spelled is None or _channels_last(node):
            nodes.append(node)
            continue
        to = _Spelling(node, constants)
        spelled(to)
        nodes += to.nodes
        graph.initializer.extend(numpy_helper.from_array(a, name) for name, a in to.made.items())
    del graph.node[:]
    graph.node.extend(nodes)


def _channels_last(node: onnx.NodeProto) -> bool:
    return any(one.name == "channels_last" and one.i for one in node.attribute)
