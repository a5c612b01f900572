"""What a tile costs on an ARM core: the analytic model behind every default decision."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tvm.target import Target

LANES = 4  # floats of a 128-bit NEON register; by-element FMAs take one of four as their factor
SPARE = 2  # registers: with fewer, LLVM neither pairs the loads nor avoids spilling
FLOAT_BYTES = 4


@dataclass(frozen=True)
class Core:
    """128-bit instructions a core starts per cycle, and the FMA's latency into an accumulator.

    ``issue`` counts all instructions; a core that is ``in_order`` waits for each load it uses.
    ``registers`` is the number of vector registers: 32 on aarch64, 16 on armv7. ``l1_bytes`` is the
    data cache, ``l2_bytes`` the last cache that weights can stay in between two bands of
    rows.
    """

    fmas_per_cycle: int
    fma_latency: int
    loads_per_cycle: int
    issue: int
    l1_bytes: int = 32 * 1024
    l2_bytes: int = 512 * 1024
    registers: int = 32
    in_order: bool = False


# Approximate, and not measured here. A53 and A7 pair no instruction with a 128-bit one.
CORES = {
    "cortex-a7": Core(1, 8, 1, 1, registers=16, in_order=True),
    "cortex-a53": Core(1, 4, 1, 1, in_order=True),
    "cortex-a72": Core(1, 3, 1, 3, l2_bytes=1024 * 1024),
    "cortex-a76": Core(2, 2, 2, 4, 64 * 1024),
    "cortex-a78ae": Core(2, 2, 2, 4, 64 * 1024),
    "neoverse-n1": Core(2, 2, 2, 4, 64 * 1024),
    "neoverse-v1": Core(4, 2, 3, 8, 64 * 1024),
    "apple-m1": Core(4, 3, 3, 8, 128 * 1024),
}
DEFAULT_CORE = CORES["cortex-a72"]


def current_core() -> Core:
    """The core of the target in whose scope the rule runs; an A72 where it is not in the table."""
    target = Target.current(allow_none=True)
    return DEFAULT_CORE if target is None else CORES.get(mcpu(target), DEFAULT_CORE)


def mcpu(target: Target) -> str:
    return str(target.attrs.get("mcpu", ""))


def gemm_loads(pixels: int, vectors: int, panel: int) -> float:
    """Load instructions of one step of four k.

    ldp loads two neighbours: the packed inputs, and the weights of one panel. What a second panel
    holds lies too far away for its offset, and comes one by one.
    """
    return pixels / 2 + LANES * min(vectors, panel) / 2 + LANES * max(vectors - panel, 0)


def gemm_cycles(core: Core, fmas: int, loads: float) -> float:
    """Cycles per FMA of a step of so many FMAs and loads."""
    return (
        max(
            fmas / core.fmas_per_cycle,
            loads / core.loads_per_cycle,
            (fmas + loads) / core.issue,
            LANES * core.fma_latency,
        )
        / fmas
    )


def best_gemm_tile(
    core: Core,
    heights: Iterable[int],
    widths: Iterable[int],
    blocks: Iterable[int],
    panel: int = 1,
) -> tuple[int, int, int]:
    """(rows, columns, channel vectors) with the fewest cycles per FMA that spills nothing.

    Accumulators, four k of every pixel, one k of every channel vector and SPARE registers
    have to fit the register file. Ties go to the fewest instructions per FMA, which leave the core
    the most slack, then to the larger tile. ``panel`` channel vectors lie in one stream.
    """
    widths, blocks = list(widths), list(blocks)
    fitting = [
        (rows, columns, vectors)
        for rows in heights
        for columns in widths
        for vectors in blocks
        if (vectors % panel == 0 or panel % vectors == 0)
        and rows * columns * vectors + rows * columns + vectors <= core.registers - SPARE
    ]

    def cost(tile: tuple[int, int, int]) -> tuple[float, float, int, int]:
        rows, columns, vectors = tile
        fmas = LANES * rows * columns * vectors
        loads = gemm_loads(rows * columns, vectors, panel)
        return (round(gemm_cycles(core, fmas, loads), 3), round(loads / fmas, 3), -fmas, rows)

    return min(fitting, key=cost)
