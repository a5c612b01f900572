"""The depthwise half of a fused kernel: what it costs a block of the product, and asks of it."""

from __future__ import annotations

from dataclasses import dataclass

from schedules.cuda.slices import BARRIER_CYCLES, SHARED_BYTES_PER_CYCLE

# Instructions a multiply-add, by the bytes of a value: converting, loading, addressing. Counted in
# the PTX of networks' kernels for sm_86, without moves and constants.
INSTRUCTIONS = {2: 5.5, 4: 4.5}
INSTRUCTIONS_PER_CYCLE = 128  # of a multiprocessor: four warps
ROW_PADDING = 16  # bytes that rows are apart in their banks, so that ldmatrix meets no conflict


@dataclass(frozen=True)
class Half:
    """There is none: a product by itself. ``rows`` are those that a block must have, if any."""

    rows: int | None = None

    def shared_bytes(self, columns: int) -> int:
        """Of what stays in shared memory of a block's results, for so many columns."""
        return 0

    def cycles(self, rows: int, columns: int, inner: int) -> float:
        """Of a block of rows x columns, its inner dimension so long."""
        return 0.0


ALONE = Half()


@dataclass(frozen=True, kw_only=True)
class Before(Half):
    """The rows are a depthwise convolution of so many taps, which every block computes."""

    taps: int
    value_bytes: int

    def cycles(self, rows: int, columns: int, inner: int) -> float:
        return depthwise_cycles(rows * inner * self.taps, self.value_bytes, INSTRUCTIONS)


@dataclass(frozen=True, kw_only=True)
class After(Half):
    """A depthwise convolution of a block's results: ``outputs`` pixels, so many taps each."""

    rows: int
    outputs: int
    taps: int
    value_bytes: int

    def shared_bytes(self, columns: int) -> int:
        return self.rows * (columns * self.value_bytes + ROW_PADDING)

    def cycles(self, rows: int, columns: int, inner: int) -> float:
        products = self.outputs * columns * self.taps
        return BARRIER_CYCLES + depthwise_cycles(products, self.value_bytes, INSTRUCTIONS)


def depthwise_cycles(products: int, value_bytes: int, instructions: dict[int, float]) -> float:
    """Of a multiprocessor that does so many multiply-adds: its instructions, or what it reads."""
    issued = products * instructions[value_bytes] / INSTRUCTIONS_PER_CYCLE
    return max(issued, products * value_bytes / SHARED_BYTES_PER_CYCLE)
