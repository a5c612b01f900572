"""Others' quantized files in one form, which computes what they do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)
from support.quantized_networks import QuantizedNetwork

from tvm_mobilenet.network import onnx_export, quantized_form

Array = NDArray[np.float32]
SHAPE = (1, 3, 12, 12)


def float_network(rng: np.random.Generator) -> onnx.ModelProto:
    """Every kind of operator that ONNX Runtime's quantizer has one over integers for."""
    shapes = {"w": (8, 3, 3, 3), "d": (8, 1, 3, 3), "p": (8, 8, 1, 1), "g": (5, 16)}
    weights = [
        numpy_helper.from_array(rng.standard_normal(shape, dtype=np.float32) / 4, name)
        for name, shape in shapes.items()
    ]
    biases = [
        numpy_helper.from_array(rng.standard_normal(size, dtype=np.float32), name)
        for name, size in {"wb": 8, "pb": 8, "gb": 5}.items()
    ]
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "w", "wb"], ["a"], strides=[2, 2], pads=[1, 1, 1, 1]),
        node("Relu", ["a"], ["b"]),
        node("Conv", ["b", "d"], ["c"], group=8, pads=[1, 1, 1, 1]),
        node("LeakyRelu", ["c"], ["e"], alpha=0.2),
        node("Conv", ["e", "p", "pb"], ["f"]),
        node("Add", ["f", "b"], ["h"]),
        node("Sigmoid", ["h"], ["i"]),
        node("Mul", ["h", "i"], ["j"]),
        node("Concat", ["j", "b"], ["k"], axis=1),
        node("AveragePool", ["k"], ["l"], kernel_shape=[2, 2], strides=[2, 2]),
        node("GlobalAveragePool", ["l"], ["m"]),
        node("Flatten", ["m"], ["n"]),
        node("Gemm", ["n", "g", "gb"], ["o"], transB=1),
        node("Softmax", ["o"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "float",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 5])],
        [*weights, *biases],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return model


class Samples(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, rng: np.random.Generator) -> None:
        self.left: Iterator[Array] = iter(
            [rng.standard_normal(SHAPE, dtype=np.float32) for _ in range(4)]
        )

    def get_next(self) -> dict[str, Array] | None:
        array = next(self.left, None)
        return None if array is None else {"x": array}


def quantized(
    rng: np.random.Generator, folder: Path, style: QuantFormat, kind: QuantType
) -> onnx.ModelProto:
    onnx.save(float_network(rng), folder / "float.onnx")
    quantize_static(
        folder / "float.onnx",
        folder / "quantized.onnx",
        Samples(rng),
        quant_format=style,
        per_channel=True,
        activation_type=kind,
        weight_type=QuantType.QInt8,
    )
    return onnx.load(folder / "quantized.onnx")


@pytest.mark.parametrize("style", list(QuantFormat))
@pytest.mark.parametrize("kind", [QuantType.QUInt8, QuantType.QInt8])
def test_the_one_form_computes_the_same(
    style: QuantFormat, kind: QuantType, rng: np.random.Generator, tmp_path: Path
) -> None:
    model = quantized(rng, tmp_path, style, kind)
    x = rng.standard_normal(SHAPE, dtype=np.float32)
    (right,) = onnx_export.evaluator(model, optimized=False).run(x)
    assert quantized_form.is_quantized(model)
    quantized_form.to_one_form(model)
    onnx.checker.check_model(model)
    (found,) = onnx_export.evaluator(model, optimized=False).run(x)
    # a middle between two integers may go either way, and the layers after it see that
    np.testing.assert_allclose(found, right, atol=0.05 * np.abs(right).max())
    kinds = Counter(node.op_type for node in model.graph.node)
    assert not [kind for kind in kinds if kind.startswith(("QLinear", "QGemm"))]
    check_form(model)


def check_form(model: onnx.ModelProto) -> None:
    """Activations are uint8, and each operator has its own of what dequantizes them."""
    constants = {one.name: one for one in model.graph.initializer}
    reads = Counter(name for node in model.graph.node for name in node.input)
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear":
            assert constants[node.input[2]].data_type == TensorProto.UINT8
        elif node.op_type == "DequantizeLinear" and node.input[0] not in constants:
            assert reads[node.output[0]] <= 1


def test_elements_are_moved_as_integers() -> None:
    net = QuantizedNetwork((1, 8, 4, 4), signed=True)
    flat = net.node("Flatten", [net.start()])
    model = net.model(net.node("Relu", [net.quantized(flat, 0.03)]))
    quantized_form.to_one_form(model)
    onnx.checker.check_model(model, full_check=True)
    order = [node.op_type for node in model.graph.node]
    pair = ["DequantizeLinear", "QuantizeLinear"]
    assert order == ["QuantizeLinear", "Flatten", *pair, "DequantizeLinear", "Relu"]


def test_integers_that_are_given_out_keep_their_type() -> None:
    net = QuantizedNetwork((1, 4, 4, 4), signed=True)
    net.start()
    integers = next(node for node in net.nodes if node.op_type == "QuantizeLinear").output[0]
    graph = helper.make_graph(
        net.nodes,
        "integers",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, net.shape)],
        [helper.make_tensor_value_info(integers, TensorProto.INT8, net.shape)],
        net.constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    quantized_form.to_one_form(model)
    onnx.checker.check_model(model, full_check=True)


def test_channels_are_shuffled_as_integers(rng: np.random.Generator) -> None:
    """One half joined with the other and shuffled, each step between a pair of its own."""
    net = QuantizedNetwork((1, 8, 4, 4))
    x = net.start()
    (zero,) = {net.nodes[0].input[2]}
    half = net.constant(np.array([4, 4]))
    net.nodes.append(helper.make_node("Split", [x, half], ["a", "b"], axis=1))

    def pair(value: str) -> str:
        scale = net.nodes[0].input[1]
        integers = net.node("QuantizeLinear", [value, scale, zero])
        return net.node("DequantizeLinear", [integers, scale, zero])

    joined = pair(net.node("Concat", [pair("b"), pair("a")], axis=1))
    groups = net.constant(np.array([1, 2, 4, 4, 4]))
    whole = net.constant(np.array([1, 8, 4, 4]))
    apart = pair(net.node("Reshape", [joined, groups]))
    turned = pair(net.node("Transpose", [apart], perm=[0, 2, 1, 3, 4]))
    model = net.model(net.node("Reshape", [turned, whole]))
    x_values = rng.standard_normal(net.shape, dtype=np.float32)
    right = onnx_export.evaluate(model, x_values)
    quantized_form.to_one_form(model)
    onnx.checker.check_model(model, full_check=True)
    kinds = Counter(node.op_type for node in model.graph.node)
    assert kinds["QuantizeLinear"] == kinds["DequantizeLinear"] == 1
    np.testing.assert_array_equal(onnx_export.evaluate(model, x_values), right)


def test_a_factor_of_products_is_one_of_what_is_added(rng: np.random.Generator) -> None:
    """As ONNX Runtime's operator says it of alpha."""
    scale, zero = "scale", "zero"
    node = helper.make_node(
        "QGemm", ["q", scale, zero, "w", scale, "wz", "b"], ["y"], alpha=0.5, domain="com.microsoft"
    )
    arrays: dict[str, NDArray[Any]] = {
        scale: np.array(0.05, np.float32),
        zero: np.array(120, np.uint8),
        "w": rng.integers(-127, 128, (8, 5), np.int8),
        "wz": np.array(0, np.int8),
        "b": rng.integers(-5000, 5000, 5, np.int32),
    }
    graph = helper.make_graph(
        [helper.make_node("QuantizeLinear", ["x", scale, zero], ["q"]), node],
        "gemm",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 5])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    x = rng.standard_normal((2, 8), dtype=np.float32)
    (right,) = onnx_export.evaluate(model, x)
    quantized_form.to_one_form(model)
    (found,) = onnx_export.evaluate(model, x)
    np.testing.assert_allclose(found, right, rtol=1e-4, atol=1e-4)


def block_quantized() -> onnx.ModelProto:
    """A matrix product of weights of 4 bits with a scale for each 8 rows of a column."""
    rng = np.random.default_rng(1)
    weights = helper.make_tensor("w", TensorProto.INT4, [16, 5], rng.integers(-8, 8, 80).tolist())
    steps = numpy_helper.from_array(rng.random((2, 5), np.float32), "steps")
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "steps"], ["r"], axis=0, block_size=8),
        helper.make_node("MatMul", ["x", "r"], ["y"]),
    ]
    return small_model(nodes, [weights, steps], [3, 16], [3, 5])


def real_weights(dtype: type) -> onnx.ModelProto:
    """As training with fake quantization leaves them: quantized and dequantized in the file."""
    rng = np.random.default_rng(1)
    arrays: dict[str, NDArray[Any]] = {
        "real": rng.standard_normal((4, 6), np.float32),
        "steps": rng.uniform(0.01, 0.02, 4).astype(np.float32),
        "zeros": np.full(4, 128 if dtype is np.uint8 else 0, dtype),
        "step": np.array(0.05, np.float32),
        "zero": np.array(3, np.uint8),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "step", "zero"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "step", "zero"], ["xr"]),
        helper.make_node("QuantizeLinear", ["real", "steps", "zeros"], ["q"], axis=0),
        helper.make_node("DequantizeLinear", ["q", "steps", "zeros"], ["r"], axis=0),
        helper.make_node("Gemm", ["xr", "r"], ["y"], transB=1),
    ]
    given = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    return small_model(nodes, given, [3, 6], [3, 4])


def by_onnx_runtime() -> onnx.ModelProto:
    """As its quantizer writes them for older opsets: operators of its own, with the same names."""
    model = real_weights(np.int8)
    for node in model.graph.node:
        if node.op_type.endswith("Linear"):
            node.domain = "com.microsoft"
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return model


def small_model(
    nodes: list[onnx.NodeProto], given: list[onnx.TensorProto], x: list[int], y: list[int]
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, y)],
        given,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


KNOWN = {
    "4 bits by block": (block_quantized(), {"MatMul": 1}),
    "ONNX Runtime's own operators": (
        by_onnx_runtime(),
        {"DequantizeLinear": 2, "QuantizeLinear": 1},
    ),
    "fake quantized int8": (real_weights(np.int8), {"DequantizeLinear": 2, "QuantizeLinear": 1}),
    "fake quantized uint8": (real_weights(np.uint8), {"DequantizeLinear": 2, "QuantizeLinear": 1}),
}


@pytest.mark.parametrize("name", KNOWN)
def test_what_is_known_before_is_computed(name: str, rng: np.random.Generator) -> None:
    """Weights become the integers that kernels take, or real numbers where none does."""
    model, expected = KNOWN[name]
    x = rng.standard_normal(
        [one.dim_value for one in model.graph.input[0].type.tensor_type.shape.dim]
    ).astype(np.float32)
    (right,) = onnx_export.evaluate(model, x)
    changed = type(model)()
    changed.CopyFrom(model)
    quantized_form.to_one_form(changed)
    onnx.checker.check_model(changed)
    kinds = Counter(node.op_type for node in changed.graph.node)
    assert {one: kinds[one] for one in expected} == expected
    names = {one.name for one in changed.graph.initializer}
    assert names == {one for node in changed.graph.node for one in node.input} & names
    (product,) = [one for one in changed.graph.node if one.op_type in ("MatMul", "Gemm")]
    makers = {one.output[0]: one for one in changed.graph.node}
    maker = makers.get(product.input[1])
    assert (product.input[1] if maker is None else maker.input[0]) in names
    (found,) = onnx_export.evaluate(changed, x)
    np.testing.assert_allclose(found, right, rtol=1e-5, atol=1e-5)


def test_one_scale_needs_no_axis(rng: np.random.Generator) -> None:
    """Which an operator of before opset 13 does not have."""
    arrays: dict[str, NDArray[Any]] = {
        "step": np.array(0.05, np.float32),
        "zero": np.array(3, np.uint8),
        "w": rng.integers(-127, 128, (4, 3, 1, 1), np.int8),
        "none": np.array(0, np.int8),
    }
    inputs = ["xq", "step", "zero", "w", "step", "none", "step", "zero"]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "step", "zero"], ["xq"]),
        helper.make_node("QLinearConv", inputs, ["yq"]),
        helper.make_node("DequantizeLinear", ["yq", "step", "zero"], ["y"]),
    ]
    given = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    model = small_model(nodes, given, [1, 3, 2, 2], [1, 4, 2, 2])
    model.opset_import[0].version = 10
    quantized_form.to_one_form(model)
    onnx.checker.check_model(model, full_check=True)


def test_scales_are_nudged_where_they_quantize() -> None:
    net = QuantizedNetwork((1, 8, 4, 4))
    model = net.model(net.convolution(net.start(), 4))
    nudged = quantized_form.nudge(model, 0.5)
    constants = {one.name: numpy_helper.to_array(one) for one in nudged.graph.initializer}
    pairs = [
        node for node in nudged.graph.node if node.input[0] in ("x", nudged.graph.node[0].output[0])
    ]
    quantize, dequantize = (constants[node.input[1]] for node in pairs)
    np.testing.assert_allclose(quantize, 1.5 * dequantize, rtol=1e-6)
    assert model.graph.node[0].input[1] == model.graph.node[1].input[1]
