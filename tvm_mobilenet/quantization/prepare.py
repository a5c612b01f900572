"""What is folded before anything is quantized: a layer's scale has to be that of its last weights.

Norms and other arithmetic by a constant for each channel go into the weights before them, padding
into the convolution after it (``padding``), parallel branches that are summed become one
convolution, and a matrix product with its bias one operator.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tvm_mobilenet.quantization.branches import merge_branches
from tvm_mobilenet.quantization.graph import Graph, attribute, graph_of, set_attribute, shapes_of
from tvm_mobilenet.quantization.padding import fold_padding, spell_out_padding

if TYPE_CHECKING:
    import onnx

    from tvm_mobilenet.quantization.graph import Constants

Numbers = NDArray[np.float64]
WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def prepare(model: onnx.ModelProto) -> Graph:
    """The network, folded; its inputs and outputs are those of ``model``, which is left alone.

    Every convolution and Gemm with constant weights has a bias afterwards.
    """
    graph = graph_of(model)
    spell_out_padding(graph)
    _make_gemms(graph)
    _give_biases(graph)
    fold_padding(graph)
    while _fold_affine(graph) or merge_branches(graph):
        pass
    return graph


def is_weighted(node: onnx.NodeProto, graph: Graph) -> bool:
    """Whether it multiplies by constant weights as a convolution of images or a matrix does."""
    constants = graph.constants
    if node.op_type not in WEIGHTED or node.input[1] not in constants:
        return False
    if node.input[0] in constants or any(name not in constants for name in node.input[2:] if name):
        return False
    rank = constants[node.input[1]].ndim
    if node.op_type == "Conv":
        return rank == 4 and attribute(node, "auto_pad", "NOTSET") == "NOTSET"
    if node.op_type == "ConvTranspose":
        return rank == 4 and _side_by_side(node, constants[node.input[1]].shape[2:])
    return rank == 2 and not attribute(node, "transA", 0) and _adds_by_channel(node, constants)


def _adds_by_channel(node: onnx.NodeProto, constants: Constants) -> bool:
    """Whether what a matrix product adds is one number for each output channel, or one for all."""
    if len(node.input) < 3 or not node.input[2]:
        return True
    bias = constants[node.input[2]]
    channels = constants[node.input[1]].shape[channel_axis(node)]
    return bias.size == 1 or bias.shape[-1] == bias.size == channels


def _side_by_side(node: onnx.NodeProto, kernel: tuple[int, ...]) -> bool:
    """Whether a transposed convolution's windows do not overlap and leave no gap."""
    plain = attribute(node, "auto_pad", "NOTSET") == "NOTSET" and attribute(node, "group", 1) == 1
    added = [*attribute(node, "pads", ()), *attribute(node, "output_padding", ())]
    apart = any(one != 1 for one in attribute(node, "dilations", ()))
    steps = tuple(attribute(node, "strides", (1, 1)))
    given = attribute(node, "output_shape") is not None
    return plain and steps == tuple(kernel) and not (any(added) or apart or given)


def channel_axis(node: onnx.NodeProto) -> int:
    """The axis of its weights that is the output's channels."""
    return 0 if node.op_type == "Conv" or attribute(node, "transB", 0) else 1


def affine_of(node: onnx.NodeProto, source: str, graph: Graph) -> tuple[Numbers, Numbers] | None:
    """Slope and shift where the node is one of each per channel, or one number, on ``source``.

    None for any other node. Arrays keep the rank they have in the file.
    """
    constants = graph.constants
    if node.op_type == "BatchNormalization" and node.input[0] == source:
        if any(name not in constants for name in node.input[1:]) or len(node.output) > 1:
            return None
        scale, shift, mean, var = (constants[name].astype(np.float64) for name in node.input[1:])
        slope = scale / np.sqrt(var + attribute(node, "epsilon", 1e-5))
        column = (-1, 1, 1)
        return slope.reshape(column), (shift - mean * slope).reshape(column)
    if node.op_type not in ("Add", "Sub", "Mul", "Div"):
        return None
    first, second = node.input
    if first == source and second in constants:
        value = constants[second].astype(np.float64)
        one, nothing = np.ones(()), np.zeros(())
        lines = {"Add": (one, value), "Sub": (one, -value), "Mul": (value, nothing)}
        # not by zero: such a file gives nan, and says so elsewhere
        return lines.get(node.op_type) or (None if not value.all() else (1 / value, nothing))
    if second == source and first in constants and node.op_type != "Div":
        value = constants[first].astype(np.float64)
        if node.op_type == "Mul":
            return value, np.zeros(())
        return np.full((), 1.0 if node.op_type == "Add" else -1.0), value
    return None


def by_channel(value: Numbers, channels: int, rank: int) -> Numbers | None:
    """``value`` as one number for each channel of a tensor of that rank; None where it is not."""
    if value.size == 1:
        return np.full(channels, value.reshape(()))
    axis_from_end = rank - 2 if rank == 4 else 0
    shape = (1,) * max(value.ndim - 1 - axis_from_end, 0) + (channels,) + (1,) * axis_from_end
    return value.reshape(channels) if value.shape == shape else None


def _make_gemms(graph: Graph) -> None:
    """MatMul of two dimensions → Gemm; alpha and beta of a Gemm → its weights."""
    from onnx import helper

    shapes = shapes_of(graph.model)
    for index, node in enumerate(graph.nodes):
        if not is_weighted(node, graph):
            continue
        if node.op_type == "MatMul" and len(shapes.get(node.input[0], ())) == 2:
            gemm = helper.make_node("Gemm", list(node.input), list(node.output), node.name)
            graph.nodes[index] = gemm
        if node.op_type == "Gemm":
            for place, name in ((1, "alpha"), (2, "beta")):
                factor = attribute(node, name, 1.0)
                if factor != 1.0 and len(node.input) > place:
                    value = graph.constants[node.input[place]] * np.float32(factor)
                    node.input[place] = graph.add_constant(f"{node.input[place]}_{name}", value)
                set_attribute(node, name, 1.0)


def _give_biases(graph: Graph) -> None:
    for node in graph.nodes:
        if not is_weighted(node, graph) or node.op_type == "MatMul":
            continue
        weight = graph.constants[node.input[1]]
        channels = weight.shape[channel_axis(node)]
        given = node.input[2] if len(node.input) > 2 else ""
        bias = graph.constants[given] if given else np.zeros(channels, np.float32)
        del node.input[2:]
        value = np.broadcast_to(bias.reshape(-1), (channels,)).astype(np.float32)
        node.input.append(graph.add_constant(f"{node.input[1]}_bias", value))


def _fold_affine(graph: Graph) -> bool:
    """One affine node → the weights before it; whether there was one."""
    readers = graph.readers()
    for node in graph.nodes:
        if not is_weighted(node, graph) or node.op_type == "MatMul":
            continue
        result = node.output[0]
        if result in graph.outputs or len(readers.get(result, [])) != 1:
            continue
        (after,) = readers[result]
        affine = affine_of(after, result, graph)
        weight, bias = (graph.constants[name].astype(np.float64) for name in node.input[1:])
        rank = 2 if node.op_type == "Gemm" else 4
        if affine is None:
            continue
        slope, shift = (by_channel(value, len(bias), rank) for value in affine)
        if slope is None or shift is None:
            continue
        axis = channel_axis(node)
        along: list[Any] = [np.newaxis] * weight.ndim
        along[axis] = slice(None)
        _set_weights(graph, node, weight * slope[tuple(along)], bias * slope + shift)
        node.output[0] = after.output[0]
        graph.remove([after])
        return True
    return False


def _set_weights(graph: Graph, node: onnx.NodeProto, weight: Numbers, bias: Numbers) -> None:
    """Under names of their own: others may read the old ones."""
    for place, value in ((1, weight), (2, bias)):
        node.input[place] = graph.add_constant(node.input[place], value.astype(np.float32))
