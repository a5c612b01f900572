"""Small ONNX files as other programs write them: right, odd and wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

IMAGE = (1, 3, 8, 8)
FLOAT, FLOAT16, INT64 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT64
Shapes = Mapping[str, Sequence[int | str] | None]


def model(
    nodes: Sequence[onnx.NodeProto],
    weights: Mapping[str, Any] | None = None,
    *,
    output: int = TensorProto.FLOAT,
    shape: Sequence[int | str] = ("n", "c", "h", "w"),
    opset: int = 17,
    ir_version: int = 8,
) -> onnx.ModelProto:
    """Nodes from ``x``, one image of 8x8, to ``y`` of that shape and element type."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, IMAGE)
    y = helper.make_tensor_value_info("y", output, shape)
    given = [numpy_helper.from_array(np.asarray(w), name) for name, w in (weights or {}).items()]
    graph = helper.make_graph(list(nodes), "foreign", [x], [y], given)
    domains = imports(nodes, opset)
    return helper.make_model(graph, opset_imports=domains, ir_version=ir_version)


def network(
    inputs: Shapes,
    nodes: Sequence[onnx.NodeProto],
    outputs: Mapping[str, int],
    weights: Mapping[str, Any] | None = None,
    *,
    opset: int = 17,
    kind: int = FLOAT,
) -> onnx.ModelProto:
    """Nodes from ``inputs``, of the shapes and element type given, to outputs of these types."""
    given = [numpy_helper.from_array(np.asarray(w), name) for name, w in (weights or {}).items()]
    graph = helper.make_graph(
        list(nodes),
        "foreign",
        [helper.make_tensor_value_info(name, kind, shape) for name, shape in inputs.items()],
        [
            helper.make_tensor_value_info(name, one, inputs.get(name))
            for name, one in outputs.items()
        ],
        given,
    )
    made = helper.make_model(graph, opset_imports=imports(nodes, opset), ir_version=8)
    return onnx.shape_inference.infer_shapes(made, data_prop=True)


def imports(nodes: Sequence[onnx.NodeProto], opset: int) -> list[onnx.OperatorSetIdProto]:
    """The operator sets of these nodes."""
    return [
        helper.make_opsetid(domain, opset if domain == "" else 1)
        for domain in sorted({node.domain for node in nodes} | {""})
    ]


def weights_first(made: onnx.ModelProto) -> onnx.ModelProto:
    """The model with its weights listed as inputs, before the image, as files of IR 3 may."""
    image = onnx.ValueInfoProto()
    image.CopyFrom(made.graph.input[0])
    del made.graph.input[:]
    for one in made.graph.initializer:
        made.graph.input.append(helper.make_tensor_value_info(one.name, one.data_type, one.dims))
    made.graph.input.append(image)
    made.ir_version = 3
    return made


def save(made: onnx.ModelProto, folder: Path, name: str = "foreign") -> Path:
    path = folder / f"{name}.onnx"
    onnx.save_model(made, str(path))
    return path


def classifier(*head: onnx.NodeProto, classes: int = 4) -> onnx.ModelProto:
    """Pooling and a Gemm to ``scores``, then the nodes of ``head`` to ``y``, one row of scores."""
    node = helper.make_node
    body = [
        node("GlobalAveragePool", ["x"], ["pooled"]),
        node("Flatten", ["pooled"], ["flat"]),
        node("Gemm", ["flat", "w"], ["scores"]),
    ]
    w = np.random.default_rng(3).standard_normal((3, classes), np.float32) * 9
    return model([*body, *head], {"w": w}, shape=(1, classes))
