"""What a tile costs on an x86 core: the analytic model behind every default decision."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tvm.target import Target
from tvm.target.codegen import target_has_features

from schedules.facts import find_facts

FLOAT_BYTES = 4
SHORT_ROW = 8  # pixels
INPUTS_IN_FLIGHT = 7  # of a depthwise tile, beside its outputs and taps: fewer, and LLVM spills


@dataclass(frozen=True)
class Core:
    """What the model reads of a target's [core] (``hardware/core.py``), and what it takes where a
    file does not say: AMD's from Zen 2 to Zen 5.

    Per cycle: ``fmas`` and ``loads`` of whole vectors, ``weights_bandwidth`` bytes. A broadcast is
    a load: Intel's cores do three of them a cycle and two of whole vectors, but tiles that live
    from the third, of 28 pixels by one vector, were slower there than 14 by two.
    """

    fmas: int = 2
    fma_latency: int = 4  # Zen 2 to Zen 5 and Skylake to Sapphire Rapids
    loads: int = 2
    weights_bandwidth: int = 20  # a tile that asks for 25.6 ran at 61 % of Zen 4's peak


def current_core() -> Core:
    """That of the target which is being scheduled for."""
    return Core(**find_facts(Target.current(allow_none=True), Core.__dataclass_fields__))


@dataclass(frozen=True)
class RegisterFile:
    """Vector registers of the current target, for vectors of ``lanes`` floats."""

    lanes: int

    @property
    def count(self) -> int:
        """32 under AVX-512, of any width; 16 under AVX2."""
        return 32 if self.lanes == 16 or has_avx512() else 16


def has_avx512() -> bool:
    """Whether the target that is being scheduled for has AVX-512."""
    target = Target.current(allow_none=True)
    return target is not None and bool(target_has_features("avx512f", target))


def gemm_cycles(core: Core, pixels: int, vectors: int, lanes: int) -> float:
    """Cycles per FMA of a pixels x vectors tile, for one step of the reduction.

    A step loads ``vectors`` weights, which come from L2, and broadcasts ``pixels`` inputs, which
    stay in L1; it needs enough independent accumulators to cover the FMA's latency.
    """
    fmas = pixels * vectors
    return (
        max(
            fmas / core.fmas,
            (pixels + vectors) / core.loads,
            vectors * lanes * FLOAT_BYTES / core.weights_bandwidth,
            core.fma_latency,
        )
        / fmas
    )


def best_gemm_tile(
    registers: RegisterFile,
    heights: Iterable[int],
    widths: Iterable[int],
    blocks: Iterable[int],
    *,
    shared_inputs: bool = False,
) -> tuple[int, int, int]:
    """(rows, columns, channel vectors) with the fewest cycles per FMA that spills nothing.

    Accumulators, the step's weights and one broadcast input have to fit the register file; where
    taps of a wider filter share inputs, LLVM keeps a whole row of them. Ties go to the larger tile,
    then to the one with more pixels: both read their weights less often.
    """
    core, widths, blocks = current_core(), list(widths), list(blocks)
    fitting = [
        (rows, columns, vectors)
        for rows in heights
        for columns in widths
        for vectors in blocks
        if rows * columns * vectors + vectors + (columns if shared_inputs else 1) <= registers.count
    ]
    return min(
        fitting,
        key=lambda t: (
            round(gemm_cycles(core, t[0] * t[1], t[2], registers.lanes), 3),
            -t[0] * t[1] * t[2],
            t[2],
            t[0],
        ),
    )


def least_loads_tile(
    registers: RegisterFile,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    heights: Iterable[int],
    widths: Iterable[int],
) -> tuple[int, int]:
    """(rows, columns) of depthwise outputs with the fewest loads per output.

    The tile's inputs are loaded once and used by every tap that meets them. What fits is read off
    LLVM's assembly: it keeps the taps and every input that another tap uses again, and spills
    where those outgrow the registers. 16 registers do not hold inputs that rows share. One short
    row goes whole: LLVM would unroll its few tiles into one anyway. The taps of a 5x5 filter do not
    fit 32 registers: each is loaded once for half of one row, or as much of it as leaves room for
    the inputs, which was the fastest of all tiles at 7 and 14 columns.
    """
    widths = list(widths)
    taps = kernel[0] * kernel[1]
    if registers.count == 32 and taps + INPUTS_IN_FLIGHT >= registers.count:
        return 1, max(width for width in widths if width < registers.count // 2)

    def fits(tile: tuple[int, int]) -> bool:
        rows, columns = tile
        outputs = rows * columns
        return (
            (
                outputs + taps + INPUTS_IN_FLIGHT <= registers.count
                or (rows == 1 and columns == max(widths) <= SHORT_ROW)
            )
            and outputs * stride[0] * stride[1] <= registers.count
            and (rows == 1 or registers.count == 32)
        )

    def loads(tile: tuple[int, int]) -> float:
        return loads_per_output(tile, kernel, stride)

    tiles = [(rows, columns) for rows in heights for columns in widths]
    # a filter with more taps than registers spills whatever the tile
    return min(filter(fits, tiles), key=loads, default=(1, 1))


def loads_per_output(
    tile: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int]
) -> float:
    """Inputs that a depthwise tile of (rows, columns) outputs loads for each of them."""
    rows, columns = tile
    input_rows = (rows - 1) * stride[0] + kernel[0]
    input_columns = (columns - 1) * stride[1] + kernel[1]
    return input_rows * input_columns / (rows * columns)
