"""Sums of bytes in 16 bits on an emulated core, of weights at the bound of what those hold."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tvm_mobilenet.building.bundles import build_bundle
from tvm_mobilenet.bundle import open_bundle
from tvm_mobilenet.compiler.options import CompileOptions
from tvm_mobilenet.emulation import emulator, instruction_count
from tvm_mobilenet.hardware import target
from tvm_mobilenet.kernels.cpu.sum_order import sum_order
from tvm_mobilenet.kernels.cpu.weights import pack_quantized_conv2d
from tvm_mobilenet.network.source import from_onnx

pytestmark = pytest.mark.arm_emulator

CHANNELS, HEIGHT, WIDTH = 128, 3, 5
Weights = NDArray[np.int8]


def signs() -> NDArray[np.int64]:
    """Of activations and weights, in no order that steps or lanes have too."""
    return np.where(np.random.default_rng(1).integers(0, 2, CHANNELS) > 0, 1, -1)


def normal_weights(outputs: int, most: int) -> Weights:
    drawn = np.random.default_rng(2).standard_normal((outputs, CHANNELS))
    weight: Weights = np.rint(drawn * most / np.abs(drawn).max(1, keepdims=True)).astype(np.int8)
    return weight


def at_the_bound(outputs: int) -> Weights:
    """Sums of -128 * 256 in every lane of two steps, where all activations are -128."""
    return np.full((outputs, CHANNELS), 64, np.int8)


def beyond(outputs: int) -> Weights:
    """The same, but for one weight too large for 16 bits."""
    weight = at_the_bound(outputs)
    weight[5, 70] = 65
    return weight


def with_signs(outputs: int) -> Weights:
    """The largest products of either sign: magnitudes of 255 in each lane of two steps."""
    sizes = np.array([64, 64, 64, 63])[np.arange(CHANNELS) // 8 % 4]
    return np.repeat((signs() * sizes)[np.newaxis], outputs, axis=0).astype(np.int8)


def hard_for_some(outputs: int) -> Weights:
    weight = normal_weights(outputs, 63)
    weight[5, 32:96] = 63
    return weight


# weights, how many steps of them are summed together, and the entries of the table of that
CASES: dict[str, tuple[Weights, int, int]] = {
    "at the bound": (at_the_bound(16), 2, 0),
    "beyond it": (beyond(48), 2, 1),
    "with signs": (with_signs(16), 2, 0),
    "7 bits": (hard_for_some(32), 4, 1),
    "8 bits": (normal_weights(32, 127), 2, 8),
    "small": (normal_weights(7, 20), 4, 0),
}


def network() -> onnx.ModelProto:
    """A convolution of the same bytes for every case, its result in float."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "one", "zero"], ["bytes"]),
        helper.make_node("DequantizeLinear", ["bytes", "one", "zero"], ["numbers"]),
    ]
    constants = [
        numpy_helper.from_array(np.array(1, np.float32), "one"),
        numpy_helper.from_array(np.array(0, np.int8), "zero"),
    ]
    for place, (weight, *_) in enumerate(CASES.values()):
        constants.append(numpy_helper.from_array(weight[:, :, None, None], f"w{place}"))
        nodes += [
            helper.make_node("DequantizeLinear", [f"w{place}", "one", "zero"], [f"real{place}"]),
            helper.make_node("Conv", ["numbers", f"real{place}"], [f"y{place}"]),
        ]
    shape = [1, CHANNELS, HEIGHT, WIDTH]
    graph = helper.make_graph(
        nodes,
        "sums",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [
            helper.make_tensor_value_info(
                f"y{place}", TensorProto.FLOAT, [1, len(weight), HEIGHT, WIDTH]
            )
            for place, (weight, *_) in enumerate(CASES.values())
        ],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return model


def activations() -> NDArray[np.float32]:
    """Pixels with the largest products that there are, and any bytes in the last row."""
    largest = np.where(signs() > 0, 127, -128)
    kinds = [largest, -1 - largest, np.full(CHANNELS, -128), np.full(CHANNELS, 127)]
    pixels = [kinds[place % len(kinds)] for place in range(HEIGHT * WIDTH)]
    image = np.stack(pixels, axis=1).reshape(1, CHANNELS, HEIGHT, WIDTH)
    image[:, :, -1] = np.random.default_rng(3).integers(-128, 128, (1, CHANNELS, WIDTH))
    return image.astype(np.float32)


@pytest.mark.parametrize("case", CASES)
def test_the_cases_are_what_they_say(case: str) -> None:
    weight, together, entries = CASES[case]
    order = sum_order(pack_quantized_conv2d(weight[:, :, None, None], 16, 1, 16))
    assert (order.together, order.entries) == (together, entries)


def test_every_sum_is_right(tmp_path: Path) -> None:
    file, path = tmp_path / "network.onnx", tmp_path / "bundle"
    onnx.save_model(network(), str(file))
    build_bundle(from_onnx(file), CompileOptions(target.resolve("arm-rpi4")), path)
    device = dataclasses.replace(emulator.find(), cpu="cortex-a72")
    image = activations()
    with open_bundle(path, "aarch64") as bundle:
        found = instruction_count.compute(bundle, (image,), device)
    for case, result in zip(CASES, found, strict=True):
        weight = CASES[case][0].astype(np.float64)
        right = np.einsum("ok,bkhw->bohw", weight, image.astype(np.float64))
        np.testing.assert_allclose(result, right, rtol=1e-6, err_msg=case)
