"""How much a network makes of rounding to 16 bits: what says how near a result has to be.

A network with trained weights hardly notices; random ones may turn bfloat16's rounding by up to
2^-8 into a tenth of the result, in any engine, and float16's by up to 2^-11 into a hundredth.
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


HALVES = {"bf16": ml_dtypes.bfloat16, "fp16": np.float16}  # by precision


def effect_of_rounding(model: onnx.ModelProto, inputs: Sequence[Array], precision: str) -> float:
    """How far the outputs move in float32 arithmetic if weights and inputs are rounded to those of
    ``precision``, bf16 or fp16.

    ‖a - b‖ / ‖b‖ of the output that moves most.
    """
    exact = onnx_export.evaluate(model, *inputs)
    halved = [rounded(one, precision) for one in inputs]
    moved = onnx_export.evaluate(with_rounded_weights(model, precision), *halved)
    return max(numerics.relative_error(a, b) for a, b in zip(moved, exact, strict=True))


def with_rounded_weights(model: onnx.ModelProto, precision: str) -> onnx.ModelProto:
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for tensor in copy.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) >= MATRIX:
            array = rounded(onnx.numpy_helper.to_array(tensor), precision)
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    return copy


def rounded(array: Array, precision: str = "bf16") -> Array:
    """A float32 array with the numbers of a precision next to its own; any other as it is."""
    if array.dtype != np.float32:
        return array
    return array.astype(HALVES[precision]).astype(np.float32)
