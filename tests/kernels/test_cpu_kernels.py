"""Every compute, unscheduled, against PyTorch on the unblocked tensors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import tvm
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from support.arrays import activate
from support.kernel_cases import Case, Convolution
from support.odd_kernels import CASES, FAST_PRODUCTS, OVERLAPPING, RUNS, SEPARABLE, convolutions
from torch.nn import functional

from schedules.filter_window import Window
from tvm_mobilenet.kernels.cpu.conv2d import Activation
from tvm_mobilenet.kernels.cpu.layout import NO_HALO, Blocked, Halo
from tvm_mobilenet.kernels.cpu.nests import origin
from tvm_mobilenet.kernels.cpu.weights import (
    pack_channels,
    pack_conv2d,
    pack_dense,
    pack_depthwise,
    pack_stem,
)

RING = Halo(1, 1, 1, 1)


def check_unscheduled(case: Case, rng: np.random.Generator) -> None:
    module = tvm.IRModule({"main": case.func().with_attr("global_symbol", "main")})
    case.check(tvm.compile(module, {"kind": "llvm"})["main"], rng)


@pytest.mark.in_turns(6)
@pytest.mark.parametrize(
    "case", [*CASES, *FAST_PRODUCTS, *SEPARABLE, *OVERLAPPING, *RUNS], ids=lambda case: case.id
)
def test_unscheduled_compute(case: Case, rng: np.random.Generator) -> None:
    check_unscheduled(case, rng)


@settings(max_examples=15)
@given(case=convolutions(overlapping=True), seed=st.integers(0, 2**32 - 1))
def test_any_convolution(case: Convolution, seed: int) -> None:
    check_unscheduled(case, np.random.default_rng(seed))


def test_halo_union() -> None:
    assert Halo(1, 0, 2, 3).union(Halo(0, 4, 1, 5)) == Halo(1, 4, 2, 5)
    assert NO_HALO.union(RING) == RING


@pytest.mark.parametrize(("channels", "blocks"), [(1, 1), (16, 1), (17, 2), (48, 3)])
def test_blocked_shape(channels: int, blocks: int) -> None:
    x = Blocked(2, channels, 5, 6, 16, Halo(1, 2, 3, 4))
    assert x.blocks == blocks
    assert (x.padded_height, x.padded_width) == (8, 13)
    assert x.shape == (2, 8, blocks, 13, 16)


def test_narrow_vectors_have_channel_blocks_outermost() -> None:
    assert Blocked(2, 8, 5, 6, 4, Halo(1, 2, 3, 4)).shape == (2, 2, 8, 13, 4)


def test_window_origin() -> None:
    x = Blocked(1, 4, 5, 5, 4, Halo(2, 2, 3, 3))
    assert origin(x, Window((3, 3), (1, 1), (1, 0))) == (1, 3)


@pytest.mark.parametrize(
    "bounds", [(None, None), (0.0, None), (0.0, 6.0), (None, 1.0), (-1.0, 0.5)], ids=str
)
def test_activation_clamps(
    bounds: tuple[float | None, float | None], rng: np.random.Generator
) -> None:
    x = rng.uniform(-9, 9, 64).astype(np.float32)
    clamp, fold = Activation(*bounds), tvm.sym.Analyzer().simplify
    values = [fold(clamp(tvm.tirx.FloatImm("float32", float(value)))).value for value in x]
    wanted = activate(x, clamp)
    np.testing.assert_array_equal(np.array(values, np.float32), wanted)


# Packed weights: every value at the place where the kernel reads it, and zeros past the channels.


@pytest.mark.parametrize("channels", [1, 7, 16, 20])
def test_packed_weights(channels: int, rng: np.random.Generator) -> None:
    v = 8
    weight = rng.standard_normal((channels, 5, 3, 2), dtype=np.float32)
    stem, depthwise = pack_stem(weight, v), pack_depthwise(weight[:, :1], v)
    blocks = -(-channels // v)
    assert stem.shape == (blocks, 5, 3, 2, v)
    assert depthwise.shape == (blocks, 3, 2, v)
    for o in range(channels):
        np.testing.assert_array_equal(stem[o // v, ..., o % v], weight[o])
        np.testing.assert_array_equal(depthwise[o // v, ..., o % v], weight[o, 0])
    assert_only(stem, weight)
    assert_only(depthwise, weight[:, 0])


@pytest.mark.parametrize(("channels", "panel"), [(1, 1), (7, 1), (20, 3), (32, 2), (25, 4)])
def test_packed_dense_convolution(channels: int, panel: int, rng: np.random.Generator) -> None:
    v = 8
    weight = rng.standard_normal((channels, 5, 3, 2), dtype=np.float32)
    packed = pack_conv2d(weight, v, panel)
    assert packed.shape == (-(-channels // v) // panel, 3, 2, 5, panel, v)
    for o in range(channels):
        block = o // v
        found = packed[block // panel, :, :, :, block % panel, o % v]
        np.testing.assert_array_equal(found, weight[o].transpose(1, 2, 0))
    assert_only(packed, weight)


def assert_only(packed: NDArray[np.float32], weight: NDArray[np.float32]) -> None:
    """``packed`` holds nothing but ``weight`` and zeros, in one piece of memory."""
    assert packed.dtype == np.float32
    assert packed.flags.c_contiguous
    assert np.count_nonzero(packed) == np.count_nonzero(weight)


def test_packed_classifier(rng: np.random.Generator) -> None:
    weight = rng.standard_normal((5, 11), dtype=np.float32)  # (C_in, C_out)
    packed = pack_dense(weight, 4, 8, 2)
    assert packed.shape == (4, 5, 2, 4)
    data = rng.standard_normal((2, 5), dtype=np.float32)
    outputs = np.einsum("ni,bipc->nbpc", data, packed).reshape(2, 32)
    wanted = functional.linear(torch.from_numpy(data), torch.from_numpy(weight.T)).numpy()
    np.testing.assert_allclose(outputs[:, :11], wanted, rtol=1e-5, atol=1e-5)
    assert_only(packed, weight)


def test_packed_bias() -> None:
    bias = np.arange(1, 6, dtype=np.float32)
    np.testing.assert_array_equal(pack_channels(bias, 4), [[1, 2, 3, 4], [5, 0, 0, 0]])
    np.testing.assert_array_equal(pack_channels(bias, 4, 3)[2], [0, 0, 0, 0])
