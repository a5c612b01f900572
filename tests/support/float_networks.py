"""Small float ONNX networks to quantize, and samples of their input."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tvm_mobilenet.network.signature import InputTensor
from tvm_mobilenet.quantization.samples import Samples, open_samples

IMAGE = (1, 8, 8, 8)
node = helper.make_node


def network(
    nodes: list[onnx.NodeProto],
    weights: Mapping[str, Any],
    outputs: tuple[str, ...] = ("y",),
    image: tuple[int, ...] = IMAGE,
) -> onnx.ModelProto:
    """Nodes from ``x`` to ``outputs``; weights are float32 unless they are integers."""
    given = []
    for name, value in weights.items():
        array = np.asarray(value)
        array = array if array.dtype.kind == "i" else array.astype(np.float32)
        given.append(numpy_helper.from_array(array, name))
    graph = helper.make_graph(
        nodes,
        "float",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, image)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        given,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    made = onnx.shape_inference.infer_shapes(made)
    onnx.checker.check_model(made, full_check=True)
    return made


def conv(
    rng: np.random.Generator, outputs: int, inputs: int, size: int = 1, spread: float = 0.0
) -> NDArray[Any]:
    """Weights that keep the variance; ``spread`` is of the channels' sizes, in powers of ten."""
    weight = rng.standard_normal((outputs, inputs, size, size)) / np.sqrt(inputs * size * size)
    scales = 10 ** rng.uniform(-spread, 0, outputs)
    scaled: NDArray[Any] = weight * scales[:, None, None, None]
    return scaled


def samples_of(
    values: NDArray[np.float32], folder: Path, name: str = "x", batch: int = 1
) -> Samples:
    """Samples as ``--calibrate`` reads them."""
    path = folder / "samples.npy"
    np.save(path, values)
    inputs = (InputTensor(name, (batch, *values.shape[1:])),)
    return open_samples(path, inputs, lambda _: np.zeros(()))


def mobile(rng: np.random.Generator, spread: float = 0.0) -> onnx.ModelProto:
    """A layer of every kind: stem, depthwise, 1x1 with a sum, squeeze-and-excite, classifier."""
    nodes = [
        node("Conv", ["x", "w0", "b0"], ["c0"], pads=[1] * 4, strides=[2, 2]),
        node("HardSwish", ["c0"], ["a0"]),
        node("Conv", ["a0", "w1", "b1"], ["c1"], pads=[1] * 4, group=16),
        node("Relu", ["c1"], ["a1"]),
        node("GlobalAveragePool", ["a1"], ["p"]),
        node("Conv", ["p", "w2", "b2"], ["c2"]),
        node("HardSigmoid", ["c2"], ["gate"], alpha=1 / 6, beta=0.5),
        node("Mul", ["a1", "gate"], ["scaled"]),
        node("Conv", ["scaled", "w3", "b3"], ["c3"]),
        node("Add", ["a0", "c3"], ["sum"]),
        node("MaxPool", ["sum"], ["m"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", ["m", "w4", "b4"], ["c4"]),
        node("Relu", ["c4"], ["a4"]),
        node("GlobalAveragePool", ["a4"], ["q"]),
        node("Flatten", ["q"], ["f"]),
        node("Gemm", ["f", "w5", "b5"], ["y"], transB=1),
    ]
    shapes = ((16, 8, 3), (16, 1, 3), (16, 16, 1), (16, 16, 1), (32, 16, 1), (10, 32, 1))
    weights = {f"w{i}": conv(rng, *shape, spread) for i, shape in enumerate(shapes)}
    weights["w5"] = weights["w5"][:, :, 0, 0]
    biases = {f"b{i}": rng.standard_normal(shape[0]) / 4 for i, shape in enumerate(shapes)}
    return network(nodes, {**weights, **biases})


def separable(
    batch: int | str = 1, height: int | str = 32, width: int | str = 32
) -> onnx.ModelProto:
    """Stem, depthwise, 1x1, pooling and classifier: five kernels, soon tuned and compiled."""
    rng = np.random.default_rng(0)
    shapes = {"stem": (16, 3, 3, 3), "depthwise": (16, 1, 3, 3), "pointwise": (32, 16, 1, 1)}
    weights = {name: rng.normal(0, 0.2, shape) for name, shape in shapes.items()}
    weights["classifier"] = rng.normal(0, 0.2, (32, 10))
    pads = [1, 1, 1, 1]
    nodes = [
        helper.make_node("Conv", ["x", "stem"], ["a"], strides=[2, 2], pads=pads),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "depthwise"], ["c"], group=16, pads=pads),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("Conv", ["d", "pointwise"], ["e"]),
        helper.make_node("Relu", ["e"], ["f"]),
        helper.make_node("GlobalAveragePool", ["f"], ["g"]),
        helper.make_node("Flatten", ["g"], ["h"]),
        helper.make_node("MatMul", ["h", "classifier"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, height, width])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 10])],
        [onnx.numpy_helper.from_array(w.astype(np.float32), name) for name, w in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
