"""What the kernels over bytes for NEON share: which tile, and how its sums are made."""

from __future__ import annotations

from collections.abc import Iterable

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import ExprRV, LoopRV, SBlockRV
from tvm.target import Target
from tvm.target.codegen import target_has_features

from schedules.arm_cpu.cores import LANES, SPARE, current_core
from schedules.cpu.arm import is_64_bit_arm
from schedules.cpu.dot_products import BYTE_PRODUCTS, DotProducts
from schedules.primitives import extent, own_loops, powers_of_two_dividing, tensorize_sums, unroll

FOUR = 4  # registers of weights that one instruction loads (compiler/cpu/neon_loads.py); else two


def keeps_order(target: Target | None = None) -> bool:
    """Whether long pieces of code spill nothing: where they are dot products of bytes.

    LLVM leaves their loads where they are used (compiler/cpu/instruction_order.py). ``target`` is
    the current one by default.
    """
    target = target or Target.current(allow_none=True)
    return is_64_bit_arm(target) and bool(target_has_features("dotprod", target))


def default_tile(heights: Iterable[int], widths: Iterable[int], lanes: int) -> tuple[int, int, int]:
    """(rows, columns, channels) of the tile with the fewest instructions for a product.

    Its sums, four dot products' inputs of every pixel and one register of weights have to fit the
    register file beside SPARE others.
    """
    registers, widths = current_core().registers - SPARE, list(widths)
    channels = [d for d in powers_of_two_dividing(lanes, lanes) if d % LANES == 0]
    tiles = [(rows, columns, some) for rows in heights for columns in widths for some in channels]

    def room(tile: tuple[int, int, int]) -> int:
        pixels, vectors = tile[0] * tile[1], tile[2] // LANES
        return pixels * vectors + pixels + 1

    def loads(tile: tuple[int, int, int]) -> tuple[float, int]:
        pixels, vectors = tile[0] * tile[1], tile[2] // LANES
        weights = 1 if vectors == FOUR else vectors / 2
        return (pixels / 2 + LANES * weights) / (LANES * pixels * vectors), tile[0]

    fitting = [tile for tile in tiles if room(tile) <= registers]
    return min(fitting, key=loads)


def default_channels(sch: Schedule, lanes: int, default: int) -> ExprRV:
    """The knob of how many channels of a vector a tile has."""
    choices = [d for d in powers_of_two_dividing(lanes, lanes) if d % LANES == 0]
    weights = [1 / len(choices)] * len(choices)
    chosen: ExprRV = sch.sample_categorical(choices, weights, choices.index(default))
    return chosen


def sum_by_element(
    sch: Schedule,
    conv: SBlockRV,
    reduction: list[LoopRV],
    tile: list[LoopRV],
    dot: tuple[LoopRV, LoopRV],
    *,
    dots: DotProducts = BYTE_PRODUCTS,
) -> None:
    """As primitives.sum_dot_products, with each step's inputs loaded as whole vectors.

    The last reduction loop is the step; see by_element.py.
    """
    lanes, _ = dot
    sch.reorder(*reduction, *tile, *dot)
    unroll(sch, *tile)
    inputs = sch.cache_read(conv, 0, "global")
    sch.compute_at(inputs, reduction[-1], preserve_unit_loops=True)
    *copied, vector = own_loops(sch, inputs)
    unroll(sch, *copied)
    sch.vectorize(vector)
    tensorize_sums(sch, conv, reduction[0], lanes, dots.channels(extent(sch, lanes)))
