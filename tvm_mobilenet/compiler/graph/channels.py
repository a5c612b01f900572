"""Channels that only change their place: split, concatenated, shuffled → one copy of those read.

ShuffleNet's units split a tensor, concatenate, and shuffle what comes of it: a reshape, a transpose
and a reshape. Here each such tensor is known channel by channel as a channel of one that some layer
computes, however many of those operators lie between, and is made only where a layer reads it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import relax, tirx
from tvm.ir import Expr, Var

from tvm_mobilenet.compiler.graph.layers import (
    Channels,
    Layer,
    Other,
    is_call,
    shape_of,
    sources,
    variables,
)
from tvm_mobilenet.kernels.cpu.expressions import LIMITS

# (Var, channel of it) for each channel of an image, which may have more than one dimension of them
View = NDArray[np.object_]


def move_channels(layers: Sequence[Layer], results: Expr) -> list[Layer]:
    """``layers`` with what only moves channels as ``Channels``, each of what a layer computes.

    ``results`` is what the network gives out.
    """
    views: dict[Var, View] = {}
    tuples: dict[Var, list[View]] = {}
    for layer in layers:
        if isinstance(layer, Other):
            look(layer, views, tuples)
    moved = {**views, **tuples}
    read = set(variables(results))
    read.update(v for layer in layers if layer.result not in moved for v in sources(layer))
    if any(var in tuples for var in read):
        return list(layers)  # a tuple that is given out
    kept: list[Layer] = []
    for layer in layers:
        if layer.result not in moved:
            kept.append(layer)
        elif layer.result in read:
            view = views[layer.result]
            if view.ndim != 1:
                return list(layers)  # a tensor of five dimensions that something else reads
            kept.append(Channels(layer.result, tuple(view)))
    return kept


def look(layer: Other, views: dict[Var, View], tuples: dict[Var, list[View]]) -> None:
    """Note what ``layer`` is a view of, where it is one."""
    value, result = layer.value, layer.result
    if isinstance(value, relax.TupleGetItem):
        if value.tuple_value in tuples:
            views[result] = tuples[value.tuple_value][value.index]
        return
    if is_call(value, "relax.split") and int(value.attrs.axis) == 1:
        view = view_of(value.args[0], views)
        if view is not None and view.ndim == 1:
            tuples[result] = np.split(view, sections(value.attrs.indices_or_sections))
    elif is_call(value, "relax.concat") and value.attrs.axis == 1:
        parts = [view_of(part, views) for part in value.args[0].fields]
        found = [part for part in parts if part is not None and part.ndim == 1]
        if len(found) == len(parts):
            views[result] = np.concatenate(found)
    elif is_call(value, "relax.reshape"):
        reshaped(value.args[0], result, views)
    elif is_call(value, "relax.permute_dims") and value.attrs.axes is not None:
        view = views.get(value.args[0])
        axes = [int(axis) for axis in value.attrs.axes]
        inner = axes[1:-2]
        if view is not None and [axes[0], *axes[-2:]] == [0, len(axes) - 2, len(axes) - 1]:
            views[result] = view.transpose([axis - 1 for axis in inner])


def view_of(value: Expr, views: dict[Var, View]) -> View | None:
    """The channels of a tensor of images, its own where it is no view."""
    if not isinstance(value, Var) or str(value.ty.dtype) not in ("float32", *LIMITS):
        return None
    if value in views:
        return views[value]
    if len(value.ty.shape) != 4:
        return None
    channels = int(value.ty.shape[1])
    own = np.empty(channels, object)
    own[:] = [(value, channel) for channel in range(channels)]
    return own


def reshaped(source: Expr, result: Var, views: dict[Var, View]) -> None:
    """A reshape that leaves the rows and columns of the images is one of the channels."""
    before, after = shape_of(source), shape_of(result)
    view = view_of(source, views)
    if view is None or len(after) < 4 or (before[0], *before[-2:]) != (after[0], *after[-2:]):
        return
    views[result] = view.reshape(after[1:-2])


def sections(given: Any) -> int | list[int]:
    """Where a split cuts, or into how many."""
    if isinstance(given, tirx.IntImm):
        return int(given)
    return [int(index) for index in given]
