"""Operators that TVM's importer does not take, said with others."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper
from support import foreign_onnx
from support.foreign_onnx import FLOAT, IMAGE, INT64

from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.network import cleaning, onnx_export, operators, relax_import

node = helper.make_node


@pytest.mark.parametrize(
    ("op", "opset", "inputs"),
    [
        (node("Celu", ["x"], ["y"], alpha=0.7), 17, {}),
        (node("Swish", ["x"], ["y"], alpha=1.5), 24, {}),
        (node("Pow", ["x", "two"], ["y"]), 17, {"two": np.int64(2)}),
        (node("Pow", ["x", "two"], ["y"]), 17, {"two": np.array([2], np.int32)}),
    ],
    ids=["Celu", "Swish", "an exponent of int64", "an exponent of int32"],
)
def test_it_is_imported_and_means_the_same(
    op: onnx.NodeProto, opset: int, inputs: dict[str, np.ndarray], rng: np.random.Generator
) -> None:
    model = foreign_onnx.network({"x": IMAGE}, [op], {"y": FLOAT}, inputs, opset=opset)
    cleaned = cleaning.clean(model).model
    operators.check_operators(cleaned)
    relax_import.import_onnx(cleaned)
    x = rng.standard_normal(IMAGE, np.float32)
    (got,), (right,) = (onnx_export.evaluate(one, x) for one in (cleaned, model))
    np.testing.assert_allclose(got, right, rtol=1e-5, atol=1e-6)


def test_indices_of_a_pooling_are_refused_where_they_are_read() -> None:
    pool = node("MaxPool", ["x"], ["y", "places"], name="pool", kernel_shape=[2, 2])
    unread = foreign_onnx.network({"x": IMAGE}, [pool], {"y": FLOAT})
    operators.check_operators(cleaning.clean(unread).model)
    read = foreign_onnx.network({"x": IMAGE}, [pool], {"y": FLOAT, "places": INT64})
    with pytest.raises(BadInput, match=r"the indices that MaxPool \(node pool\) gives"):
        operators.check_operators(cleaning.clean(read).model)
