"""Inputs and outputs of foreign files: open sizes fixed, layouts seen, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from support import foreign_onnx
from support.foreign_onnx import FLOAT, FLOAT16

from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.network import signature
from tvm_mobilenet.network.signature import Sizes

node = helper.make_node
Shapes = Mapping[str, Sequence[int | str]]


def summed(shapes: Shapes, kind: int = FLOAT) -> onnx.ModelProto:
    """A network that adds up what it makes of each of its inputs."""
    nodes = [node("Relu", [name], [f"{name}_relu"]) for name in shapes]
    nodes.append(node("Sum", [f"{name}_relu" for name in shapes], ["y"]))
    return foreign_onnx.network(shapes, nodes, {"y": kind}, kind=kind)


def fixed(shapes: Shapes, sizes: Sizes) -> list[tuple[int, ...]]:
    found = signature.inputs_of(signature.fix_sizes(summed(shapes), sizes))
    return [one.shape for one in found]


OPEN: Shapes = {"x": ("N", 3, "H", "W")}


def test_open_sizes_are_fixed() -> None:
    assert fixed({"x": ("N", 3, 8, 8)}, Sizes(4)) == [(4, 3, 8, 8)]
    assert fixed({"x": (0, 3, 8, 8)}, Sizes(4)) == [(4, 3, 8, 8)]
    assert fixed(OPEN, Sizes(None, {"x": (2, 3, 8, 6)})) == [(2, 3, 8, 6)]
    assert fixed(OPEN, Sizes(2, {"x": (2, 3, 8, 6)})) == [(2, 3, 8, 6)]
    assert fixed({"x": (1, 3, 8, 8)}, Sizes(1, {"x": (1, 3, 8, 8)})) == [(1, 3, 8, 8)]


def test_one_name_is_one_size() -> None:
    two: Shapes = {"a": ("N", 3, "H", "W"), "b": ("N", 3, "H", "W")}
    assert fixed(two, Sizes(None, {"a": (2, 3, 5, 6)})) == [(2, 3, 5, 6)] * 2
    assert fixed(two, Sizes(2, {"b": (2, 3, 5, 6)})) == [(2, 3, 5, 6)] * 2
    sizes = {"a": (1, 3, 4, 5), "b": (1, 3, 4, 6)}
    for no_name in ("", "?"):  # as PaddlePaddle's exporter calls every size that it does not know
        nameless: Shapes = dict.fromkeys("ab", (no_name, 3, no_name, no_name))
        assert fixed(nameless, Sizes(None, sizes)) == [*sizes.values()]


def test_the_file_itself_is_left_alone() -> None:
    model = summed(OPEN)
    before = model.SerializeToString()
    signature.fix_sizes(model, Sizes(None, {"x": (1, 3, 8, 8)}))
    assert model.SerializeToString() == before


@pytest.mark.parametrize(
    ("shapes", "sizes", "says"),
    [
        ({"x": (1, 3, 8, 8)}, Sizes(4), "--batch 4: input x has the fixed shape 1x3x8x8"),
        (OPEN, Sizes(None, {"z": (1,)}), "--input-shape z: the network has no input of that name"),
        (OPEN, Sizes(None, {"x": (1, 3, 8)}), "in the file is Nx3xHxW; give as many numbers"),
        (OPEN, Sizes(None, {"x": (1, 4, 8, 8)}), "only sizes that it leaves open can be given"),
        (
            {"x": ("N", 3, "S", "S")},
            Sizes(None, {"x": (1, 3, 8, 9)}),
            "S is one size in the file, and 8 was given for it before",
        ),
        (OPEN, Sizes(1), "dynamic shape 1x3xHxW; fix it, as with --input-shape x=1x3x224x224"),
        ({"x": ("N", 3, 8, 8)}, Sizes(), "dynamic shape Nx3x8x8; fix it, as with --batch 1"),
        ({"x": (1, 8)}, Sizes(), r"x: expected images \(N, C, H, W\), got the shape 1x8"),
    ],
)
def test_sizes_that_would_be_ignored_or_are_missing(
    shapes: Shapes, sizes: Sizes, says: str
) -> None:
    with pytest.raises(BadInput, match=says) as caught:
        fixed(shapes, sizes)
    assert "\n" not in str(caught.value)


def test_types_and_unread_inputs() -> None:
    for kind, name in ((FLOAT16, "float16"), (TensorProto.UINT8, "uint8")):
        (one,) = signature.inputs_of(summed({"x": (1, 3, 8, 8)}, kind))
        assert one.dtype == name
    with pytest.raises(BadInput, match=r"ONNX input x: expected float32, .*uint8, got float64; "):
        signature.inputs_of(summed({"x": (1, 3, 8, 8)}, TensorProto.DOUBLE))
    model = summed({"x": (1, 3, 8, 8)})
    model.graph.input.append(helper.make_tensor_value_info("scale", FLOAT, [1]))
    with pytest.raises(BadInput, match="ONNX input scale is read by no node"):
        signature.inputs_of(model)


# Order of dimensions


def transposed(*between: onnx.NodeProto, source: str = "x") -> onnx.ModelProto:
    """(N, H, W, C) in and out, as tf2onnx writes it; ``between`` the image and the Transpose."""
    nodes = [
        *between,
        node("Transpose", [source], ["t"], perm=[0, 3, 1, 2]),
        node("Relu", ["t"], ["r"]),
        node("Transpose", ["r"], ["y"], perm=[0, 2, 3, 1]),
    ]
    weights = {"mean": np.float32(127.5)}
    return foreign_onnx.network({"x": (1, 8, 6, 3)}, nodes, {"y": FLOAT}, weights)


@pytest.mark.parametrize("scaled", [False, True])
def test_channels_last(*, scaled: bool) -> None:
    between = [node("Sub", ["x", "mean"], ["s"])] if scaled else []
    model = transposed(*between, source="s" if scaled else "x")
    (image,) = signature.inputs_of(model)
    assert (image.shape, image.layout) == ((1, 8, 6, 3), "NHWC")
    assert signature.output_layouts(model, [4]) == ("NHWC",)


def test_channels_first() -> None:
    model = foreign_onnx.classifier(node("Softmax", ["scores"], ["y"]))
    assert [one.layout for one in signature.inputs_of(model)] == ["NCHW"]
    assert signature.output_layouts(model, [2]) == ("NC",)
    both = [node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]), node("Relu", ["x"], ["y"])]
    read_twice = foreign_onnx.network({"x": (1, 3, 8, 8)}, both, {"y": FLOAT, "t": FLOAT})
    assert [one.layout for one in signature.inputs_of(read_twice)] == ["NCHW"]
