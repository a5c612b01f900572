"""uint8 activations → int8 that stand for the same values, for targets that multiply those.

An integer and its zero point 128 lower are the same real number, so nothing is rounded. What the
network is given or gives out stays what it is; a parameter is made int8 before the first kernel.
"""

from __future__ import annotations

import numpy as np
import tvm
from tvm import relax
from tvm.ir import Call, Constant, Expr, Var

from tvm_mobilenet.compiler.graph.layers import is_call, variables

BETWEEN = 128  # a uint8 and the int8 that stands for the same value
# operators that only move elements, or choose among them: they do so with either type
MOVES = frozenset(
    f"relax.{name}"
    for name in (
        *("concat", "expand_dims", "flatten", "permute_dims", "reshape", "split", "squeeze"),
        *("strided_slice", "take", "nn.max_pool2d"),
    )
)


@tvm.transform.module_pass(opt_level=0, name="SignIntegers")
def sign_integers(mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
    """Make int8 of the uint8 tensors between quantize and dequantize."""
    main = mod.get_global_var("main")
    signed = _Signer(mod, signable(mod[main])).visit_expr(mod[main])
    return tvm.IRModule({**dict(mod.functions.items()), main: signed}, attrs=mod.attrs)


def signable(function: relax.Function) -> set[Var]:
    """The variables of uint8 that may be int8: what makes them and all that reads them allows it.

    Tuples of such tensors are among them. What only moves elements is as what it moves.
    """
    bindings = [one for block in function.body.blocks for one in block.bindings]
    found: set[Var] = set()
    for one in bindings:
        if makes_integers(one.value) or moves(one.value, found):
            found.add(one.var)
    kept = set(variables(function.body.body))
    while True:
        bad = found & kept
        for one in bindings:
            read = found.intersection(variables(one.value))
            moved = one.var in found and not makes_integers(one.value)
            if moved and not (moves(one.value, found) and one.var not in bad):
                bad |= {one.var, *read}
            elif not moved and not dequantizes(one.value):
                bad |= read
        if not bad:
            return found
        found -= bad


def makes_integers(value: Expr) -> bool:
    """Whether it quantizes to uint8, by one scale for all of a tensor."""
    return is_call(value, "relax.quantize") and quantized_by_one(value)


def dequantizes(value: Expr) -> bool:
    return is_call(value, "relax.dequantize") and quantized_by_one(value)


def quantized_by_one(call: Call) -> bool:
    zero = call.args[2]
    return isinstance(zero, Constant) and zero.ty.dtype == "uint8" and zero.value.numpy().size == 1


def moves(value: Expr, known: set[Var]) -> bool:
    """Whether ``value`` is elements of the tensors that are ``known``, and of no others."""
    is_move = isinstance(value, Call) and getattr(value.op, "name", "") in MOVES
    if not (is_move or isinstance(value, Var | relax.Tuple | relax.TupleGetItem)):
        return False
    read = set(variables(value))
    return bool(read) and read <= known


@relax.expr_functor.mutator
class _Signer(relax.PyExprMutator):  # type: ignore[misc]
    def __init__(self, mod: tvm.IRModule, signed: set[Var]) -> None:
        super().__init__(mod)
        self.signed = signed
        self.params = {one for one in mod["main"].params if one.ty.dtype == "uint8"}

    def visit_var_binding_(self, binding: relax.VarBinding) -> None:
        value = binding.value
        signs = binding.var in self.signed and makes_integers(value)
        source = value.args[0] if is_call(value, "relax.dequantize") else None
        if signs:
            value = relax.op.quantize(
                self.visit_expr(value.args[0]), *self.lower(value), int(value.attrs.axis), "int8"
            )
        elif source in self.signed:
            value = self.real(value, self.visit_expr(source))
        elif source in self.params and quantized_by_one(value):
            real = self.builder_.emit(self.visit_expr(value))
            scale, zero = self.lower(value)
            axis = int(value.attrs.axis)
            value = self.real(
                value, self.builder_.emit(relax.op.quantize(real, scale, zero, axis, "int8"))
            )
        else:
            value = self.visit_expr(value)
        self.set_var_remap(binding.var, self.emit_as(binding, value))

    def emit_as(self, binding: relax.VarBinding, value: Expr) -> Var:
        if isinstance(binding.var, relax.DataflowVar):
            return self.builder_.emit(value, binding.var.name)
        return self.builder_.emit_output(value, binding.var.name)

    def real(self, dequantize: Call, integers: Var) -> Call:
        return relax.op.dequantize(
            integers, *self.lower(dequantize), int(dequantize.attrs.axis), "float32"
        )

    def lower(self, call: Call) -> tuple[Expr, Expr]:
        """The scale, and the zero point of the int8 that stand for the same values."""
        zero = call.args[2].value.numpy().astype(np.int16) - BETWEEN
        return call.args[1], relax.const(zero.astype(np.int8), "int8")
