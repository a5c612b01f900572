"""What an output's values are, by the operators that the graph ends with."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper
from support import foreign_onnx

from tvm_mobilenet.network import cleaning, outputs

node = helper.make_node
SOFTMAX = node("Softmax", ["scores"], ["y"])
HEADS: dict[str, tuple[str | None, list[onnx.NodeProto]]] = {
    "none": ("logits", [node("Identity", ["scores"], ["y"])]),
    "softmax": ("softmax", [SOFTMAX]),
    "softmax over the classes": ("softmax", [node("Softmax", ["scores"], ["y"], axis=1)]),
    "softmax over the batch": (None, [node("Softmax", ["scores"], ["y"], axis=0)]),
    "softmax, renamed": (
        "softmax",
        [node("Softmax", ["scores"], ["p"]), node("Identity", ["p"], ["y"])],
    ),
    "log softmax": ("logits", [node("LogSoftmax", ["scores"], ["y"])]),
    "sigmoid": ("sigmoid", [node("Sigmoid", ["scores"], ["y"])]),
    "softmax by hand": (
        None,
        [
            node("Exp", ["scores"], ["e"]),
            node("ReduceSum", ["e"], ["sum"]),
            node("Div", ["e", "sum"], ["y"]),
        ],
    ),
    "relu": (None, [node("Relu", ["scores"], ["y"])]),
}


@pytest.mark.parametrize("head", HEADS)
def test_scores(head: str) -> None:
    expected, nodes = HEADS[head]
    assert outputs.scores_of(foreign_onnx.classifier(*nodes)) == (expected,)


def test_softmax_over_the_channels_of_a_map_of_one_pixel() -> None:
    nodes = [
        node("GlobalAveragePool", ["x"], ["pooled"]),
        node("Conv", ["pooled", "w"], ["scores"]),
        node("Softmax", ["scores"], ["p"], axis=1),
        node("Flatten", ["p"], ["y"]),
    ]
    weights = {"w": np.ones((5, 3, 1, 1), np.float32)}
    assert outputs.scores_of(foreign_onnx.model(nodes, weights, shape=(1, 5))) == ("softmax",)


@pytest.mark.parametrize("opset", [9, 11, 13, 17])
def test_a_softmax_of_any_age(opset: int) -> None:
    made = foreign_onnx.classifier(node("Softmax", ["scores"], ["y"], axis=1))
    made.opset_import[0].version = opset
    assert outputs.scores_of(cleaning.clean(made).model) == ("softmax",)


def test_our_networks_give_logits(small_onnx: onnx.ModelProto) -> None:
    assert outputs.scores_of(small_onnx) == ("logits",)
