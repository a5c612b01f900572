"""The layers that a network is made of: what kernels compute in one go, and any other operator."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from tvm import relax
from tvm.ir import Call, Constant, Expr, Var

from tvm_mobilenet.compiler.graph.integers import Integers
from tvm_mobilenet.kernels.cpu.conv2d import Activation
from tvm_mobilenet.kernels.cpu.expressions import SELF, Expression, QuantizationParameters
from tvm_mobilenet.kernels.cpu.tables import Table

Array = NDArray[np.float32]
# what elementwise arithmetic reads: a tensor, or a constant for each channel
Operand: TypeAlias = Var | Array


@dataclass(frozen=True)
class Epilogue:
    """What becomes of a layer's result before it is written.

    The expression's first input is that result, the others are the ``operands``. The last is the
    ``table`` where it looks bytes up.
    """

    expression: Expression = SELF
    operands: tuple[Operand, ...] = ()
    table: Table | None = None


NO_EPILOGUE = Epilogue()


@dataclass(frozen=True)
class Convolution:
    """conv2d (NCHW, OIHW) + bias + activation; padding is (top, left, bottom, right).

    ``groups`` is 1 for one that is depthwise, which says so. ``integers`` are the weights of a
    quantized network as it has them.
    """

    source: Var
    result: Var
    weight: Array
    bias: Array
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]
    depthwise: bool
    groups: int = 1
    dilation: tuple[int, int] = (1, 1)
    activation: Activation = field(default_factory=Activation)
    epilogue: Epilogue = NO_EPILOGUE
    integers: Integers | None = None

    @property
    def linear(self) -> bool:
        """Whether nothing follows the bias."""
        return self.activation == Activation() and self.epilogue == NO_EPILOGUE


@dataclass(frozen=True)
class QuantizedConvolution:
    """A convolution of uint8 ``source``, whose integers ``quantization`` says the values of.

    ``weight`` is int8 (OIHW). Each channel's integer sum times its ``scale`` plus its ``bias``, in
    which the source's zero point is accounted for, is the real result. Padding is with that zero
    point; the rest is as in a Convolution.
    """

    source: Var
    quantization: QuantizationParameters
    result: Var
    weight: NDArray[np.int8]
    scale: Array
    bias: Array
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]
    depthwise: bool
    groups: int = 1
    dilation: tuple[int, int] = (1, 1)
    activation: Activation = field(default_factory=Activation)
    epilogue: Epilogue = NO_EPILOGUE


@dataclass(frozen=True)
class Pooling:
    """Mean over the image, (N, C, H, W) → (N, C, 1, 1) or (N, C)."""

    source: Var
    result: Var
    epilogue: Epilogue = NO_EPILOGUE


@dataclass(frozen=True)
class Dense:
    """Matrix product of the last dimension with a constant (C_in, C_out), + bias + activation.

    ``integers`` are the weights of a quantized network as it has them.
    """

    source: Var
    result: Var
    weight: Array
    bias: Array
    activation: Activation = field(default_factory=Activation)
    epilogue: Epilogue = NO_EPILOGUE
    integers: Integers | None = None


@dataclass(frozen=True)
class QuantizedDense:
    """A matrix product of uint8 ``source`` with an int8 constant (C_in, C_out).

    As in a QuantizedConvolution, ``scale`` and ``bias`` make a real result of its sums.
    """

    source: Var
    quantization: QuantizationParameters
    result: Var
    weight: NDArray[np.int8]
    scale: Array
    bias: Array
    activation: Activation = field(default_factory=Activation)
    epilogue: Epilogue = NO_EPILOGUE


@dataclass(frozen=True)
class Elementwise:
    """Arithmetic of each element by itself; ``operands`` are the expression's inputs.

    A tensor has the result's shape, or one pixel for all of an image.
    """

    result: Var
    expression: Expression
    operands: tuple[Operand, ...]


@dataclass(frozen=True)
class WindowPooling:
    """The largest or mean element of each window; padding is (top, left, bottom, right).

    ``kind`` is max, mean, or mean_of_image, which does not count the padding.
    """

    source: Var
    result: Var
    kind: str
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]
    epilogue: Epilogue = NO_EPILOGUE


@dataclass(frozen=True)
class Resize:
    """Each row is made of rows of the source, and each column of columns: which, and weights.

    Both are (rows or columns of the result, taps).
    """

    source: Var
    result: Var
    rows: tuple[NDArray[np.int32], Array]
    columns: tuple[NDArray[np.int32], Array]


@dataclass(frozen=True)
class ChannelsToSpace:
    """Each pixel's channels are ``factor`` (rows, columns) of pixels, one after the other.

    Where channels do not fill their last vector, the source has more of them for each pixel.
    """

    source: Var
    result: Var
    factor: tuple[int, int]
    epilogue: Epilogue = NO_EPILOGUE


@dataclass(frozen=True)
class Channels:
    """A tensor each of whose channels is one of another tensor: (that tensor, channel of it)."""

    result: Var
    channels: tuple[tuple[Var, int], ...]


@dataclass(frozen=True)
class Other:
    """Any other operator, left to TVM's own legalization.

    ``integers`` are the weights of a quantized network as it has them, where it has such.
    """

    value: Expr
    result: Var
    integers: Integers | None = None


Layer: TypeAlias = (
    Convolution
    | QuantizedConvolution
    | QuantizedDense
    | Pooling
    | WindowPooling
    | Resize
    | ChannelsToSpace
    | Dense
    | Elementwise
    | Channels
    | Other
)
WithEpilogue = (
    Convolution
    | QuantizedConvolution
    | QuantizedDense
    | ChannelsToSpace
    | Dense
    | Pooling
    | WindowPooling
)


def is_plain(layer: Convolution) -> bool:
    """Whether it has one group, or is depthwise, and its filter's taps lie side by side."""
    return layer.groups == 1 and layer.dilation == (1, 1)


def variables(value: Expr) -> Iterable[Var]:
    """The variables that ``value`` reads, once for each time it reads them."""
    if isinstance(value, Var):
        yield value
    elif isinstance(value, Call):
        for arg in value.args:
            yield from variables(arg)
    elif isinstance(value, relax.Tuple):
        for item in value.fields:
            yield from variables(item)
    elif isinstance(value, relax.TupleGetItem):
        yield from variables(value.tuple_value)


def sources(layer: Layer) -> list[Var]:
    """The tensors that a layer reads."""
    if isinstance(layer, Other):
        return list(variables(layer.value))
    if isinstance(layer, Elementwise):
        return tensors(layer.operands)
    if isinstance(layer, Channels):
        return list(dict.fromkeys(var for var, _ in layer.channels))
    more = layer.epilogue.operands if isinstance(layer, WithEpilogue) else ()
    return [layer.source, *tensors(more)]


def tensors(operands: Sequence[Operand]) -> list[Var]:
    """Those that are no constants."""
    return [one for one in operands if isinstance(one, Var)]


def is_call(value: Expr, operator: str) -> bool:
    return isinstance(value, Call) and getattr(value.op, "name", None) == operator


def is_constant(value: Expr) -> bool:
    return isinstance(value, Constant) and value.ty.dtype == "float32"


def shape_of(value: Expr) -> tuple[int, ...]:
    return tuple(int(dim) for dim in value.ty.shape)
