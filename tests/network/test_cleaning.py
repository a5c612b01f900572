"""What exporters leave in a file goes, and the network stays the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from support import foreign_onnx
from support.foreign_onnx import FLOAT, FLOAT16, IMAGE

from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.network import cleaning, onnx_export, operators
from tvm_mobilenet.network.signature import Sizes, fix_sizes

node = helper.make_node
RNG = np.random.default_rng(11)
KERNEL = RNG.standard_normal((4, 3, 3, 3)).astype(np.float32)
CONV = node("Conv", ["x", "w"], ["c"])


def network(
    *nodes: onnx.NodeProto, opset: int = 17, kind: int = FLOAT, **weights: Any
) -> onnx.ModelProto:
    """Nodes from the image x to y."""
    return foreign_onnx.network({"x": IMAGE}, nodes, {"y": kind}, weights, opset=opset, kind=kind)


def clean(model: onnx.ModelProto) -> onnx.ModelProto:
    return cleaning.clean(fix_sizes(model, Sizes())).model


def operators_of(model: onnx.ModelProto) -> list[str]:
    return [one.op_type for one in model.graph.node]


def check_same(model: onnx.ModelProto, cleaned: onnx.ModelProto, rtol: float = 1e-5) -> None:
    x = RNG.standard_normal(IMAGE, np.float32)
    for a, b in zip(onnx_export.evaluate(cleaned, x), onnx_export.evaluate(model, x), strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-6)


SCALES = np.array([1, 1, 2, 2], np.float32)
SHAPE_ARITHMETIC = [
    CONV,
    node("Shape", ["c"], ["shape"]),
    node("Gather", ["shape", "zero"], ["batch"], axis=0),
    node("Unsqueeze", ["batch", "axes"], ["batch_1"]),
    node("Concat", ["batch_1", "minus_one"], ["new"], axis=0),
    node("Reshape", ["c", "new"], ["y"]),
]
LEFT_IN: dict[str, tuple[onnx.ModelProto, list[str]]] = {
    "dropout, its ratio an attribute": (
        network(CONV, node("Dropout", ["c"], ["y"], ratio=0.5), opset=10, w=KERNEL),
        ["Conv"],
    ),
    "dropout with a mask": (
        network(
            CONV, node("Dropout", ["c", "k"], ["y", "mask"]), opset=13, w=KERNEL, k=np.float32(0.5)
        ),
        ["Conv"],
    ),
    "identities": (
        network(node("Identity", ["x"], ["i"]), node("Relu", ["i"], ["y"])),
        ["Relu"],
    ),
    "slice by attributes": (
        network(node("Slice", ["x"], ["y"], axes=[2], starts=[1], ends=[7]), opset=9),
        ["Slice"],
    ),
    "upsample by attributes": (
        network(node("Upsample", ["x"], ["y"], scales=[1.0, 1.0, 2.0, 2.0]), opset=7),
        ["Resize"],
    ),
    "upsample by an input": (
        network(node("Upsample", ["x", "s"], ["y"]), opset=9, s=SCALES),
        ["Resize"],
    ),
    "resize without a region": (
        network(node("Resize", ["x", "s"], ["y"]), opset=10, s=SCALES),
        ["Resize"],
    ),
    "constants as nodes": (
        network(
            node("Constant", [], ["low"], value_float=0.0),
            node("Constant", [], ["high"], value_float=6.0),
            node("Constant", [], ["shape"], value_ints=[1, -1]),
            node("Clip", ["x", "low", "high"], ["r"]),
            node("Reshape", ["r", "shape"], ["y"]),
        ),
        ["Clip", "Reshape"],
    ),
    "shape arithmetic": (
        network(
            *SHAPE_ARITHMETIC,
            w=KERNEL,
            zero=np.int64(0),
            axes=np.array([0]),
            minus_one=np.array([-1]),
        ),
        ["Conv", "Reshape"],
    ),
    "weights stored as fp16": (
        network(
            node("Cast", ["half"], ["w"], to=FLOAT), CONV, node("Relu", ["c"], ["y"]),
            half=KERNEL.astype(np.float16),
        ),
        ["Conv", "Relu"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", LEFT_IN)
def test_what_is_left_in_a_file_goes(kind: str) -> None:
    model, expected = LEFT_IN[kind]
    cleaned = clean(model)
    assert operators_of(cleaned) == expected
    operators.check_operators(cleaned)
    check_same(model, cleaned)


def test_functions_are_inlined() -> None:
    body = [
        node("HardSigmoid", ["a"], ["s"], alpha=1 / 6, beta=0.5),
        node("Mul", ["a", "s"], ["b"]),
    ]
    model = network(CONV, node("Swish6", ["c"], ["y"], domain="my.layers"), w=KERNEL)
    imports = [helper.make_opsetid("", 17)]
    model.functions.append(helper.make_function("my.layers", "Swish6", ["a"], ["b"], body, imports))
    cleaned = clean(model)
    assert not {one.domain for one in cleaned.graph.node} - {""}
    check_same(model, cleaned)


def test_weights_among_the_inputs() -> None:
    model = foreign_onnx.weights_first(network(node("Conv", ["x", "w"], ["y"]), opset=9, w=KERNEL))
    cleaned = clean(model)
    assert [one.name for one in cleaned.graph.input] == ["x"]
    check_same(model, cleaned)


def test_stale_shapes_are_forgotten() -> None:
    model = network(CONV, node("Relu", ["c"], ["y"]), w=KERNEL)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    cleaned = cleaning.clean(fix_sizes(model, Sizes(5))).model
    (output,) = cleaned.graph.output
    assert [dim.dim_value for dim in output.type.tensor_type.shape.dim] == [5, 4, 6, 6]


def test_a_network_in_half_precision_is_computed_in_single() -> None:
    half = KERNEL.astype(np.float16)
    inside = network(
        node("Cast", ["x"], ["h"], to=FLOAT16),
        node("Conv", ["h", "w"], ["c"]),
        node("Cast", ["c"], ["y"], to=FLOAT),
        w=half,
    )
    assert operators_of(clean(inside)) == ["Conv"]
    assert cleaning.clean(inside).half
    outside = network(CONV, node("Relu", ["c"], ["y"]), w=half, kind=FLOAT16)
    cleaned = cleaning.clean(outside)
    assert cleaned.half
    assert operators_of(cleaned.model) == ["Cast", "Conv", "Relu", "Cast"]
    assert cleaned.model.graph.initializer[0].data_type == FLOAT
    (given,), (taken,) = cleaned.model.graph.output, cleaned.model.graph.input
    assert given.type.tensor_type.elem_type == taken.type.tensor_type.elem_type == FLOAT16
    x = RNG.standard_normal(IMAGE).astype(np.float16)
    (found,), (right,) = (onnx_export.evaluate(one, x) for one in (cleaned.model, outside))  # type: ignore[arg-type]
    np.testing.assert_allclose(found, right, rtol=2e-2, atol=2e-2)


def test_stored_in_half_is_not_computed_in_half() -> None:
    model, _ = LEFT_IN["weights stored as fp16"]
    assert not cleaning.clean(model).half


# What cannot be compiled


def test_operators_that_cannot_be_compiled_are_named_together() -> None:
    dets = [node("Det", ["x"], [f"d{index}"], name=f"det_{index}") for index in range(5)]
    model = network(
        *dets,
        node("FusedConv", ["x", "x"], ["f"], domain="com.microsoft", name="fused"),
        node("NonMaxSuppression", ["b", "s"], ["picked"], name="nms"),
        node("Relu", ["x"], ["y"]),
    )
    with pytest.raises(BadInput) as caught:
        operators.check_operators(model)
    line = str(caught.value)
    assert "Det (node det_0), Det (node det_1), Det (node det_2) and 2 more Det" in line
    assert "FusedConv (node fused)" in line
    assert "NonMaxSuppression (node nms)" in line
    assert "\n" not in line


def test_another_domains_operator_of_the_same_name() -> None:
    model = network(node("Conv", ["x", "w"], ["y"], domain="my.domain"), w=KERNEL)
    with pytest.raises(BadInput, match=r"no importer for Conv \(output y\)"):
        operators.check_operators(model)


def test_boxes_of_unknown_number() -> None:
    suppress = node("NonMaxSuppression", ["b", "s"], ["picked"], name="nms")
    model = network(suppress, node("Relu", ["x"], ["y"]))
    with pytest.raises(BadInput, match=r"NonMaxSuppression \(node nms\) gives depends on the im"):
        operators.check_operators(model)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_no_numbers(value: float) -> None:
    spoilt = KERNEL.copy()
    spoilt[0, 0, 0, 0] = value
    model = network(node("Conv", ["x", "w"], ["y"], name="stem"), w=spoilt)
    with pytest.raises(BadInput, match=r"1 of the 108 weights w of Conv \(node stem\) are nan"):
        cleaning.check_weights(model, "some.onnx")


def test_a_mask_may_be_infinite() -> None:
    mask = np.array([0, -np.inf], np.float32).repeat(4)
    cleaning.check_weights(network(node("Add", ["x", "m"], ["y"]), m=mask), "some.onnx")
