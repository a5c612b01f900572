"""What a quantized network has as integers: its weights, and the tensors between its layers.

Such a network comes as float operators between pairs of quantize and dequantize. Its weights are
dequantized constants, whose integers have to outlive the folding of constants; a convolution or a
matrix product of those and of a dequantized tensor is a layer over the integers themselves.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm import relax
from tvm.ir import Call, Constant, Expr, Var

Array = NDArray[np.float32]
KEPT = "tvm_mobilenet.dequantize"  # a call that nothing folds
MOVES = ("relax.permute_dims", "relax.reshape")


@dataclass(frozen=True)
class Integers:
    """``array``, int8, times ``scale``, which broadcasts against it: real weights."""

    array: NDArray[np.int8]
    scale: Array

    def scaled(self, by: Array) -> Integers:
        return replace(self, scale=self.scale * by)


@dataclass(frozen=True)
class KnownValue:
    """A dequantized constant; ``integers`` where symmetric int8 weights are what it is of."""

    array: Array
    integers: Integers | None


@tvm.transform.module_pass(opt_level=0, name="KeepIntegers")
def keep_integers(mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
    """Make opaque calls of the operators that dequantize constants."""
    main = mod.get_global_var("main")
    functions = {**dict(mod.functions.items()), main: _Keeper(mod).visit_expr(mod[main])}
    return tvm.IRModule(functions, attrs=mod.attrs)


@relax.expr_functor.mutator
class _Keeper(relax.PyExprMutator):  # type: ignore[misc]
    def visit_call_(self, call: Call) -> Expr:
        call = self.visit_expr_post_order(call)
        operator = getattr(call.op, "name", None)
        constant = all(isinstance(self.bound(arg), Constant) for arg in call.args)
        if operator != "relax.dequantize" or not constant:
            return call
        rank = len(call.ty.shape)
        axis = relax.prim_value(int(call.attrs.axis) % max(rank, 1))
        args = [*(self.bound(arg) for arg in call.args), axis]
        return relax.op.call_pure_packed(KEPT, *args, ty_args=call.ty)

    def bound(self, arg: Expr) -> Expr:
        """A constant that a variable stands for."""
        value = self.lookup_binding(arg) if isinstance(arg, Var) else None
        return value if isinstance(value, Constant) else arg


class KnownValues:
    """The dequantized constants of a function, by the variables that hold them."""

    def __init__(self) -> None:
        self.values: dict[Var, KnownValue] = {}

    def take(self, value: Expr, result: Var) -> bool:
        """Whether ``value`` is one, or one in another shape; from then on ``result`` is known."""
        known = self.kept(value) or self.moved(value)
        if known is not None:
            self.values[result] = known
        return known is not None

    @staticmethod
    def kept(value: Expr) -> KnownValue | None:
        if not isinstance(value, Call) or getattr(value.op, "name", "") != "relax.call_pure_packed":
            return None
        function, *args = value.args
        if getattr(function, "global_symbol", None) != KEPT:
            return None
        array, scale, zero_point = (arg.value.numpy() for arg in args[:3])
        return dequantized(array, scale, zero_point, int(args[3].value))

    def moved(self, value: Expr) -> KnownValue | None:
        """A known value whose dimensions are transposed, or reshaped."""
        if not isinstance(value, Call) or getattr(value.op, "name", "") not in MOVES:
            return None
        known = self.values.get(value.args[0])
        if known is None:
            return None
        if value.op.name == "relax.reshape":
            return KnownValue(known.array.reshape([int(dim) for dim in value.ty.shape]), None)
        axes = value.attrs.axes
        order = None if axes is None else [int(axis) for axis in axes]
        integers = known.integers and Integers(
            known.integers.array.transpose(order), known.integers.scale.transpose(order)
        )
        return KnownValue(known.array.transpose(order), integers)

    def substituted(self, value: Expr) -> Expr:
        """``value`` with float constants for the variables that are known."""
        if isinstance(value, Call):
            args = [self.substituted(arg) for arg in value.args]
            if all(one is other for one, other in zip(args, value.args, strict=True)):
                return value
            return Call(value.op, args, value.attrs, value.ty_args)
        if isinstance(value, relax.Tuple):
            return relax.Tuple([self.substituted(item) for item in value.fields])
        if isinstance(value, Var) and value in self.values:
            return relax.const(np.ascontiguousarray(self.values[value].array))
        return value

    def integers_of(self, value: Expr) -> Integers | None:
        """Those of the second argument, which are the weights."""
        two = isinstance(value, Call) and len(value.args) > 1
        known = self.values.get(value.args[1]) if two else None
        return known.integers if known is not None else None


def dequantized(
    array: NDArray[np.integer], scale: Array, zero_point: NDArray[np.integer], axis: int
) -> KnownValue:
    """A constant's value; ``scale`` and ``zero_point`` are one number, or one along ``axis``."""
    shape = [-1 if place == axis else 1 for place in range(array.ndim)]
    scales = scale.astype(np.float32).reshape(shape if scale.size > 1 else [1] * array.ndim)
    zeros = zero_point.reshape(shape if zero_point.size > 1 else [1] * array.ndim)
    centred = array.astype(np.int64) - zeros
    integers = None
    if array.dtype.itemsize == 1 and centred.min() >= -128 and centred.max() <= 127:
        integers = Integers(centred.astype(np.int8), scales)
    return KnownValue(centred.astype(np.float32) * scales, integers)
