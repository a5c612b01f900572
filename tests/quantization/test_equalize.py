"""Channels made alike leave the network as it is, and int8 nearer to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from support.float_networks import conv, network, node, samples_of

from tvm_mobilenet.network import onnx_export
from tvm_mobilenet.quantization import collecting
from tvm_mobilenet.quantization.equalize import equalize
from tvm_mobilenet.quantization.graph import Graph, shapes_of
from tvm_mobilenet.quantization.groups import groups_of
from tvm_mobilenet.quantization.prepare import prepare
from tvm_mobilenet.quantization.quantize import How, quantize

X = np.random.default_rng(1).standard_normal((24, 8, 8, 8)).astype(np.float32)
ACTIVATIONS = {
    "relu": node("Relu", ["c"], ["a"]),
    "leaky": node("LeakyRelu", ["c"], ["a"], alpha=0.1),
    "relu6": node("Clip", ["c", "zero", "six"], ["a"]),
    "hard-swish": node("HardSwish", ["c"], ["a"]),
}


def block(activation: str, after: str, size: float = 1.0) -> onnx.ModelProto:
    """A 1x1 layer of channels a thousand to one, and a layer after it that evens them out."""
    rng = np.random.default_rng(2)
    scales = size * np.logspace(-3, 0, 16)
    weights: dict[str, Any] = {
        "w": conv(rng, 16, 8) * scales[:, None, None, None],
        "b": 0.1 * scales,
    }
    if after == "depthwise":
        weights["v"] = conv(rng, 16, 1, 3) / scales[:, None, None, None]
        second = node("Conv", ["a", "v"], ["d"], group=16)
        weights["u"] = conv(rng, 8, 16)
    else:
        weights["v"] = conv(rng, 16, 16) / scales[None, :, None, None]
        second = node("Conv", ["a", "v"], ["d"])
        weights["u"] = conv(rng, 8, 16)
    if activation == "relu6":
        weights |= {"zero": 0.0, "six": 6.0}
    nodes = [node("Conv", ["x", "w", "b"], ["c"]), ACTIVATIONS[activation], second]
    return network([*nodes, node("Conv", ["d", "u"], ["y"])], weights)


def equalized(model: onnx.ModelProto) -> tuple[Graph, tuple[str, ...]]:
    graph = prepare(model)
    groups = groups_of(graph, shapes_of(graph.to_model()))
    names = [group.outputs[0] for group in groups]
    extents = collecting.extents(graph.to_model(), names, ([x[None]] for x in X))
    return graph, equalize(graph, groups, extents)


@pytest.mark.parametrize("after", ["depthwise", "1x1"])
@pytest.mark.parametrize("activation", ["relu", "leaky", "relu6"])
def test_the_network_stays_the_same(activation: str, after: str, tmp_path: Path) -> None:
    model = block(activation, after)
    graph, changed = equalized(model)
    assert "a" in changed
    for x in X[:4]:
        (a,), (b,) = (onnx_export.evaluate(one, x[None]) for one in (graph.to_model(), model))
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * np.abs(b).max())
    samples = samples_of(X, tmp_path)
    how = {each: How("minmax", correct_biases=False, equalize=each) for each in (False, True)}
    found = {each: quantize(model, samples, one).report for each, one in how.items()}
    assert found[True].summary.equalized >= 1 and found[False].summary.equalized == 0
    assert found[True].agreement.error < 0.5 * found[False].agreement.error


def test_nothing_is_done_where_it_would_change_the_network() -> None:
    _, changed = equalized(block("hard-swish", "depthwise"))
    assert "a" not in changed


def test_what_a_layer_also_adds_stays() -> None:
    """A residual around the layer after reads the channels as they were."""
    rng = np.random.default_rng(2)
    scales = np.logspace(-3, 0, 16)
    weights = {"w": conv(rng, 16, 8) * scales[:, None, None, None], "v": conv(rng, 16, 16, 3)}
    nodes = [
        node("Conv", ["x", "w"], ["c"]),
        node("Relu", ["c"], ["a"]),
        node("Conv", ["a", "v"], ["d"], pads=[2] * 4, dilations=[2, 2]),
        node("Add", ["d", "a"], ["y"]),
    ]
    _, changed = equalized(network(nodes, weights))
    assert changed == ()


def test_channels_below_zero_are_as_large_as_they_reach() -> None:
    """Some lie closely around -5, and zero is one of a tensor's numbers in any case."""
    rng = np.random.default_rng(4)
    scales = np.where(np.arange(16) < 13, 1e-3, 1.0)
    bias = np.where(np.arange(16) < 2, -5.0, 0.0)
    weights = {
        "w": conv(rng, 16, 8) * scales[:, None, None, None],
        "b": bias,
        "v": conv(rng, 16, 1, 3),
    }
    nodes = [node("Conv", ["x", "w", "b"], ["a"]), node("Conv", ["a", "v"], ["y"], group=16)]
    graph, changed = equalized(network(nodes, weights))
    assert changed == ("a",)
    factors = graph.constants[graph.nodes[0].input[2]][:2] / bias[:2]
    assert (factors < 3).all()


def test_a_clip_leaves_room_for_what_was_not_seen() -> None:
    """Enlarged channels keep a fifth below 6; those that are cut off stay as they are."""
    model = block("relu6", "depthwise", size=8.0)
    graph, changed = equalized(model)
    assert "a" in changed
    one = {"before": prepare(model).to_model(), "after": graph.to_model()}
    most = {
        name: np.max(
            [onnx_export.evaluate(clipped(each), x[None])[0].max(axis=(0, 2, 3)) for x in X], axis=0
        )
        for name, each in one.items()
    }
    cut_off = most["before"] >= 6
    assert cut_off.any() and not cut_off.all()
    np.testing.assert_array_equal(most["after"][cut_off], 6)
    enlarged = most["after"] > 1.01 * most["before"]
    assert enlarged.sum() >= 8 and (most["after"][enlarged] <= 6 / 1.25 + 1e-5).all()


def clipped(model: onnx.ModelProto) -> onnx.ModelProto:
    changed = type(model)()
    changed.CopyFrom(model)
    del changed.graph.output[:]
    changed.graph.output.append(onnx.helper.make_tensor_value_info("a", 1, None))
    return changed


def test_channels_that_are_alike_stay() -> None:
    rng = np.random.default_rng(4)
    nodes = [
        node("Conv", ["x", "w"], ["c"]),
        node("Relu", ["c"], ["a"]),
        node("Conv", ["a", "v"], ["y"], group=16),
    ]
    _, changed = equalized(network(nodes, {"w": conv(rng, 16, 8), "v": conv(rng, 16, 1, 3)}))
    assert changed == ()
