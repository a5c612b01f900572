"""An ONNX network as a list of nodes and named constants that passes change in place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import onnx

Constants = dict[str, NDArray[Any]]


@dataclass
class Graph:
    """The nodes of a network in the order they run, and its ``constants`` by name.

    ``model`` gives everything else: inputs, outputs, operator sets.
    """

    model: onnx.ModelProto
    nodes: list[onnx.NodeProto]
    constants: Constants

    @property
    def inputs(self) -> list[str]:
        return [one.name for one in self.model.graph.input if one.name not in self.constants]

    @property
    def outputs(self) -> list[str]:
        return [one.name for one in self.model.graph.output]

    def makers(self) -> dict[str, onnx.NodeProto]:
        """The node that makes each tensor."""
        return {name: node for node in self.nodes for name in node.output if name}

    def readers(self) -> dict[str, list[onnx.NodeProto]]:
        """The nodes that read each tensor, one as often as it does."""
        found: dict[str, list[onnx.NodeProto]] = {}
        for node in self.nodes:
            for name in node.input:
                found.setdefault(name, []).append(node)
        return found

    def new_name(self, stem: str) -> str:
        """A name that nothing in the network has."""
        taken = {*self.constants, *self.inputs, *self.outputs}
        taken |= {name for node in self.nodes for name in (*node.input, *node.output)}
        name, count = stem, 1
        while name in taken:
            name, count = f"{stem}_{count}", count + 1
        return name

    def add_constant(self, stem: str, value: NDArray[Any]) -> str:
        """Keep a constant under a new name, which is returned."""
        name = self.new_name(stem)
        self.constants[name] = value
        return name

    def remove(self, nodes: Iterable[onnx.NodeProto]) -> None:
        gone = {id(node) for node in nodes}
        self.nodes = [node for node in self.nodes if id(node) not in gone]

    def to_model(self) -> onnx.ModelProto:
        return make_model(self.model, self.nodes, self.constants)


def graph_of(model: onnx.ModelProto) -> Graph:
    """A graph of its own; ``model`` is left alone."""
    from onnx import numpy_helper

    constants = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    nodes = []
    for original in model.graph.node:
        if original.op_type == "Constant" and original.attribute[0].name == "value":
            constants[original.output[0]] = numpy_helper.to_array(original.attribute[0].t)
            continue
        node = type(original)()
        node.CopyFrom(original)
        nodes.append(node)
    return Graph(model, nodes, constants)


def make_model(
    like: onnx.ModelProto, nodes: Sequence[onnx.NodeProto], constants: Mapping[str, NDArray[Any]]
) -> onnx.ModelProto:
    """A network with the inputs, outputs and operator sets of ``like``, and what its nodes read."""
    from onnx import helper, numpy_helper

    read = {name for node in nodes for name in node.input}
    read |= {one.name for one in like.graph.output}
    weights = [
        numpy_helper.from_array(np.ascontiguousarray(value).reshape(value.shape), name)
        for name, value in constants.items()
        if name in read
    ]
    given = {one.name for one in like.graph.initializer}
    inputs = [one for one in like.graph.input if one.name not in given]
    graph = helper.make_graph(
        list(nodes), like.graph.name or "network", inputs, list(like.graph.output), weights
    )
    return helper.make_model(graph, opset_imports=like.opset_import, ir_version=like.ir_version)


def shapes_of(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor of float32 that ONNX's inference finds a static one for."""
    import onnx

    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {}
    for value in (*inferred.value_info, *inferred.input, *inferred.output):
        kind = value.type.tensor_type
        if kind.elem_type != onnx.TensorProto.FLOAT or not kind.HasField("shape"):
            continue
        dims = [dim.dim_value for dim in kind.shape.dim]
        if all(size > 0 for size in dims):
            shapes[value.name] = tuple(dims)
    return shapes


def attribute(node: onnx.NodeProto, name: str, default: Any = None) -> Any:
    """The value of a node's attribute, ``default`` where it has none of that name."""
    from onnx import helper

    for one in node.attribute:
        if one.name == name:
            value = helper.get_attribute_value(one)
            return value.decode() if isinstance(value, bytes) else value
    return default


def set_attribute(node: onnx.NodeProto, name: str, value: Any) -> None:
    from onnx import helper

    kept = [one for one in node.attribute if one.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute(name, value)])
