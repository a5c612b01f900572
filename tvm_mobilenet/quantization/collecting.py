"""The float network's tensors over the calibration samples, in the memory of one batch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.quantization.ranges import Extent, Histogram, extent_of
from tvm_mobilenet.quantization.running import Runner

if TYPE_CHECKING:
    import onnx

Batches = Iterable[Sequence[NDArray[Any]]]


def extents(model: onnx.ModelProto, names: Sequence[str], batches: Batches) -> dict[str, Extent]:
    """The range of each tensor and of its channels.

    Raises BadInput for one that is infinite or NaN for some sample.
    """
    found: dict[str, Extent] = {}
    for values in Runner(model, names, optimized=True).over(batches):
        for name, array in zip(names, values, strict=True):
            if name in found:
                found[name].add(array)
            else:
                found[name] = Extent(*extent_of(array))
            extent = found[name]
            if not (np.isfinite(extent.low).all() and np.isfinite(extent.high).all()):
                raise BadInput(
                    f"the network's tensor {name} is nan or infinite for a calibration sample, so "
                    "it has no range; look at the samples and the network's weights"
                )
    return found


def histograms(
    model: onnx.ModelProto, extents: dict[str, Extent], batches: Batches
) -> dict[str, Histogram]:
    """How the values of each tensor are spread over its range."""
    found = {
        name: Histogram(float(one.low.min()), float(one.high.max()))
        for name, one in extents.items()
    }
    names = list(found)
    for values in Runner(model, names, optimized=True).over(batches):
        for name, array in zip(names, values, strict=True):
            found[name].add(array)
    return found


def channel_means(
    model: onnx.ModelProto, names: Sequence[str], batches: Batches
) -> dict[str, NDArray[np.float64]]:
    """The mean of each channel of each tensor, in float64: (batches, channels)."""
    found: dict[str, list[NDArray[np.float64]]] = {name: [] for name in names}
    for values in Runner(model, names, optimized=True).over(batches):
        for name, array in zip(names, values, strict=True):
            found[name].append(means_of(array))
    return {name: np.stack(means) for name, means in found.items()}


def means_of(values: NDArray[Any]) -> NDArray[np.float64]:
    """The mean of each channel: the second dimension."""
    means: NDArray[np.float64] = values.mean(axis=(0, *range(2, values.ndim)), dtype=np.float64)
    return means
