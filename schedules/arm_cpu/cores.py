"""What a tile costs on an ARM core: the analytic model behind every default decision."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

from tvm.target import Target

from schedules.cpu.arm import is_32_bit_arm
from schedules.facts import read_facts

REGISTER_BYTES = 16  # of NEON
LANES = 4  # floats of a register; by-element FMAs take one of four as their factor
SPARE = 2  # registers: with fewer, LLVM neither pairs the loads nor avoids spilling
# Vectors of inputs by whose lanes a by-element FMA of float16 can multiply are in the lower 16
# registers; LLVM lets accumulators have some of those, and spills inputs if they are to be more.
# It spills those of six pixels whatever the number of steps.
HALF_LANES = 8
HALF_PIXELS = (1, 2, 3, 4, 5, 7, 8)
FLOAT_BYTES = 4


@dataclass(frozen=True)
class Core:
    """128-bit instructions a core starts per cycle, and the FMA's latency into an accumulator.

    ``vector_issue`` counts 128-bit instructions of all kinds; with a ``window`` of 0 a core starts
    everything in order, and waits for each load it uses. ``l1_bytes`` is the data cache,
    ``l2_bytes`` the last cache that weights can stay in between two bands of rows. ``registers`` is
    the number of vector registers: 32 on aarch64, 16 on armv7.
    """

    fmas: int
    fma_latency: int
    loads: int
    vector_issue: int
    window: int
    l1_bytes: int
    l2_bytes: int
    registers: int = 32

    @property
    def in_order(self) -> bool:
        return self.window == 0


# What a target must say of its core.
FACTS = tuple(field.name for field in fields(Core) if field.name != "registers")


def current_core() -> Core:
    """The core of the target in whose scope the rule runs."""
    return core_of(Target.current(allow_none=True))


def core_of(target: Target | None) -> Core:
    """Raises ValueError where the target does not carry its core's facts."""
    facts = read_facts(target, FACTS)
    assert target is not None
    return Core(**facts, registers=16 if is_32_bit_arm(target) else 32)


def gemm_loads(pixels: int, vectors: int, panel: int, lanes: int = LANES) -> float:
    """Load instructions of one step of four k, or of as many as a register has ``lanes``.

    ldp loads two neighbours: the packed inputs, and the weights of one panel. What a second panel
    holds lies too far away for its offset, and comes one by one.
    """
    return pixels / 2 + lanes * min(vectors, panel) / 2 + lanes * max(vectors - panel, 0)


def gemm_cycles(core: Core, fmas: int, loads: float, lanes: int = LANES) -> float:
    """Cycles per FMA of a step of ``lanes`` k, of so many FMAs and loads."""
    return (
        max(
            fmas / core.fmas,
            loads / core.loads,
            (fmas + loads) / core.vector_issue,
            lanes * core.fma_latency,
        )
        / fmas
    )


def best_gemm_tile(
    core: Core,
    heights: Iterable[int],
    widths: Iterable[int],
    blocks: Iterable[int],
    panel: int = 1,
    lanes: int = LANES,
) -> tuple[int, int, int]:
    """(rows, columns, channel vectors) with the fewest cycles per FMA that spills nothing.

    Accumulators, a register of k of every pixel, one k of every channel vector and SPARE registers
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
        and (lanes < HALF_LANES or rows * columns in HALF_PIXELS)
        and rows * columns * vectors + rows * columns + vectors <= core.registers - SPARE
    ]

    def cost(tile: tuple[int, int, int]) -> tuple[float, float, int, int]:
        rows, columns, vectors = tile
        fmas = lanes * rows * columns * vectors
        loads = gemm_loads(rows * columns, vectors, panel, lanes)
        return (
            round(gemm_cycles(core, fmas, loads, lanes), 3),
            round(loads / fmas, 3),
            -fmas,
            rows,
        )

    return min(fitting, key=cost)
