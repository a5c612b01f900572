"""Operators that make images larger → layers that our kernels compute."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from tvm import relax
from tvm.ir import Var

from tvm_mobilenet.compiler.graph.integers import Integers
from tvm_mobilenet.compiler.graph.layers import (
    Array,
    ChannelsToSpace,
    Convolution,
    Layer,
    Other,
    Resize,
    is_call,
    is_constant,
)

Numbers = NDArray[np.float64]
Kind = TypeVar("Kind", np.float32, np.int8)
EPSILON = 1e-5  # TVM's, by which its floor and ceil err on the side of an exact place

# where in the image, of so many pixels, the target's pixels lie; as TVM's legalization has it
PLACES: dict[str, Callable[[Numbers, int, int], Numbers]] = {
    "align_corners": lambda x, size, target: x * (size - 1) / max(target - 1, 1),
    "asymmetric": lambda x, size, target: x * size / target,
    "half_pixel": lambda x, size, target: (x + 0.5) * size / target - 0.5,
    "pytorch_half_pixel": lambda x, size, target: (
        (x + 0.5) * size / target - 0.5 if target > 1 else x * 0
    ),
    "tf_half_pixel_for_nn": lambda x, size, target: (x + 0.5) * size / target,
}
NEAREST: dict[str, Callable[[Numbers], Numbers]] = {
    "ceil": lambda place: np.ceil(place - EPSILON),
    "floor": lambda place: np.floor(place + EPSILON),
    "round": np.round,
    "round_prefer_ceil": lambda place: np.floor(place + 0.5),
    "round_prefer_floor": lambda place: np.ceil(place - 0.5),
}


def resize_images(layers: Sequence[Layer], lanes: Callable[[int], int]) -> list[Layer]:
    """``layers`` with resizing, and transposed convolutions whose windows lie side by side.

    ``lanes`` says how many of a tensor's channels are in a vector.
    """
    resized: list[Layer] = []
    for layer in layers:
        found = resize(layer) or transposed(layer, lanes) if isinstance(layer, Other) else None
        resized += found or [layer]
    return resized


def take_transposed(layers: Sequence[Layer], lanes: Callable[[int], int]) -> list[Layer]:
    """``layers`` with transposed convolutions of integer weights as layers that kernels compute."""
    taken: list[Layer] = []
    for layer in layers:
        found = None
        if isinstance(layer, Other) and layer.integers is not None:
            found = transposed(layer, lanes)
        taken += found or [layer]
    return taken


def resize(layer: Other) -> list[Layer] | None:
    """Nearest or linear; cubic is left to TVM."""
    value = layer.value
    if not is_call(value, "relax.image.resize2d") or not isinstance(value.args[0], Var):
        return None
    attrs, source = value.attrs, value.args[0]
    place = PLACES.get(str(attrs.coordinate_transformation_mode))
    nearest = NEAREST.get(str(attrs.rounding_method) or "round")
    linear = str(attrs.method) == "linear"
    if (
        place is None
        or not (linear or (nearest and str(attrs.method) == "nearest_neighbor"))
        or str(attrs.layout) != "NCHW"
        or str(layer.result.ty.dtype) != "float32"
    ):
        return None
    axes = []
    for axis in (2, 3):
        size, target = int(source.ty.shape[axis]), int(layer.result.ty.shape[axis])
        places = place(np.arange(target, dtype=np.float64), size, target)
        axes.append(taps_of(places, size, None if linear else nearest))
    return [Resize(source, layer.result, *axes)]


def taps_of(
    places: Numbers, size: int, nearest: Callable[[Numbers], Numbers] | None
) -> tuple[NDArray[np.int32], Array]:
    """The pixels (places, taps) that each place is made of, and their weights."""
    if nearest is not None:
        pixels, weights = nearest(places)[:, None], np.ones((len(places), 1))
    else:
        first = np.floor(places)
        pixels = np.stack([first, first + 1], axis=1)
        weights = np.stack([1 - (places - first), places - first], axis=1)
    return np.clip(pixels, 0, size - 1).astype(np.int32), weights.astype(np.float32)


def transposed(layer: Other, lanes: Callable[[int], int]) -> list[Layer] | None:
    """A transposed convolution as a 1x1 convolution whose channels are the pixels of its windows.

    None where windows overlap or leave a gap.
    """
    value = layer.value
    if not is_call(value, "relax.nn.conv2d_transpose") or not is_constant(value.args[1]):
        return None
    source, attrs = value.args[0], value.attrs
    weight: Array = value.args[1].value.numpy()
    _, channels_out, tall, wide = weight.shape
    if (
        not isinstance(source, Var)
        or (tall, wide) != tuple(int(step) for step in attrs.strides)
        or not side_by_side(attrs)
    ):
        return None
    filled = -(-channels_out // lanes(channels_out)) * lanes(channels_out)
    batch, _, height, width = (int(dim) for dim in source.ty.shape)
    shape = (batch, tall * wide * filled, height, width)
    windows = relax.DataflowVar("windows", relax.TensorType(shape, "float32"))
    convolution = Convolution(
        source=source,
        result=windows,
        weight=rows_of(weight, filled),
        bias=np.zeros(shape[1], np.float32),
        stride=(1, 1),
        padding=(0, 0, 0, 0),
        depthwise=False,
        integers=integer_rows(layer.integers, filled),
    )
    return [convolution, ChannelsToSpace(windows, layer.result, (tall, wide))]


def rows_of(weight: NDArray[Kind], filled: int) -> NDArray[Kind]:
    """Weights (C_in, C_out, H, W) as those of so many channels for each pixel of a window."""
    channels_in, channels_out, tall, wide = weight.shape
    rows = np.zeros((tall, wide, filled, channels_in), weight.dtype)
    rows[:, :, :channels_out] = weight.transpose(2, 3, 1, 0)
    return rows.reshape(-1, channels_in, 1, 1)


def integer_rows(integers: Integers | None, filled: int) -> Integers | None:
    """As ``rows_of``; None where an input channel has a scale of its own."""
    if integers is None or integers.scale.shape[0] > 1:
        return None
    shape = (1, *integers.array.shape[1:])
    scales = np.broadcast_to(integers.scale, shape).astype(np.float32)
    return Integers(rows_of(integers.array, filled), rows_of(scales, filled))


def side_by_side(attrs: Any) -> bool:
    """Whether a transposed convolution of as wide a stride as its filter does nothing else."""
    layouts = (str(attrs.data_layout), str(attrs.kernel_layout), str(attrs.out_layout))
    added = [*attrs.padding, *attrs.output_padding]
    return (
        layouts == ("NCHW", "IOHW", "NCHW")
        and int(attrs.groups) == 1
        and not any(int(one) for one in added)
        and all(int(step) == 1 for step in attrs.dilation)
    )
