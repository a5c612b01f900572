"""Transposed convolutions over integers: their windows are bytes before they become pixels.

Such a convolution is a 1x1 one whose channels are the pixels of its windows, and those are moved
afterwards. What becomes of each element may as well be computed before: a kernel then stores bytes
where it would store sums of four, and what is moved is a quarter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from tvm import relax
from tvm.ir import Expr, Var

from tvm_mobilenet.compiler.graph.layers import (
    NO_EPILOGUE,
    Array,
    ChannelsToSpace,
    Epilogue,
    Layer,
    QuantizedConvolution,
    shape_of,
    sources,
    variables,
)
from tvm_mobilenet.kernels.cpu.expressions import (
    LIMITS,
    SELF,
    Apply,
    Expression,
    Input,
    apply,
    inputs,
)
from tvm_mobilenet.kernels.cpu.tables import parts, replaced


def round_windows(layers: Sequence[Layer], results: Expr) -> list[Layer]:
    """``layers`` with what becomes of pixels computed of windows, where those are of integers.

    ``results`` are what the network gives out.
    """
    reads = Counter(var for layer in layers for var in sources(layer))
    reads.update(variables(results))
    made = {
        layer.result: layer
        for layer in layers
        if isinstance(layer, QuantizedConvolution) and layer.epilogue == NO_EPILOGUE
    }
    changed: dict[Var, Layer] = {}
    for layer in layers:
        if not isinstance(layer, ChannelsToSpace) or reads[layer.source] != 1:
            continue
        before = made.get(layer.source)
        if before is not None and is_rounding(layer):
            changed[before.result], changed[layer.result] = rounded(before, layer)
    return [changed.get(layer.result, layer) for layer in layers]


def is_rounding(layer: ChannelsToSpace) -> bool:
    """Whether it makes bytes, of no other tensor."""
    other = any(isinstance(one, Var) for one in layer.epilogue.operands)
    return str(layer.result.ty.dtype) in LIMITS and not other


def rounded(
    before: QuantizedConvolution, layer: ChannelsToSpace
) -> tuple[QuantizedConvolution, ChannelsToSpace]:
    """The convolution with the epilogue of ``layer``, and that without."""
    shape, dtype = shape_of(before.result), str(layer.result.ty.dtype)
    windows = relax.DataflowVar("windows", relax.TensorType(shape, dtype))
    pixels = layer.factor[0] * layer.factor[1]
    filled = shape[1] // pixels

    def spread(operand: Array) -> Array:
        """A number for each channel of a pixel, for all pixels of a window."""
        padded = np.zeros(filled, np.float32)
        padded[: operand.size] = operand.reshape(-1)
        return np.tile(padded, pixels)

    operands = tuple(spread(one) for one in layer.epilogue.operands if not isinstance(one, Var))
    after = Epilogue(layer.epilogue.expression, operands)
    convolution = bounded(biased(replace(before, result=windows, epilogue=after)))
    return convolution, replace(layer, source=windows, epilogue=NO_EPILOGUE)


def biased(layer: QuantizedConvolution) -> QuantizedConvolution:
    """The layer with what its epilogue adds first in its bias, where that is all that it reads."""
    if len(layer.epilogue.operands) != 1:
        return layer
    (bias,), expression = layer.epilogue.operands, layer.epilogue.expression
    for total in (apply("add", SELF, Input(1)), apply("add", Input(1), SELF)):
        if is_all(total, expression):
            return replace(
                layer,
                bias=layer.bias + bias,
                epilogue=Epilogue(replaced(expression, total, SELF)),
            )
    return layer


def bounded(layer: QuantizedConvolution) -> QuantizedConvolution:
    """The layer with the bounds of its epilogue as its activation's."""
    expression, activation = layer.epilogue.expression, layer.activation
    for operator, name in (("maximum", "low"), ("minimum", "high")):
        for part in parts(expression):
            match part:
                case Apply(found, (one, float(bound))) if found == operator and one == SELF:
                    if is_all(part, expression):
                        expression = replaced(expression, part, SELF)
                        activation = replace(activation, **{name: bound})
                        break
    return replace(
        layer, activation=activation, epilogue=replace(layer.epilogue, expression=expression)
    )


def is_all(part: Expression, expression: Expression) -> bool:
    """Whether ``expression`` is a function of ``part`` and of nothing else."""
    return part in parts(expression) and not inputs(replaced(expression, part, 0.0))
