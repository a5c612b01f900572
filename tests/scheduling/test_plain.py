"""Kernels of TVM's legalization: in vectors and in parallel, and what they computed before."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import tvm
from tvm import relax, tirx
from tvm.ir import Expr
from tvm.script import tirx as T

from tvm_mobilenet.compiler.cpu.lowering import lower
from tvm_mobilenet.hardware import target
from tvm_mobilenet.scheduling.plain import plain_schedule

WEIGHT = relax.const(np.random.default_rng(3).standard_normal((3, 6, 3, 3)).astype(np.float32))

OPERATORS: dict[str, tuple[Callable[[Expr], Expr], tuple[int, ...]]] = {
    "softmax": (lambda x: relax.op.nn.softmax(x, -1), (4, 3, 50)),
    "product": (lambda x: relax.op.matmul(x, relax.op.permute_dims(x)), (20, 33)),
    "mean of rows": (lambda x: relax.op.mean(x, axis=[-1], keepdims=True), (8, 30)),
    "mean of columns": (lambda x: relax.op.mean(x, axis=[0]), (8, 30)),
    "everything": (relax.op.max, (8, 30)),
    "concatenation": (lambda x: relax.op.concat([x, x], axis=1), (2, 3, 7)),
    "transpose": (lambda x: relax.op.permute_dims(x, [2, 0, 1]), (5, 6, 7)),
    "norm": (
        lambda x: relax.op.nn.layer_norm(
            x, relax.const(np.ones(12, np.float32)), relax.const(np.ones(12, np.float32)), axes=[-1]
        ),
        (5, 12),
    ),
    "transposed convolution": (
        lambda x: relax.op.nn.conv2d_transpose(x, WEIGHT, strides=2, padding=1),
        (1, 3, 8, 8),
    ),
    "cubic": (
        lambda x: relax.op.image.resize2d(x, relax.ShapeExpr([9, 11]), method="cubic"),
        (1, 3, 8, 8),
    ),
    "one element": (lambda x: relax.op.exp(x), (1,)),
}


def legalized(operator: Callable[[Expr], Expr], shape: tuple[int, ...]) -> list[tirx.PrimFunc]:
    x = relax.Var("x", relax.TensorType(shape, "float32"))
    builder = relax.BlockBuilder()
    with builder.function("main", [x]):
        with builder.dataflow():
            output = builder.emit_output(operator(x))
        builder.emit_func_output(output)
    mod = relax.transform.LegalizeOps()(builder.finalize())
    return [func for func in mod.functions.values() if isinstance(func, tirx.PrimFunc)]


@pytest.mark.parametrize("name", OPERATORS)
def test_it_computes_the_same(name: str, rng: np.random.Generator) -> None:
    for func in legalized(*OPERATORS[name]):
        plain = func.with_attr("global_symbol", "main")
        spread = plain_schedule(plain)
        script = spread.script()
        if name != "everything":  # which is one sum
            assert "T.parallel" in script
            assert "T.vectorized" in script
        arrays = [rng.standard_normal(tuple(map(int, p.shape))) for p in func.params]
        results = []
        for one in (plain, spread):
            tensors = [tvm.runtime.tensor(array.astype(np.float32)) for array in arrays]
            machine = target.resolve("x86").tvm_target()
            lower(tvm.IRModule({"main": one}), machine)["main"](*tensors)
            results.append(tensors[-1].numpy())
        np.testing.assert_allclose(results[1], results[0], rtol=1e-5, atol=1e-6)
        assert not np.array_equal(results[1], arrays[-1].astype(np.float32)), "it was written"


def test_what_somebody_has_scheduled_stays() -> None:
    @T.prim_func(s_tir=True)
    def main(x: T.Buffer((8,), "float32")) -> None:
        for i in T.parallel(8):
            with T.sblock("one"):
                vi = T.axis.spatial(8, i)
                x[vi] = T.float32(1)

    assert plain_schedule(main).same_as(main)
