"""What a tile costs on an x86 core: the analytic model behind every default decision."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

FMA_LATENCY = 4  # cycles, Zen 2 to Zen 5 and Skylake to Sapphire Rapids
FMA_PER_CYCLE = 2
LOADS_PER_CYCLE = 2
L2_BYTES_PER_CYCLE = 32
FLOAT_BYTES = 4


@dataclass(frozen=True)
class RegisterFile:
    """Vector registers of the instruction set whose vectors hold `lanes` floats."""

    lanes: int

    @property
    def count(self) -> int:
        """32 zmm under AVX-512, 16 ymm under AVX2."""
        return 32 if self.lanes == 16 else 16


def gemm_cycles(pixels: int, vectors: int, lanes: int) -> float:
    """Cycles per FMA of a pixels x vectors tile, for one step of the reduction.

    A step loads `vectors` weights, which come from L2, and broadcasts `pixels` inputs, which stay
    in L1; it needs enough independent accumulators to cover the FMA's latency.
    """
    fmas = pixels * vectors
    return (
        max(
            fmas / FMA_PER_CYCLE,
            (pixels + vectors) / LOADS_PER_CYCLE,
            vectors * lanes * FLOAT_BYTES / L2_BYTES_PER_CYCLE,
            FMA_LATENCY,
        )
        / fmas
    )


def best_gemm_tile(
    registers: RegisterFile, heights: Iterable[int], widths: Iterable[int], blocks: Iterable[int]
) -> tuple[int, int, int]:
    """(rows, columns, channel vectors) with the fewest cycles per FMA that spills nothing.

    Accumulators, the step's weights and one broadcast input have to fit the register file. Ties go
    to the larger tile, then to the one with more pixels: both read their weights less often.
    """
    widths, blocks = list(widths), list(blocks)
    fitting = [
        (rows, columns, vectors)
        for rows in heights
        for columns in widths
        for vectors in blocks
        if rows * columns * vectors + vectors + 1 <= registers.count
    ]
    return min(
        fitting,
        key=lambda t: (
            round(gemm_cycles(t[0] * t[1], t[2], registers.lanes), 3),
            -t[0] * t[1] * t[2],
            t[2],
            t[0],
        ),
    )


def best_window_tile(
    registers: RegisterFile,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    heights: Iterable[int],
    widths: Iterable[int],
) -> tuple[int, int]:
    """(rows, columns) of depthwise outputs with the fewest loads per output.

    The tile's inputs are loaded once and used by every tap that meets them. Where accumulators and
    taps fit the register file together the taps stay in it over the whole row of tiles.
    """
    taps = kernel[0] * kernel[1]

    def loads_per_output(tile: tuple[int, int]) -> float:
        rows, columns = tile
        inputs = ((rows - 1) * stride[0] + kernel[0]) * ((columns - 1) * stride[1] + kernel[1])
        resident = rows * columns + taps < registers.count
        return (inputs + (0 if resident else taps)) / (rows * columns)

    widths = list(widths)
    fitting = [(r, c) for r in heights for c in widths if r * c <= registers.count // 2]
    return min(fitting, key=loads_per_output)
