"""Parallel branches that are summed → one convolution, as MobileOne and RepVGG are trained.

The compiler merges them too, where they are still float: here each would get a scale of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tvm_mobilenet.quantization.graph import Graph, attribute, set_attribute

if TYPE_CHECKING:
    import onnx

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Branch:
    """A convolution of ``source``; ``node`` is None for one that only scales or copies it."""

    source: str
    weight: Numbers
    bias: Numbers
    pads: tuple[int, int, int, int]  # top, left, bottom, right
    strides: tuple[int, int]
    groups: int
    nodes: tuple[onnx.NodeProto, ...]


def merge_branches(graph: Graph) -> bool:
    """Merge the first sum of two branches; whether there was one."""
    readers, makers = graph.readers(), graph.makers()
    for add in graph.nodes:
        if add.op_type != "Add" or any(name in graph.constants for name in add.input):
            continue
        makers_of_it = [makers.get(name) for name in add.input]
        convolutions = [
            _convolution(maker, graph)
            for maker in makers_of_it
            if maker is not None and len(readers[maker.output[0]]) == 1
            if maker.output[0] not in graph.outputs
        ]
        known = [one for one in convolutions if one is not None]
        if not known:
            continue
        first = known[0]
        other = known[1] if len(known) == 2 else _other(add, first, graph, makers)
        merged = None if other is None else _summed(first, other)
        if merged is not None:
            _replace(graph, add, merged)
            return True
    return False


def _convolution(node: onnx.NodeProto, graph: Graph) -> Branch | None:
    if node.op_type != "Conv" or any(name not in graph.constants for name in node.input[1:]):
        return None
    weight = graph.constants[node.input[1]].astype(np.float64)
    plain = set(attribute(node, "dilations", [1, 1])) == {1}
    if weight.ndim != 4 or not plain or attribute(node, "auto_pad", "NOTSET") != "NOTSET":
        return None
    top, left, bottom, right = attribute(node, "pads", [0, 0, 0, 0])
    down, across = attribute(node, "strides", [1, 1])
    return Branch(
        node.input[0],
        weight,
        graph.constants[node.input[2]].astype(np.float64),
        (top, left, bottom, right),
        (down, across),
        attribute(node, "group", 1),
        (node,),
    )


def _other(
    add: onnx.NodeProto, first: Branch, graph: Graph, makers: dict[str, onnx.NodeProto]
) -> Branch | None:
    """The other operand as a convolution like ``first``: the source itself, or its norm."""
    from tvm_mobilenet.quantization.prepare import affine_of, by_channel

    channels = len(first.bias)
    (name,) = [one for one in add.input if one != first.nodes[0].output[0]] or [None]
    slope: Numbers | None = np.ones(channels)
    shift: Numbers | None = np.zeros(channels)
    nodes: tuple[onnx.NodeProto, ...] = ()
    if name is None:
        return None
    if name != first.source:
        maker = makers.get(name)
        affine = None if maker is None else affine_of(maker, first.source, graph)
        if maker is None or affine is None or len(graph.readers()[name]) != 1:
            return None
        slope, shift = (by_channel(value, channels, 4) for value in affine)
        nodes = (maker,)
    inputs = first.weight.shape[1] * first.groups
    if slope is None or shift is None or inputs != channels or first.strides != (1, 1):
        return None
    weight = np.zeros((channels, first.weight.shape[1], 1, 1))
    within = channels // first.groups
    weight[np.arange(channels), np.arange(channels) % within, 0, 0] = slope
    return Branch(first.source, weight, shift, (0, 0, 0, 0), (1, 1), first.groups, nodes)


def _summed(one: Branch, other: Branch) -> Branch | None:
    """One convolution for the sum of two, whose filters lie in the middle of its own."""
    if one.source != other.source:
        return None
    alike = (one.strides, one.groups, one.weight.shape[:2])
    if alike != (other.strides, other.groups, other.weight.shape[:2]):
        return None
    pads = tuple(max(a, b) for a, b in zip(one.pads, other.pads, strict=True))
    # the size that the output then has is that of each branch where all grow by as much
    sizes = {
        (p[0] + p[2] - b.weight.shape[2], p[1] + p[3] - b.weight.shape[3])
        for b, p in ((one, one.pads), (other, other.pads))
    }
    if len(sizes) != 1:
        return None
    ((rows, columns),) = sizes
    shape = (pads[0] + pads[2] - rows, pads[1] + pads[3] - columns)
    weight = np.zeros((*one.weight.shape[:2], *shape))
    for branch in (one, other):
        top, left = pads[0] - branch.pads[0], pads[1] - branch.pads[1]
        height, width = branch.weight.shape[2:]
        weight[:, :, top : top + height, left : left + width] += branch.weight
    top, left, bottom, right = pads
    return Branch(
        one.source,
        weight,
        one.bias + other.bias,
        (top, left, bottom, right),
        one.strides,
        one.groups,
        (*one.nodes, *other.nodes),
    )


def _replace(graph: Graph, add: onnx.NodeProto, merged: Branch) -> None:
    """Put the convolution where the sum was."""
    node = type(add)()
    node.CopyFrom(merged.nodes[0])
    node.output[0] = add.output[0]
    node.input[1] = graph.add_constant(node.input[1], merged.weight.astype(np.float32))
    node.input[2] = graph.add_constant(node.input[2], merged.bias.astype(np.float32))
    set_attribute(node, "pads", list(merged.pads))
    set_attribute(node, "kernel_shape", list(merged.weight.shape[2:]))
    graph.nodes[[id(one) for one in graph.nodes].index(id(add))] = node
    graph.remove(merged.nodes)
