"""Where a network's 1x1 convolutions are computed by Strassen's algorithm, and how exactly."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from support import network_kernels
from support.arrays import left_operands
from support.static_programs import Array, check
from torch import nn

from tvm_mobilenet import models
from tvm_mobilenet.compiler import pipeline
from tvm_mobilenet.compiler.graph.legalize_cpu import CpuKernels, legalize
from tvm_mobilenet.compiler.graph.legalize_float import STRASSEN
from tvm_mobilenet.hardware import target
from tvm_mobilenet.kernels.cpu.layout import Blocked
from tvm_mobilenet.kernels.cpu.strassen import PRODUCTS, pack_strassen, pays
from tvm_mobilenet.scheduling.rules import rules_of

CHANNELS = 128
IMAGE = (2, 3, 20, 20)


class Block(nn.Sequential):
    """A convolution that fills vectors, a depthwise and a 1x1 one."""

    def __init__(self, channels: int = CHANNELS) -> None:
        super().__init__(
            *(nn.Conv2d(3, channels, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(channels, channels, 3, 2, 1, groups=channels), nn.ReLU6()),
            *(nn.Conv2d(channels, channels, 1), nn.ReLU()),
        )


class ReadTwice(nn.Module):
    """The depthwise result is also given out, so it is needed as it is."""

    def __init__(self) -> None:
        super().__init__()
        *start, self.last, _ = Block()
        self.start = nn.Sequential(*start)

    def forward(self, x):  # type: ignore[no-untyped-def]
        middle = self.start(x)
        return middle, self.last(middle)


def kinds(module: nn.Module, rng: np.random.Generator) -> list[str]:
    """The kernels of the module's blocks, once they have given PyTorch's result."""
    program = check(module, IMAGE, rng)
    names = [call.kernel for call in program.calls if "10x10x" in call.kernel]
    return [name.partition("_")[0] for name in names if not name.startswith("unpack")]


def test_a_large_product_after_a_depthwise_convolution(rng: np.random.Generator) -> None:
    assert kinds(Block(), rng) == ["depthwise", "strassen"]
    names = [call.kernel for call in check(Block(), IMAGE, rng).calls]
    assert "depthwise_operands_10x10x128_s2" in names


def test_two_products_one_after_the_other(rng: np.random.Generator) -> None:
    again = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, groups=CHANNELS)
    module = Block().extend([again, nn.ReLU(), nn.Conv2d(CHANNELS, 2 * CHANNELS, 1)])
    assert kinds(module, rng) == ["depthwise", "strassen"] * 2


def test_not_where_another_reads_the_depthwise_result(rng: np.random.Generator) -> None:
    assert "strassen" not in kinds(ReadTwice(), rng)


def test_not_where_it_does_not_pay(rng: np.random.Generator) -> None:
    assert "strassen" not in kinds(Block(CHANNELS // 2), rng)


X = Blocked(1, 256, 14, 14, 16)


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({}, True),
        ({"channels": 128}, True),
        ({"channels": 96}, False),
        ({"channels": 264}, False),
        ({"height": 13}, False),
        ({"height": 8, "width": 8}, True),
        ({"height": 6, "width": 6}, False),
        ({"height": 56, "width": 56}, False),
    ],
)
def test_pays(change: dict[str, Any], wanted: bool) -> None:
    x = dataclasses.replace(X, **change)
    assert pays(x, x) is wanted


def test_the_flag_and_the_target_decide() -> None:
    module, _ = network_kernels.relax_module(models.config_from("mobilenet_v1", 1.0, 224))
    count = {}
    for name, strassen in (
        ("x86-64-v3", True),
        ("x86-skylake-avx512", True),
        ("x86-skylake-avx512", False),
        ("arm-rpi4", True),
    ):
        spec = target.resolve(name)
        rules = rules_of(spec.tvm_target()) - (frozenset() if strassen else STRASSEN)
        lowered = pipeline.lower_graph(module, legalize(CpuKernels(spec.vector_width, rules)))
        kernels = pipeline.extract_kernels(lowered)
        count[name, strassen] = sum(
            kernel.count for kernel in kernels if kernel.name.startswith("strassen")
        )
    assert count == {
        ("x86-64-v3", True): 8,
        ("x86-skylake-avx512", True): 8,
        ("x86-skylake-avx512", False): 0,
        ("arm-rpi4", True): 0,
    }


def test_operations_are_counted_as_the_direct_products() -> None:
    module, _ = network_kernels.relax_module(models.config_from("mobilenet_v1", 1.0, 224))
    rules = rules_of(target.resolve("x86-skylake-avx512").tvm_target())
    flops = {
        kernel.name: kernel.flops
        for kernel in pipeline.extract_kernels(
            pipeline.lower_graph(module, legalize(CpuKernels(16, rules)))
        )
    }
    assert flops["strassen_conv2d_14x14x512_512"] == 2 * 14 * 14 * 512 * 512


@pytest.mark.parametrize("panel", [1, 2])
def test_the_seven_products_make_the_product(panel: int, rng: np.random.Generator) -> None:
    """In float64, by the packed weights and the operands alone, as Winograd's form has it."""
    weight = rng.standard_normal((32, 24, 1, 1), dtype=np.float32)
    image = rng.standard_normal((1, 6, 4, 5, 4), dtype=np.float32)  # N, C/4, H, W, 4
    right = unpacked(pack_strassen(weight, 8, panel), panel)
    left = left_operands(image).transpose(2, 0, 1, 4, 3, 5).reshape(PRODUCTS, 10, 12)
    p = [a.astype(np.float64) @ b for a, b in zip(left, right, strict=True)]
    u2 = p[0] + p[5]
    even = np.hstack([p[0] + p[1], u2 + p[4] + p[2]])
    odd = np.hstack([u2 + p[6] + p[3], u2 + p[6] + p[4]])
    pixels = image.transpose(0, 2, 3, 1, 4).reshape(4, 5, 24).astype(np.float64)
    wanted = pixels @ weight[:, :, 0, 0].T
    np.testing.assert_allclose(even, wanted[0::2].reshape(10, 32), rtol=0, atol=1e-4)
    np.testing.assert_allclose(odd, wanted[1::2].reshape(10, 32), rtol=0, atol=1e-4)


def unpacked(packed: Array, panel: int) -> Array:
    """(O/2/v/panel, 7, I/2, panel, v) → (7, I/2, O/2)."""
    panels, products, half_k, _, v = packed.shape
    ordered = packed.transpose(1, 2, 0, 3, 4)
    result: Array = ordered.reshape(products, half_k, panels * panel * v)
    return result
