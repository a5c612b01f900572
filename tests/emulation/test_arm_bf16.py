"""bfloat16 on emulated ARM cores: what comes out, and which cores refuse it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from support.bf16_cases import STEP
from support.c_programs import output_of
from support.float_networks import conv, mobile, network, node
from torch.nn import functional

from tvm_mobilenet import numerics
from tvm_mobilenet.building.bundles import build_bundle
from tvm_mobilenet.bundle import open_bundle
from tvm_mobilenet.compiler.options import CompileOptions
from tvm_mobilenet.emulation import emulator, instruction_count
from tvm_mobilenet.emulation.emulator import ARCHITECTURE, SYSTEMS
from tvm_mobilenet.hardware import target as targets
from tvm_mobilenet.hardware.toolchain import compile_c
from tvm_mobilenet.library.description import NATIVE as LIBRARY_SOURCES
from tvm_mobilenet.network.rounding import rounded
from tvm_mobilenet.network.source import from_onnx

pytestmark = pytest.mark.arm_emulator

REFUSED = Path(__file__).parents[1] / "support" / "refused.c"
IMAGE = (1, 12, 9, 7)
# by name: (channels, kernel) of convolutions of that image, and how they go over it
LAYERS: dict[str, tuple[int, tuple[int, int], dict[str, Any]]] = {
    "pointwise": (24, (1, 1), {}),
    "few_channels": (7, (1, 1), {}),
    "strided": (20, (1, 1), {"stride": 2}),
    "square": (16, (3, 3), {"padding": 1}),
    "strided_square": (10, (3, 3), {"stride": 2, "padding": 1}),
    "dilated": (8, (3, 2), {"dilation": (2, 3)}),
    "grouped": (18, (3, 3), {"groups": 3, "padding": 1}),
    "depthwise": (12, (3, 3), {"groups": 12, "padding": 1}),
    "strided_depthwise": (12, (3, 3), {"groups": 12, "stride": 2, "padding": 1}),
    "large_depthwise": (12, (5, 5), {"groups": 12, "padding": 2}),
    "stem": (32, (3, 3), {"stride": 2, "padding": 1}),
    "odd_stem": (9, (2, 3), {}),
}
STEM_CHANNELS = 3  # what the last two read
FEATURES = 10  # of the classifier


def side_by_side(weights: dict[str, np.ndarray]) -> onnx.ModelProto:
    """Each layer by itself, of the image or of its first channels, and a classifier."""
    slices = {"start": [0], "end": [STEM_CHANNELS], "axis": [1]}
    nodes = [
        node("Slice", ["x", "start", "end", "axis"], ["few"]),
        node("Flatten", ["x"], ["flat"]),
        node("MatMul", ["flat", "dense"], ["classified"]),
    ]
    for name, (_, _, how) in LAYERS.items():
        strides, dilations = (
            np.broadcast_to(how.get(key, 1), 2).tolist() for key in ("stride", "dilation")
        )
        nodes.append(
            node(
                "Conv",
                ["few" if "stem" in name else "x", name],
                [f"y_{name}"],
                group=how.get("groups", 1),
                pads=[how.get("padding", 0)] * 4,
                strides=strides,
                dilations=dilations,
            )
        )
    given = {**weights, **{key: np.array(one, np.int64) for key, one in slices.items()}}
    outputs = (*(f"y_{name}" for name in LAYERS), "classified")
    return network(nodes, given, outputs, IMAGE)


def compiled(model: onnx.ModelProto, folder: Path) -> Path:
    """For cores that multiply bfloat16."""
    onnx.save_model(model, str(folder / "network.onnx"))
    options = CompileOptions(targets.resolve("arm-graviton3"), "bf16")
    build_bundle(from_onnx(folder / "network.onnx"), options, folder / "b")
    return folder / "b"


def outputs(bundle: Path, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
    device = replace(emulator.find(), cpu="max")
    with open_bundle(bundle, "aarch64") as opened:
        given = inputs or opened.sample_inputs()
        return instruction_count.compute(opened, given, device)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network with a layer of every kind."""
    return compiled(mobile(np.random.default_rng(3)), tmp_path_factory.mktemp("bf16"))


def test_layers_of_odd_shapes(tmp_path: Path, rng: np.random.Generator) -> None:
    """Sums of the same operands in float64, but for a step of float32 for each product."""
    x = rounded(rng.standard_normal(IMAGE, dtype=np.float32))
    weights = {
        name: rounded(
            conv(rng, channels, of(name) // how.get("groups", 1), 5)[..., : size[0], : size[1]]
            .astype(np.float32)
            .copy()
        )
        for name, (channels, size, how) in LAYERS.items()
    }
    flat = x.reshape(1, -1)
    weights["dense"] = rounded(rng.standard_normal((flat.size, FEATURES), dtype=np.float32))
    *found, classified = outputs(compiled(side_by_side(weights), tmp_path), x)
    for name, result in zip(LAYERS, found, strict=True):
        image, weight = x[:, : of(name)].astype(float), weights[name].astype(float)
        expected, sizes = (
            functional.conv2d(torch.from_numpy(one), torch.from_numpy(other), **LAYERS[name][2])
            for one, other in ((image, weight), (np.abs(image), np.abs(weight)))
        )
        error = STEP * (weight[0].size + 1) * sizes.numpy()
        assert (np.abs(result - expected.numpy()) <= error).all(), name
        assert np.abs(result).max() > 0.1, name
    exact = weights["dense"].astype(float)
    error = STEP * (flat.size + 1) * (np.abs(flat) @ np.abs(exact))
    assert (np.abs(classified - flat @ exact) <= error).all()


def of(name: str) -> int:
    """Channels that a layer reads."""
    return STEM_CHANNELS if "stem" in name else IMAGE[1]


def test_a_layer_of_every_kind(bundle: Path) -> None:
    with open_bundle(bundle, "aarch64") as opened:
        right = opened.expected_outputs()
        assert opened.manifest.precision == "bf16"
        assert "bf16" in opened.manifest.cpu_features
    error = max(map(numerics.relative_error, outputs(bundle), right))
    assert 1e-4 < error < 3e-2, "rounded, and no more than that"


def test_a_core_without_it_refuses_the_bundle(bundle: Path, tmp_path: Path) -> None:
    device = replace(emulator.find(), cpu="neoverse-n1")
    flags, compiler = [f"-I{LIBRARY_SOURCES}", "-ldl"], SYSTEMS[ARCHITECTURE].compiler
    program = compile_c(REFUSED, tmp_path / "refused", compiler, flags)
    with open_bundle(bundle, "aarch64") as opened:
        library, name = opened.library.resolve(), opened.manifest.name
        said = output_of(*device.command(program, str(library), name))
    # the first of what an N1 lacks
    assert said == f"{name} is compiled for arm-graviton3; this CPU has no jscvt\n"
