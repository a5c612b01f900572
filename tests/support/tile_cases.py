"""Kernels by tile registers, as ``quantized_cases`` and ``bf16_cases`` are, and what runs them.

Where the CPU has no AMX its instructions are emulated, one by one, in the code that a CPU with it
would run.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray
from support import odd_kernels, shared
from support.arrays import Array
from support.bf16_cases import Bf16Convolution
from support.kernel_cases import RELU6, Convolution
from support.quantized_cases import FILL, QuantizedConvolution
from tvm import tirx

from schedules.filter_window import Window
from schedules.x86.tile_products import BYTES, PAIRS
from tvm_mobilenet.compiler.graph.legalize_tiles import panel_for_tiles
from tvm_mobilenet.emulation.tile_unit import TileUnit, has_tiles, missing, without_newer
from tvm_mobilenet.hardware import cpu, target
from tvm_mobilenet.hardware.target import TargetSpec
from tvm_mobilenet.kernels.cpu.elementwise import blocked_operand, with_epilogue
from tvm_mobilenet.kernels.cpu.expressions import SELF
from tvm_mobilenet.kernels.cpu.layout import BF16, Halo
from tvm_mobilenet.kernels.cpu.tiles import bf16_tiles_conv2d, byte_tiles_conv2d, pack_tiles

NAME = "x86-sapphirerapids"
HAS_TILES = has_tiles()  # the CPU itself, whatever a test makes it say


@cache
def tile_unit() -> TileUnit:
    return TileUnit(shared.folder())


def spec_that_runs() -> TargetSpec:
    """The target with tiles, as this CPU runs its code with ``tiles``; skips where it cannot."""
    spec = target.resolve(NAME)
    if HAS_TILES:
        return spec
    if lacking := missing(spec):
        pytest.skip(
            f"no {', '.join(lacking)} here, which is not emulated: run on AMD Zen 4 or newer, or "
            "on Intel Sapphire Rapids or newer"
        )
    return without_newer(spec)


@contextlib.contextmanager
def tiles() -> Iterator[None]:
    """Meanwhile this process has AMX: the CPU's own, or emulated."""
    if HAS_TILES:
        assert cpu.permit_tiles()
        yield
        return
    with tile_unit().emulated():
        yield


def window_of(real: Convolution) -> Window:
    top, _, left, _ = real.padding
    return Window(real.kernel, real.stride, (top, left), real.dilation)


@dataclass(frozen=True)
class ByteTiles(QuantizedConvolution):
    """By products of bytes."""

    def func(self) -> tirx.PrimFunc:
        real, out = self.real, self.out
        panel = panel_for_tiles(out)
        func = byte_tiles_conv2d(self.x, out, window_of(real), real.activation, panel)
        if self.expression == SELF:
            return func
        return with_epilogue(func, self.expression, [], FILL)

    def packed(self, weight: NDArray[np.int8]) -> NDArray[np.int8]:
        return pack_tiles(weight, panel_for_tiles(self.out), BYTES)


@dataclass(frozen=True)
class Bf16Tiles(Bf16Convolution):
    """By products of bfloat16."""

    def func(self) -> tirx.PrimFunc:
        real, out = self.real, self.out
        panel = panel_for_tiles(out)
        func = bf16_tiles_conv2d(self.x, out, window_of(real), real.activation, panel)
        if self.expression is None:
            return func
        operands = [blocked_operand(replace(out, dtype=BF16), out)] if self.beside else []
        return with_epilogue(func, self.expression, operands, dtype=BF16)

    def packed(self, weight: Array) -> Array:
        return pack_tiles(weight, panel_for_tiles(self.out), PAIRS)


SHAPES = [
    Convolution("conv2d", (256, 64), (4, 14), halo=odd_kernels.RING),
    Convolution("conv2d", (24, 24), (10, 9), activation=RELU6),  # weights that stay
    Convolution("conv2d", (96, 48), (7, 7)),  # an odd number of vectors, two steps of 48
    Convolution("conv2d", (40, 72), (9, 5), stride=(2, 2), halo=Halo(1, 1, 1, 1)),
    Convolution("conv2d", (20, 32), (6, 6), kernel=(3, 3), padding=(1, 1, 1, 1), batch=2),
    Convolution("conv2d", (200, 33), (13, 11)),  # a channel alone in its vector
    Convolution("conv2d", (16, 16), (5, 4), kernel=(2, 3), dilation=(2, 1), padding=(1, 1, 0, 1)),
]
CASES: list[ByteTiles | Bf16Tiles] = [
    *(
        ByteTiles(shape, odd_kernels.AS_BYTE if place % 2 else SELF)
        for place, shape in enumerate(SHAPES)
    ),
    *(Bf16Tiles(SHAPES[place], None if place % 2 else SELF) for place in (1, 2, 4)),
]
