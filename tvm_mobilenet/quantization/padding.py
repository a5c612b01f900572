"""How convolutions are padded: each by its own ``pads``.

``auto_pad`` leaves the numbers to whoever runs the network, and TensorFlow's padding comes as an
operator before the convolution: either way it would be no layer over integers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tvm_mobilenet.quantization.graph import Graph, attribute, set_attribute, shapes_of

if TYPE_CHECKING:
    import onnx


def spell_out_padding(graph: Graph) -> None:
    """``auto_pad`` of a convolution → ``pads``; left alone where the image's size is not known."""
    shapes = shapes_of(graph.model)
    for node in graph.nodes:
        how = attribute(node, "auto_pad", "NOTSET")
        weight = graph.constants.get(node.input[1]) if node.op_type == "Conv" else None
        if weight is None or how == "NOTSET":
            continue
        sizes = shapes.get(node.input[0], ())[2:]
        if how != "VALID" and not sizes:
            continue
        set_attribute(node, "pads", automatic(node, how, sizes, weight.shape[2:]))
        set_attribute(node, "auto_pad", "NOTSET")


def automatic(
    node: onnx.NodeProto, how: str, sizes: Sequence[int], kernel: Sequence[int]
) -> list[int]:
    """The ``pads`` that ``auto_pad`` means for an image of these sizes: all first ends, then last.

    SAME gives as many results as there are steps in the image; of an odd number of zeros
    SAME_UPPER has the larger half at the end.
    """
    count = len(kernel)
    if how == "VALID":
        return [0] * (2 * count)
    strides = attribute(node, "strides", [1] * count)
    dilations = attribute(node, "dilations", [1] * count)
    first, last = [], []
    for size, window, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        reach = (-(-size // stride) - 1) * stride + (window - 1) * dilation + 1
        zeros = max(reach - size, 0)
        smaller, larger = zeros // 2, zeros - zeros // 2
        first.append(smaller if how == "SAME_UPPER" else larger)
        last.append(larger if how == "SAME_UPPER" else smaller)
    return [*first, *last]


def fold_padding(graph: Graph) -> None:
    """Zeros around an image → the convolution that alone reads it."""
    readers, constants = graph.readers(), graph.constants
    for node in list(graph.nodes):
        if node.op_type != "Pad" or attribute(node, "mode", "constant") != "constant":
            continue
        readers_of_it = readers.get(node.output[0], [])
        known = all(name in constants for name in node.input[1:] if name)
        if not known or len(readers_of_it) != 1 or node.output[0] in graph.outputs:
            continue
        (conv,) = readers_of_it
        pads = constants[node.input[1]].tolist()
        value = constants[node.input[2]] if len(node.input) > 2 and node.input[2] else np.zeros(())
        axes = len(node.input) > 3 and node.input[3]
        image_only = len(pads) == 8 and not any((*pads[:2], *pads[4:6])) and min(pads) >= 0
        if axes or not image_only or value.any() or conv.op_type != "Conv":
            continue
        if conv.input[0] == node.output[0] and attribute(conv, "auto_pad", "NOTSET") == "NOTSET":
            own = list(attribute(conv, "pads", [0, 0, 0, 0]))
            added = [*pads[2:4], *pads[6:]]
            set_attribute(conv, "pads", [a + b for a, b in zip(own, added, strict=True)])
            conv.input[0] = node.input[0]
            graph.remove([node])
