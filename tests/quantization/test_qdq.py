"""Where the QDQ network rounds, and that each layer is its numbers' arithmetic to one quantum."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from support.float_networks import conv, mobile, network, node, samples_of
from torch.nn import functional

from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.network import onnx_export
from tvm_mobilenet.quantization.calibration import Abilities
from tvm_mobilenet.quantization.graph import attribute
from tvm_mobilenet.quantization.prepare import prepare
from tvm_mobilenet.quantization.quantize import How, Quantized, quantize
from tvm_mobilenet.quantization.running import Runner

PLAIN = How("minmax", correct_biases=False, equalize=False)
RNG = np.random.default_rng(5)
W = conv(RNG, 8, 8)
DEPTHWISE = conv(RNG, 8, 1, 3)


def images(count: int = 8, seed: int = 1) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((count, 8, 8, 8), np.float32)


def quantized(model: onnx.ModelProto, folder: Path, how: How = PLAIN) -> Quantized:
    found = quantize(model, samples_of(images(), folder), how)
    onnx.checker.check_model(found.model, full_check=True)
    return found


def rounded_tensors(model: onnx.ModelProto) -> list[str]:
    """The float tensors that are quantized, in the order they are made."""
    return [one.input[0] for one in model.graph.node if one.op_type == "QuantizeLinear"]


def constants_of(model: onnx.ModelProto) -> dict[str, NDArray[Any]]:
    return {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}


CONV = node("Conv", ["x", "w"], ["c"])
NEXT = node("Conv", ["a", "w"], ["y"])
LARGER = node("ConvTranspose", ["x", "t"], ["c"], strides=[2, 2])
OVERLAPPING = node("ConvTranspose", ["x", "t"], ["a"])
LAYERS: dict[str, tuple[list[onnx.NodeProto], list[str]]] = {
    "activation": ([CONV, node("Relu", ["c"], ["a"]), NEXT], ["x", "a"]),
    "hard-swish in pieces": (
        [
            CONV,
            node("Add", ["c", "three"], ["c3"]),
            node("Clip", ["c3", "zero", "six"], ["k"]),
            node("Mul", ["c", "k"], ["m"]),
            node("Div", ["m", "six"], ["a"]),
            NEXT,
        ],
        ["x", "a"],
    ),
    "sigmoid and product": (
        [CONV, node("Sigmoid", ["c"], ["s"]), node("Mul", ["c", "s"], ["a"]), NEXT],
        ["x", "a"],
    ),
    "sum beside a layer": (
        [CONV, node("Add", ["x", "c"], ["s"]), node("Relu", ["s"], ["a"]), NEXT],
        ["x", "a"],
    ),
    "two layers summed: the second takes the first along": (
        [
            CONV,
            node("MaxPool", ["x"], ["p"], kernel_shape=[1, 1]),
            node("Conv", ["p", "w1"], ["d"]),
            node("Add", ["c", "d"], ["a"]),
            NEXT,
        ],
        ["x", "c", "p", "a"],
    ),
    "automatic padding": (
        [node("Conv", ["x", "dw"], ["a"], group=8, auto_pad="SAME_LOWER"), NEXT],
        ["x", "a"],
    ),
    "transposed convolution": ([LARGER, node("Relu", ["c"], ["a"]), NEXT], ["x", "a"]),
    "transposed convolution of windows that overlap": ([OVERLAPPING, NEXT], ["a"]),
    "sum after an activation": (
        [CONV, node("Relu", ["c"], ["r"]), node("Add", ["r", "x"], ["a"]), NEXT],
        ["x", "r", "a"],
    ),
    "a result that two layers read": (
        [CONV, node("Conv", ["c", "w"], ["d"]), node("Add", ["c", "d"], ["a"]), NEXT],
        ["x", "c", "a"],
    ),
    "concatenation": (
        [
            CONV,
            node("Concat", ["x", "c"], ["k"], axis=1),
            node("Conv", ["k", "w16"], ["y"]),
        ],
        ["x", "c", "k"],
    ),
    "an output that is read on": (
        [CONV, node("Conv", ["c", "w"], ["y"])],
        ["x", "c"],
    ),
    "nothing after the last layer": (
        [CONV, node("Relu", ["c"], ["y"])],
        ["x"],
    ),
    "float operators between": (
        [CONV, node("Softmax", ["c"], ["a"], axis=1), NEXT],
        ["x", "a"],
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_only_what_lies_between_kernels_is_rounded(name: str, tmp_path: Path) -> None:
    nodes, expected = LAYERS[name]
    outputs = ("c", "y") if "output" in name else ("y",)
    numbers: dict[str, Any] = {"three": 3.0, "zero": 0.0, "six": 6.0, "w16": conv(RNG, 8, 16)}
    used = {one for each in nodes for one in each.input}
    weights = {"w": W, "w1": W[::-1], "dw": DEPTHWISE, "t": conv(RNG, 8, 8, 2), **numbers}
    model = network(nodes, {k: v for k, v in weights.items() if k in used}, outputs)
    found = quantized(model, tmp_path).model
    assert rounded_tensors(found) == expected
    # the outputs stay what the network made them
    assert [one.name for one in found.graph.output] == list(outputs)
    assert not any(one.name.endswith("_dequantized") for one in found.graph.output)


def test_a_network_of_no_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="nothing of it is computed in int8"):
        quantized(network([node("Relu", ["x"], ["y"])], {}), tmp_path)


def test_what_only_moves_values_keeps_their_scale(tmp_path: Path) -> None:
    nodes = [
        node("Relu", ["x"], ["r"]),
        node("MaxPool", ["r"], ["m"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Transpose", ["m"], ["t"], perm=[0, 1, 3, 2]),
        node("Conv", ["t", "w"], ["y"]),
    ]
    found = quantized(network(nodes, {"w": W}), tmp_path).model
    assert rounded_tensors(found) == ["x", "r", "m", "t"]
    constants = constants_of(found)
    assert len({float(constants[f"{name}_scale"]) for name in "rmt"}) == 1
    assert all(constants[f"{name}_zero_point"] == 0 for name in "rmt")


FOLDED: dict[str, tuple[list[onnx.NodeProto], list[str]]] = {
    "norm": ([CONV, node("BatchNormalization", ["c", "g", "h", "h", "v"], ["y"])], ["Conv"]),
    "norm after a transposed convolution": (
        [LARGER, node("BatchNormalization", ["c", "g", "h", "h", "v"], ["y"])],
        ["ConvTranspose"],
    ),
    "product and sum": (
        [CONV, node("Mul", ["c", "column"], ["k"]), node("Sub", ["two", "k"], ["y"])],
        ["Conv"],
    ),
    "padding": (
        [node("Pad", ["x", "pads"], ["p"]), node("Conv", ["p", "dw"], ["y"], group=8)],
        ["Conv"],
    ),
    "padding before none": (
        [
            node("Pad", ["x", "pads"], ["p"]),
            node("Conv", ["p", "dw"], ["y"], group=8, auto_pad="VALID"),
        ],
        ["Conv"],
    ),
    "automatic padding, more below": (
        [node("Conv", ["x", "dw"], ["y"], group=8, auto_pad="SAME_UPPER", strides=[2, 2])],
        ["Conv"],
    ),
    "automatic padding, more above": (
        [node("Conv", ["x", "dw"], ["y"], group=8, auto_pad="SAME_LOWER", strides=[2, 1])],
        ["Conv"],
    ),
    "matrix product and bias": (
        [
            node("Flatten", ["x"], ["f"]),
            node("MatMul", ["f", "m"], ["c"]),
            node("Add", ["b", "c"], ["y"]),
        ],
        ["Flatten", "Gemm"],
    ),
    "branches": (
        [
            node("Conv", ["x", "dw"], ["c"], group=8, pads=[1] * 4),
            node("Conv", ["x", "dw1", "h"], ["d"], group=8),
            node("BatchNormalization", ["x", "g", "h", "h", "v"], ["e"]),
            node("Add", ["c", "d"], ["cd"]),
            node("Add", ["e", "cd"], ["y"]),
        ],
        ["Conv"],
    ),
    "branches with a whole identity": (
        [
            node("Conv", ["x", "w3"], ["c"], pads=[1] * 4),
            node("Conv", ["x", "w"], ["d"]),
            node("Add", ["c", "d"], ["cd"]),
            node("Add", ["cd", "x"], ["y"]),
        ],
        ["Conv"],
    ),
    "not branches: of unlike strides": (
        [
            node("Conv", ["x", "w3"], ["c"], pads=[1] * 4, strides=[2, 2]),
            node("MaxPool", ["x"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
            node("Conv", ["p", "w"], ["d"]),
            node("Add", ["c", "d"], ["y"]),
        ],
        ["Conv", "MaxPool", "Conv", "Add"],
    ),
}


@pytest.mark.parametrize("name", FOLDED)
def test_what_can_be_is_folded_into_weights(name: str, rng: np.random.Generator) -> None:
    nodes, expected = FOLDED[name]
    weights: dict[str, Any] = {
        "w": W,
        "w3": conv(RNG, 8, 8, 3),
        "dw": DEPTHWISE,
        "t": conv(RNG, 8, 8, 2),
        "dw1": conv(RNG, 8, 1),
        "g": rng.uniform(0.5, 2, 8),
        "h": rng.standard_normal(8),
        "v": rng.uniform(0.5, 2, 8),
        "column": rng.uniform(0.5, 2, (8, 1, 1)),
        "two": 2.0,
        "pads": np.array([0, 0, 1, 0, 0, 0, 1, 2]),
        "m": rng.standard_normal((512, 6)) / 20,
        "b": rng.standard_normal(6),
    }
    used = {one for each in nodes for one in each.input}
    model = network(nodes, {key: value for key, value in weights.items() if key in used})
    graph = prepare(model)
    assert [one.op_type for one in graph.nodes] == expected
    assert not any(attribute(one, "auto_pad", "NOTSET") != "NOTSET" for one in graph.nodes)
    x = images(1, seed=int(rng.integers(1000)))
    (a,), (b,) = onnx_export.evaluate(graph.to_model(), x), onnx_export.evaluate(model, x)
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_the_numbers_of_weights_and_biases(tmp_path: Path, rng: np.random.Generator) -> None:
    """Symmetric int8 for each channel; int32 in quanta of input times weight; zero is exact."""
    found = quantized(mobile(rng, spread=1.0), tmp_path).model
    constants = constants_of(found)
    weights = [name for name in constants if name.endswith("_weight_quantized")]
    assert len(weights) == 6
    for name in weights:
        stem = name.removesuffix("_weight_quantized")
        values, steps = constants[name], constants[f"{stem}_weight_scale"]
        assert values.dtype == np.int8 and not constants[f"{stem}_weight_zero_point"].any()
        assert np.abs(values.reshape(len(values), -1)).max(axis=1).tolist() == [127] * len(values)
        assert constants[f"{stem}_bias_quantized"].dtype == np.int32
        assert not constants[f"{stem}_bias_zero_point"].any()
        (layer,) = [one for one in found.graph.node if f"{stem}_weight_dequantized" in one.input]
        step = constants[layer.input[0].replace("_dequantized", "_scale")]
        np.testing.assert_array_equal(constants[f"{stem}_bias_scale"], step * steps)
    # never below zero: all 256 numbers for what there is
    assert constants["a1_zero_point"] == 0 and constants["gate_zero_point"] == 0
    assert 0 < constants["a0_zero_point"] < 255


def test_a_matrix_product_that_adds_a_matrix_stays_float(tmp_path: Path) -> None:
    """One number for each row of the batch is no bias of a channel."""
    rows = np.array([[1.0], [2.0]])
    nodes = [node("Gemm", ["x", "m", "rows"], ["c"]), node("Gemm", ["c", "m"], ["y"])]
    model = network(nodes, {"m": W[:, :, 0, 0], "rows": rows}, image=(2, 8))
    x = np.random.default_rng(1).standard_normal((8, 8), np.float32)
    found = quantize(model, samples_of(x, tmp_path, batch=2), PLAIN)
    assert rounded_tensors(found.model) == ["c"]
    assert found.report.agreement.error < 0.03


def test_a_tensor_of_zeros_is_exact(tmp_path: Path) -> None:
    nodes = [
        node("Conv", ["x", "none", "below"], ["c"]),
        node("Relu", ["c"], ["a"]),
        node("Conv", ["a", "w"], ["d"]),
        node("Add", ["d", "x"], ["y"]),
    ]
    weights = {"w": W, "none": np.zeros_like(W), "below": -np.ones(8)}
    found = quantized(network(nodes, weights), tmp_path).report
    assert [one.decibels for one in found.tensors if one.layer == "c"] == [np.inf]


@pytest.mark.parametrize(("reduce_range", "most"), [(False, 127), (True, 63)])
def test_weights_of_7_bits(tmp_path: Path, most: int, *, reduce_range: bool) -> None:
    model = network([node("Conv", ["x", "w"], ["y"])], {"w": W})
    how = replace(PLAIN, reduce_range=reduce_range)
    constants = constants_of(quantized(model, tmp_path, how).model)
    weight, steps = constants["y_weight_quantized"], constants["y_weight_scale"]
    assert np.abs(weight.reshape(len(weight), -1)).max(axis=1).tolist() == [most] * len(weight)
    by_channel = steps.reshape(-1, 1, 1, 1)
    assert (np.abs(weight * by_channel - W) <= by_channel / 2 * (1 + 1e-5)).all()


def test_a_bias_beside_weights_of_next_to_nothing_fits(tmp_path: Path) -> None:
    weight = W.copy()
    weight[3], weight[4] = 0, 1e-12
    bias = np.linspace(-3, 4, 8)
    model = network([node("Conv", ["x", "w", "b"], ["y"])], {"w": weight, "b": bias})
    found = quantized(model, tmp_path).model
    x = images(1, seed=9)
    (a,), (b,) = onnx_export.evaluate(found, x), onnx_export.evaluate(model, x)
    np.testing.assert_allclose(a[:, 3:5], b[:, 3:5], atol=1e-5)
    numbers = constants_of(found)["y_bias_quantized"]
    assert np.abs(numbers.astype(np.int64)).max() <= 2**21


def test_a_transposed_layer_is_its_integers_to_one_quantum(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    nodes = [
        node("ConvTranspose", ["x", "t", "b"], ["c"], strides=[2, 2]),
        node("Relu", ["c"], ["a"]),
        node("ConvTranspose", ["a", "u"], ["d"], strides=[2, 2]),
        node("MaxPool", ["d"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", ["p", "w"], ["y"]),
    ]
    weights = {"t": conv(rng, 8, 8, 2), "u": conv(rng, 8, 8, 2), "w": W, "b": rng.random(8)}
    check_numbers(quantized(network(nodes, weights), tmp_path).model, rng)


@pytest.mark.parametrize("tables", [False, True])
def test_each_layer_is_its_integers_to_one_quantum(
    tables: bool, tmp_path: Path, rng: np.random.Generator
) -> None:
    model = mobile(rng, spread=0.5)
    (activation,) = [one for one in model.graph.node if one.op_type == "HardSwish"]
    activation.op_type = "Mish"
    found = quantized(model, tmp_path, How(has=Abilities(tables=tables))).model
    assert ("c0" in rounded_tensors(found)) == tables
    check_numbers(found, rng)


def check_numbers(found: onnx.ModelProto, rng: np.random.Generator) -> None:
    """Every uint8 tensor from the uint8 tensors before it, in float64 here."""
    names = [f"{name}_quantized" for name in rounded_tensors(found)]
    x = images(1, seed=int(rng.integers(1000)))
    values = dict(zip(names, Runner(found, names).run(x), strict=True))
    simulation = Simulation(found, {"x": x.astype(np.float64)}, values)
    different = total = 0
    for name in names:
        distance = np.abs(simulation.numbers(name) - values[name].astype(np.int64))
        assert distance.max() <= 1, name
        different += int(np.count_nonzero(distance))
        total += distance.size
    # where the exact value is halfway between two numbers, as float32 cannot know
    assert total > 1500 and different <= 3


class Simulation:
    """A QDQ network in float64, each layer from the ``given`` numbers of the layers before."""

    def __init__(
        self, model: onnx.ModelProto, inputs: dict[str, Any], given: dict[str, Any]
    ) -> None:
        self.makers = {name: one for one in model.graph.node for name in one.output}
        self.constants = constants_of(model)
        self.inputs, self.given = inputs, given

    def numbers(self, name: str) -> NDArray[np.int64]:
        maker = self.makers[name]
        step, zero = (self.constants[one].astype(np.float64) for one in maker.input[1:])
        found = np.round(self.value(maker.input[0]) / step) + zero
        return np.clip(found, 0, 255).astype(np.int64)

    def value(self, name: str) -> NDArray[np.float64]:
        if name in self.constants or name in self.inputs:
            values = self.constants.get(name, self.inputs.get(name))
            return np.asarray(values, np.float64)
        maker = self.makers[name]
        if maker.op_type == "DequantizeLinear":
            numbers = self.given.get(maker.input[0])
            numbers = self.constants[maker.input[0]] if numbers is None else numbers
            step, zero = (self.constants[one].astype(np.float64) for one in maker.input[1:])
            along = [1] * numbers.ndim
            if step.ndim:
                along[attribute(maker, "axis", 1)] = -1
                step, zero = step.reshape(along), zero.reshape(along)
            return (numbers.astype(np.float64) - zero) * step
        arguments = [self.value(one) for one in maker.input]
        return np.asarray(self.computed(maker, *map(torch.from_numpy, arguments)))

    def computed(self, one: onnx.NodeProto, *x: Any) -> Any:
        match one.op_type:
            case "Conv":
                stride, group = attribute(one, "strides", [1, 1]), attribute(one, "group", 1)
                padding = attribute(one, "pads", [0] * 4)[:2]
                weight, bias = x[1:]
                return functional.conv2d(x[0], weight, bias, stride, padding, groups=group)
            case "ConvTranspose":
                weight, *bias = x[1:]
                (offset,) = bias or [None]
                stride = attribute(one, "strides")
                return functional.conv_transpose2d(x[0], weight, offset, stride)
            case "Gemm":
                return functional.linear(*x)
            case "MaxPool":
                return functional.max_pool2d(x[0], 2)
            case "GlobalAveragePool":
                return x[0].mean(dim=(2, 3), keepdim=True)
        plain: dict[str, Any] = {
            "Add": torch.add,
            "Mul": torch.mul,
            "Relu": torch.relu,
            "Mish": functional.mish,
            "HardSigmoid": functional.hardsigmoid,
            "Flatten": lambda values: values.flatten(1),
        }
        return plain[one.op_type](*x)
