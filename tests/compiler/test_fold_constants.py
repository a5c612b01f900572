"""Constants folded here are those that TVM folds."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
from tvm import relax

from tvm_mobilenet.compiler.graph.fold_constants import fold_constants

NORM = ("add", "sqrt", "divide", "multiply", "subtract", "reshape")
BIAS = np.arange(6, dtype=np.float32).reshape(2, 3, 1, 1)


def network(*constant: str) -> tvm.IRModule:
    """x plus a bias that goes through operators first."""
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((1, 6, 2, 2), "float32"))
    made = {
        "reshape": lambda y: relax.op.reshape(y, (1, 6, 1, 1)),
        "transpose": lambda y: relax.op.permute_dims(y, [1, 0, 2, 3]),
        "reverse": relax.op.permute_dims,
        "exp": relax.op.exp,
        # a norm's arithmetic
        "add": lambda y: relax.op.add(y, tvm.tirx.FloatImm("float32", 0.3)),
        "sqrt": relax.op.sqrt,
        "divide": lambda y: relax.op.divide(relax.const(BIAS + 1), y),
        "multiply": lambda y: relax.op.multiply(y, y),
        "subtract": lambda y: relax.op.subtract(relax.const(np.float32(0.7)), y),
    }
    with builder.function("main", [x]):
        with builder.dataflow():
            bias = relax.const(BIAS)
            for name in constant:
                bias = builder.emit(builder.normalize(made[name](bias)))
            y = builder.emit_output(relax.op.add(x, bias))
        builder.emit_func_output(y)
    return builder.finalize()


@pytest.mark.parametrize(
    "constant",
    [
        ("reshape",),
        ("transpose", "reshape"),
        ("reverse", "reshape"),
        ("exp", "reshape"),
        ("reshape", "exp"),
        NORM,
    ],
    ids=" ".join,
)
def test_as_tvm_folds(constant: tuple[str, ...]) -> None:
    module = network(*constant)
    clean = relax.transform.DeadCodeElimination()
    found, wanted = (
        clean(fold(module)) for fold in (fold_constants, relax.transform.FoldConstant())
    )
    tvm.ir.assert_structural_equal(found["main"], wanted["main"])
    assert [one.value.op.name for one in found["main"].body.blocks[0].bindings] == ["relax.add"]


def test_a_norm_needs_no_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    def compiles() -> None:
        pytest.fail("TVM would compile a kernel for each operator")

    monkeypatch.setattr(relax.transform, "FoldConstant", compiles)
    fold_constants(network(*NORM))
