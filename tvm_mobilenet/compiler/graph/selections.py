"""A choice by a comparison as one expression: thresholds, and leaky units as exporters spell them.

The comparison alone gives a tensor of truth values, which no kernel of ours takes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tvm import relax
from tvm.ir import Call, Expr, Var

from tvm_mobilenet.compiler.graph.layers import (
    Elementwise,
    Layer,
    Other,
    is_call,
    sources,
    variables,
)
from tvm_mobilenet.kernels.cpu.expressions import Expression, apply

# by the comparison of a with b, what is chosen of its two choices
COMPARISONS: dict[str, Callable[..., Expression]] = {
    "relax.greater": lambda a, b, yes, no: apply("where_greater", a, b, yes, no),
    "relax.less": lambda a, b, yes, no: apply("where_greater", b, a, yes, no),
    "relax.greater_equal": lambda a, b, yes, no: apply("where_greater", b, a, no, yes),
    "relax.less_equal": lambda a, b, yes, no: apply("where_greater", a, b, no, yes),
}
Arithmetic = Callable[[Sequence[Expr], Var, Callable[..., Expression]], Elementwise | None]


def choose(layers: Sequence[Layer], results: Expr, arithmetic: Arithmetic) -> list[Layer]:
    """``layers`` with each choice by a comparison as arithmetic, and without comparisons that
    nobody else reads.

    ``arithmetic`` makes a layer of tensors, a result and what the result is of them.
    """
    compared = {
        layer.result: layer.value
        for layer in layers
        if isinstance(layer, Other) and name_of(layer.value) in COMPARISONS
    }
    chosen = [choice(layer, compared, arithmetic) or layer for layer in layers]
    read = {var for layer in chosen for var in sources(layer)} | set(variables(results))
    return [layer for layer in chosen if layer.result in read or layer.result not in compared]


def choice(layer: Layer, compared: dict[Var, Call], arithmetic: Arithmetic) -> Elementwise | None:
    if not isinstance(layer, Other) or not isinstance(layer.value, Call) or not layer.value.args:
        return None
    condition, *choices = layer.value.args
    if not isinstance(condition, Var) or condition not in compared:
        return None
    comparison = compared[condition]
    select = COMPARISONS[name_of(comparison)]
    if is_call(layer.value, "relax.where"):
        return arithmetic([*comparison.args, *choices], layer.result, select)
    if is_call(layer.value, "relax.astype"):  # 1 where it holds
        return arithmetic(comparison.args, layer.result, lambda a, b: select(a, b, 1.0, 0.0))
    return None


def name_of(value: Expr) -> str:
    return str(getattr(value.op, "name", "")) if isinstance(value, Call) else ""


def where_greater(a: Expr, b: Expr, yes: Expr, no: Expr) -> Expr:
    """As Relax operators."""
    return relax.op.where(relax.op.greater(a, b), yes, no)
