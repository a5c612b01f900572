"""Channels of one tensor made alike, where few of them would fill its 256 numbers alone.

One scale serves all channels of a tensor. A channel whose values are a tenth of another's has a
tenth of the numbers, unless the layer before multiplies it by ten and the layer after divides: the
network computes the same where only what is linear in each channel lies between (Nagel et al.,
2019, section 4.1). Weights have a scale for each output channel, so the layer before loses nothing,
and neither does a depthwise layer after; any other layer after gets weights of unlike size within a
channel, so it takes half of the change, in powers (as SmoothQuant, Xiao et al., 2022).

ReLU and LeakyReLU are linear enough. Clip(0, b) is where nothing is cut off: channels are only
enlarged, and at most until the largest value of the calibration samples is ``ROOM`` below b.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tvm_mobilenet.quantization.graph import Graph, attribute
from tvm_mobilenet.quantization.groups import Group
from tvm_mobilenet.quantization.prepare import channel_axis, is_weighted
from tvm_mobilenet.quantization.ranges import Extent

if TYPE_CHECKING:
    import onnx

Numbers = NDArray[np.float64]

UNEVEN = 4.0  # the largest channel's range over the median one's from which it is worth it
MOST_FACTOR = 64.0  # of one channel: what is hardly ever used should not become the largest
ROOM = 1.25  # between what the samples reach and where an activation cuts off


@dataclass(frozen=True)
class Pair:
    """A layer, and the one that alone reads its result, ``tensor``; ``bound`` is of a Clip."""

    before: onnx.NodeProto
    after: onnx.NodeProto
    tensor: str
    bound: float | None

    @property
    def depthwise(self) -> bool:
        return self.after.op_type == "Conv" and attribute(self.after, "group", 1) > 1


def equalize(graph: Graph, groups: list[Group], extents: Mapping[str, Extent]) -> tuple[str, ...]:
    """Scale the channels of every tensor that asks for it, in place; the tensors' names."""
    changed = []
    for pair in pairs_of(graph, groups):
        extent = extents.get(pair.tensor)
        factors = None if extent is None else factors_for(pair, extent, graph)
        if factors is not None:
            scale_channels(graph, pair, factors)
            changed.append(pair.tensor)
    return tuple(changed)


def pairs_of(graph: Graph, groups: list[Group]) -> list[Pair]:
    readers = graph.readers()
    found = []
    for group in groups:
        tensor = group.outputs[0]
        # a convolution that also adds what it reads, as a residual, reads it twice
        reading = readers.get(tensor, [])
        if group.kind != "weighted" or len(reading) != 1 or tensor in graph.outputs:
            continue
        bound = _bound_of(group, graph)
        (reader,) = reading
        if bound == 0 or not is_weighted(reader, graph) or reader.input[0] != tensor:
            continue
        if group.anchor.op_type != reader.op_type or reader.op_type == "MatMul":
            continue
        channels = graph.constants[reader.input[1]].shape[1 if reader.op_type == "Conv" else 0]
        split = attribute(reader, "group", 1)
        if reader.op_type == "Conv" and split > 1 and channels != 1:
            continue  # groups of several channels
        found.append(Pair(group.anchor, reader, tensor, bound))
    return found


def factors_for(pair: Pair, extent: Extent, graph: Graph) -> Numbers | None:
    """What to multiply each channel by; None where the channels are even enough."""
    ranges = np.maximum(extent.high, 0) - np.minimum(extent.low, 0)
    largest = float(ranges.max())
    alive = ranges > largest * 1e-6
    if largest <= 0 or largest < UNEVEN * np.median(ranges[alive]):
        return None
    goal = largest if pair.bound is None else min(largest, pair.bound / ROOM)
    power = 1.0 if pair.depthwise else 0.5
    factors = np.ones(len(ranges))
    factors[alive] = np.clip((goal / ranges[alive]) ** power, 1.0, MOST_FACTOR)
    return factors


def scale_channels(graph: Graph, pair: Pair, factors: Numbers) -> None:
    """Multiply the output channels of the layer before, and divide in the layer after."""
    before, after = pair.before, pair.after
    constants = graph.constants
    axis = channel_axis(before)
    weight = constants[before.input[1]].astype(np.float64) * _along(factors, axis, before, graph)
    bias = constants[before.input[2]].astype(np.float64) * factors
    axis = 0 if pair.depthwise else 1 - channel_axis(after)
    spread = factors
    if pair.depthwise:  # with a multiplier each input channel has several outputs, in a row
        spread = np.repeat(factors, constants[after.input[1]].shape[0] // len(factors))
    divided = constants[after.input[1]].astype(np.float64) / _along(spread, axis, after, graph)
    for node, place, value in ((before, 1, weight), (before, 2, bias), (after, 1, divided)):
        node.input[place] = graph.add_constant(node.input[place], value.astype(np.float32))


def _along(factors: Numbers, axis: int, node: onnx.NodeProto, graph: Graph) -> Numbers:
    shape = [1] * graph.constants[node.input[1]].ndim
    shape[axis] = -1
    return factors.reshape(shape)


def _bound_of(group: Group, graph: Graph) -> float | None:
    """Where the activation cuts off, None for nowhere; 0 where it is not linear in a channel."""
    if len(group.nodes) == 1:
        return None
    if len(group.nodes) > 2:
        return 0.0
    node = group.nodes[1]
    if node.op_type in ("Relu", "LeakyRelu"):
        return None
    if node.op_type != "Clip" or any(
        name and name not in graph.constants for name in node.input[1:]
    ):
        return 0.0
    low, high = (
        float(graph.constants[node.input[place]].reshape(()))
        if len(node.input) > place and node.input[place]
        else default
        for place, default in ((1, -np.inf), (2, np.inf))
    )
    return (None if np.isinf(high) else high) if low == 0 else 0.0
