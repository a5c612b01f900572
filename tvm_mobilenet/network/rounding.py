"""How much a network makes of bfloat16's rounding: what says how near a result in it has to be.

A network with trained weights hardly notices; random ones may turn a rounding by up to 2^-8 into a
tenth of the result, in any engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from tvm_mobilenet import numerics
from tvm_mobilenet.network import onnx_export

if TYPE_CHECKING:
    import onnx

Array = NDArray[Any]
MATRIX = 2  # dimensions from which on a constant is something that is multiplied


def bf16_rounding(model: onnx.ModelProto, inputs: Sequence[Array]) -> float:
    """How far the outputs move in float32 arithmetic if weights and inputs are rounded to bfloat16.

    ‖a - b‖ / ‖b‖ of the output that moves most.
    """
    exact = onnx_export.evaluate(model, *inputs)
    moved = onnx_export.evaluate(with_rounded_weights(model), *map(rounded, inputs))
    return max(numerics.relative_error(a, b) for a, b in zip(moved, exact, strict=True))


def with_rounded_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for tensor in copy.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) >= MATRIX:
            array = rounded(onnx.numpy_helper.to_array(tensor))
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    return copy


def rounded(array: Array) -> Array:
    """A float32 array with the numbers of bfloat16 next to its own; any other as it is."""
    if array.dtype != np.float32:
        return array
    return array.astype(ml_dtypes.bfloat16).astype(np.float32)
