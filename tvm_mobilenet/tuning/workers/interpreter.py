"""A block without a reduction, by NumPy: every element from what the block's expression reads.

It knows the expressions that kernels' epilogues are made of, and computes them in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import ml_dtypes
import numpy as np
import tvm
from numpy.typing import NDArray
from tvm import ir, s_tir, tirx

from tvm_mobilenet.kernels.cpu.expressions import LIMITS, LRINT
from tvm_mobilenet.kernels.cpu.layout import BF16

Array = NDArray[Any]

BINARY: dict[type, Callable[[Any, Any], Any]] = {
    tirx.Add: np.add,
    tirx.And: np.logical_and,
    tirx.BitwiseAnd: np.bitwise_and,
    tirx.BitwiseOr: np.bitwise_or,
    tirx.Div: np.divide,
    tirx.EQ: np.equal,
    tirx.FloorDiv: np.floor_divide,
    tirx.FloorMod: np.mod,
    tirx.GE: np.greater_equal,
    tirx.GT: np.greater,
    tirx.LE: np.less_equal,
    tirx.LShift: np.left_shift,
    tirx.LT: np.less,
    tirx.Max: np.maximum,
    tirx.Min: np.minimum,
    tirx.Mul: np.multiply,
    tirx.Or: np.logical_or,
    tirx.RShift: np.right_shift,
    tirx.Sub: np.subtract,
}
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "tirx.erf": np.vectorize(math.erf, otypes=[np.float64]),
    "tirx.exp": np.exp,
    "tirx.sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tirx.sqrt": np.sqrt,
    "tirx.tanh": np.tanh,
    LRINT: np.rint,
}
LLVM = "tirx.call_llvm_pure_intrin"


class UnknownExpressionError(ValueError):
    """An expression that no kernel of ours has."""


def write_block(
    block: s_tir.SBlock, buffers: Sequence[tuple[tirx.Buffer, Array]], result: Array
) -> None:
    """Do what ``block`` does to ``result``, with what the ``buffers`` hold.

    What is rounded last, into a byte, is left unrounded.
    Raises UnknownExpressionError for a block that is not made of such expressions.
    """
    places = iterations(block)
    reader = _Reader(block, places, buffers)
    body = block.body
    for store in body.seq if isinstance(body, tirx.SeqStmt) else [body]:
        if not isinstance(store, tirx.BufferStore):
            raise UnknownExpressionError(f"expected a store, got {type(store).__name__}")
        indices = np.broadcast_arrays(*places, *(reader.value(index) for index in store.indices))
        result[tuple(indices[len(places) :])] = reader.stored(store.value)


def each_element(expression: Any, array: Array) -> Array:
    """An expression of one tensor's element, for every element of ``array``, that tensor."""
    value: Array = _Elements(array).value(expression)
    return value


def index_values(block: s_tir.SBlock, index: Any) -> Array:
    """What an index is in each iteration of ``block``, a dimension for each of its loops."""
    places = iterations(block)
    return np.broadcast_arrays(_Reader(block, places, ()).value(index), *places)[0]


def iterations(block: s_tir.SBlock) -> Sequence[Array]:
    """The values of each of the block's variables, along a dimension of its own."""
    return np.ogrid[tuple(slice(int(axis.dom.extent)) for axis in block.iter_vars)]


class _Reader:
    """Expressions over all iterations of a block at once."""

    def __init__(
        self,
        block: s_tir.SBlock,
        places: Sequence[Array],
        buffers: Sequence[tuple[tirx.Buffer, Array]],
    ) -> None:
        axes = (axis.var for axis in block.iter_vars)
        self.variables: dict[Any, Array] = dict(zip(axes, places, strict=True))
        self.buffers = buffers

    def value(self, node: Any) -> Any:
        if isinstance(node, tirx.IntImm):
            return node.value
        if isinstance(node, tirx.FloatImm):
            return round_to(node.value, str(node.ty.dtype))
        if isinstance(node, tirx.Var):
            return self.variables[node]
        if isinstance(node, tirx.Cast):
            return convert(self.value(node.value), str(node.ty.dtype))
        if isinstance(node, ir.TensorLoad):
            return self.load(node)
        if isinstance(node, tirx.Select):
            return np.where(*map(self.value, (node.condition, node.true_value, node.false_value)))
        if isinstance(node, ir.Call):
            return self.call(node)
        if type(node) in BINARY:
            return BINARY[type(node)](self.value(node.a), self.value(node.b))
        raise UnknownExpressionError(f"expected arithmetic, got {type(node).__name__}")

    def stored(self, node: Any) -> Any:
        """What is stored, unrounded where that is a byte."""
        if isinstance(node, tirx.Cast) and str(node.ty.dtype) in LIMITS:
            limited = node.value
            while isinstance(limited, tirx.Max | tirx.Min):
                limited = limited.a
            if is_rounding(limited):
                return self.unrounded(node.value)
        return self.value(node)

    def unrounded(self, node: Any) -> Any:
        """The value that is rounded, within the limits that are put to the integer."""
        if is_rounding(node):
            return self.value(node.args[1])
        return BINARY[type(node)](self.unrounded(node.a), self.value(node.b))

    def call(self, node: ir.Call) -> Any:
        name = str(getattr(node.op, "name", ""))
        given = list(node.args)
        if name == LLVM:
            name = llvm_name(given.pop(0).value)
        args = [self.value(arg) for arg in given]
        if name == "tirx.reinterpret":
            return reinterpreted(args[0], str(given[0].ty.dtype), str(node.ty.dtype))
        if name == "prim.if_then_else":
            return np.where(*args)
        if name not in FUNCTIONS:
            raise UnknownExpressionError(f"expected a known function, got {name}")
        return FUNCTIONS[name](*args)

    def load(self, node: ir.TensorLoad) -> Array:
        array = next((a for buffer, a in self.buffers if buffer.same_as(node.source)), None)
        if array is None:
            raise UnknownExpressionError("expected a tensor that is known")
        # what a condition guards may lie outside
        limited = [
            np.clip(self.value(index), 0, size - 1)
            for index, size in zip(node.indices, array.shape, strict=True)
        ]
        value: Array = array[tuple(np.broadcast_arrays(*limited))]
        return value


class _Elements(_Reader):
    """Every load is of one and the same array, all of it."""

    def __init__(self, array: Array) -> None:
        self.variables = {}
        self.array = array

    def load(self, node: ir.TensorLoad) -> Array:
        return self.array


def reinterpreted(value: Any, source: str, result: str) -> Array:
    """What the bits of a ``source`` are as a ``result``."""
    stored = np.asarray(value).astype(np.int64 if "int" in source else np.float32)
    found = stored.astype(ml_dtypes.bfloat16 if source == BF16 else source)
    bits: Array = found.view(ml_dtypes.bfloat16 if result == BF16 else result)
    return bits.astype(np.int64 if "int" in result else np.float64)


def is_rounding(node: Any) -> bool:
    """Whether it makes the next integer of its argument."""
    if not isinstance(node, ir.Call) or str(getattr(node.op, "name", "")) != LLVM:
        return False
    return llvm_name(node.args[0].value) == LRINT


def round_to(number: float, dtype: str) -> float:
    """What a constant of the kernel is in its own type."""
    return float(np.float32(number)) if dtype == "float32" else number


def convert(value: Any, dtype: str) -> Any:
    """A cast, of which integers alone make another number, the one towards zero."""
    integer = dtype.startswith(("int", "uint"))
    return np.trunc(value).astype(np.int64) if integer else value


@cache
def llvm_name(intrinsic: int) -> str:
    """Of an intrinsic that LLVM has by this number."""
    return str(tvm.get_global_func("target.llvm_get_intrinsic_name")(intrinsic))
