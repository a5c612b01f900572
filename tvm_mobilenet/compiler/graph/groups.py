"""Grouped convolutions → those that we have kernels for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from tvm import relax

from tvm_mobilenet.compiler.graph.layers import Array, Channels, Convolution, Layer
from tvm_mobilenet.kernels.cpu.layout import MIN_VECTOR


def expand_groups(layers: Sequence[Layer]) -> list[Layer]:
    """``layers`` in which each group of a convolution fills whole vectors, or there is one group.

    A depthwise convolution with several filters a channel reads each channel so many times. Other
    narrow groups become one, whose weights from other groups' channels are zero.
    """
    expanded: list[Layer] = []
    for layer in layers:
        if not isinstance(layer, Convolution) or layer.groups == 1:
            expanded.append(layer)
            continue
        channels_out, channels_in = layer.weight.shape[:2]
        if channels_in == 1:
            repeated, filtered = multiplied(layer, channels_out // layer.groups)
            expanded += [repeated, filtered]
        elif channels_out // layer.groups % MIN_VECTOR:
            expanded.append(replace(layer, weight=dense(layer.weight, layer.groups), groups=1))
        else:
            expanded.append(layer)
    return expanded


def multiplied(layer: Convolution, times: int) -> tuple[Channels, Convolution]:
    """Each channel ``times`` over, and the depthwise convolution of that."""
    source = layer.source
    batch, channels, height, width = (int(dim) for dim in source.ty.shape)
    shape = (batch, channels * times, height, width)
    repeated = relax.DataflowVar("repeated", relax.TensorType(shape, "float32"))
    places = tuple((source, place // times) for place in range(channels * times))
    return Channels(repeated, places), replace(layer, source=repeated, depthwise=True, groups=1)


def dense(weight: Array, groups: int) -> Array:
    """The weights of one group: (O, I / groups, kh, kw) → (O, I, kh, kw)."""
    channels_out, channels_in, *kernel = weight.shape
    whole = np.zeros((channels_out, channels_in * groups, *kernel), np.float32)
    for group, rows in enumerate(np.split(np.arange(channels_out), groups)):
        first = group * channels_in
        whole[rows, first : first + channels_in] = weight[rows]
    return whole
