"""In which order a convolution of bytes sums, where products are summed in 16 bits first.

A step multiplies a register of input channels by weights of one output channel; each of 8 lanes
sums two of its products in 16 bits (quantized_without_dots.py). Where those of two steps fit 16
bits together, one addition to sums of 32 bits does for both, and so it does for four steps. That
depends on the weights alone: activations are any int8.

Where all steps fit that, as they come, nothing more has to be known. Else 1x1 convolutions know it
of each tile, TOGETHER output channels that read the same registers, in a table: how many steps,
from the first on, are summed in fours, and in fours or pairs. Sums may be taken in any order, but
by the same one in all lanes and channels of a tile, so that the table may also have each tile's
order, with pairs that fit in front.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from schedules.cpu.register_products import PARTS, REGISTER
from tvm_mobilenet.kernels.cpu.attributes import COUNTS

TOGETHER = PARTS  # output channels of a tile
LANES = REGISTER // 2
FOUR, PAIR = 4, 2  # steps that are summed together
MOST_TAPS = 8  # in one sum
LARGEST, LEAST = 2**15 - 1, -(2**15)
# in additions to sums of 32 bits: what it costs a tile to know counts, and a step's place besides
KNOWING, LOOKING_UP = 0.5, 0.25

Array: TypeAlias = NDArray[np.int32]
Ranges: TypeAlias = tuple[Array, Array]


@dataclass(frozen=True)
class SumOrder:
    """Of how many steps 16 bits hold the sums: all ``together``, or each tile's as ``table`` says.

    That is (blocks, v / TOGETHER, entries + COUNTS): the steps in their order, or 0 for the first
    of all that come as they are, then the counts.
    """

    together: int = 1
    table: Array | None = None

    @property
    def entries(self) -> int:
        return 0 if self.table is None else self.table.shape[-1] - COUNTS

    def reorder(self, packed: NDArray[np.int8]) -> NDArray[np.int8]:
        """Weights (blocks, kh, kw, steps, 1, v, REGISTER) in the order of each tile."""
        if self.table is None or self.entries == 1:
            return packed
        blocks, _, _, steps, _, v, _ = packed.shape
        tiles = packed.reshape(blocks, steps, v // TOGETHER, TOGETHER * REGISTER)
        order = self.table[..., :steps].swapaxes(1, 2)
        return np.take_along_axis(tiles, order[..., None], axis=1).reshape(packed.shape)


def sum_order(packed: NDArray[np.int8], *, tables: bool = True) -> SumOrder:
    """The order with the fewest additions, of weights (blocks, kh, kw, steps, 1, v, REGISTER).

    With ``tables`` only of 1x1 convolutions.
    """
    ranges = ranges_of(packed)
    together = fitting_everywhere(*ranges)
    blocks, kernel_h, kernel_w, steps, _, v, _ = packed.shape
    if not tables or (kernel_h, kernel_w) != (1, 1) or together == FOUR or steps % PAIR:
        return SumOrder(together)
    low, high = (
        one.reshape(blocks, steps, v // TOGETHER, TOGETHER * LANES)
        .swapaxes(1, 2)
        .reshape(blocks * v // TOGETHER, steps, -1)
        for one in ranges
    )
    as_they_come = counts_as_they_come(low, high)
    found = [(steps / together, SumOrder(together))]
    found.append(with_table(as_they_come, np.zeros((len(low), 1), np.int32), KNOWING, packed))
    orders, in_pairs = zip(*map(ordered, low, high), strict=True)
    counts = np.stack([np.zeros_like(in_pairs), in_pairs], axis=1)
    costs = KNOWING + LOOKING_UP * steps
    found.append(with_table(counts, np.array(orders), costs, packed))
    return min(found, key=lambda one: one[0])[1]


def with_table(
    counts: Array, order: Array, costs: float, packed: NDArray[np.int8]
) -> tuple[float, SumOrder]:
    """The order of tiles (tiles, entries) and their ``counts`` (tiles, COUNTS), and what it costs.

    In additions to each sum, and what is like one.
    """
    blocks, _, _, steps, _, v, _ = packed.shape
    in_fours, in_pairs = counts.T
    additions = in_fours / FOUR + (in_pairs - in_fours) / PAIR + steps - in_pairs
    table = np.concatenate([order, counts], axis=1).astype(np.int32)
    together = FOUR if in_fours.any() else PAIR
    known = SumOrder(together, table.reshape(blocks, v // TOGETHER, -1))
    return float(additions.mean()) + costs, known


def ranges_of(packed: NDArray[np.int8]) -> Ranges:
    """The least and the largest sum of each step and lane, (..., steps, 1, v, LANES).

    Of weights (..., steps, 1, v, REGISTER), for activations from -128 to 127.
    """
    halves = packed.reshape(*packed.shape[:-1], 2, LANES).astype(np.int32)
    positive, negative = (
        part.sum(-2, dtype=np.int32) for part in (halves.clip(min=0), halves.clip(max=0))
    )
    return -128 * positive + 127 * negative, 127 * positive - 128 * negative


def fitting_everywhere(low: Array, high: Array) -> int:
    """Of how many steps, as they come, 16 bits hold all sums (..., steps, 1, v, LANES)."""
    steps = low.shape[-4]
    for count in (FOUR, PAIR):
        if steps % count == 0:
            rows = [one.reshape(-1, steps, *one.shape[-2:]) for one in (low, high)]
            if fit(*(in_groups(one, count) for one in rows)).all():
                return count
    return 1


def counts_as_they_come(low: Array, high: Array) -> Array:
    """(tiles, COUNTS) of tiles (tiles, steps, lanes): up to the first of a kind that do not fit."""
    counts = []
    for size in (FOUR, PAIR):
        steps = low.shape[1] // size * size
        groups = (in_groups(one[:, :steps], size) for one in (low, high))
        counts.append(size * np.logical_and.accumulate(fit(*groups).all(-1), axis=1).sum(1))
    return np.stack(counts, axis=1)


def in_groups(sums: Array, count: int) -> Array:
    """Sums (..., steps, lanes) of so many steps that follow each other."""
    steps = sums.shape[1]
    grouped: Array = sums.reshape(len(sums), steps // count, count, *sums.shape[2:]).sum(
        2, dtype=np.int32
    )
    return grouped


def fit(low: Array, high: Array) -> NDArray[np.bool_]:
    """Which ranges of sums 16 bits hold."""
    held: NDArray[np.bool_] = (low >= LEAST) & (high <= LARGEST)
    return held


def taps_together(packed: NDArray[np.int8]) -> int:
    """Of how many taps of a row, as they come, 16 bits hold all sums: weights (..., kw, v).

    Two at least, of which none is -128.
    """
    taps = packed.astype(np.int32)
    positive, negative = taps.clip(min=0), taps.clip(max=0)
    low, high = -128 * positive + 127 * negative, 127 * positive - 128 * negative
    for count in range(min(MOST_TAPS, taps.shape[-2]), PAIR, -1):
        starts = range(0, taps.shape[-2], count)
        if fit(*(np.add.reduceat(one, starts, axis=-2) for one in (low, high))).all():
            return count
    return PAIR


# Orders: which steps of a tile to sum together


def ordered(low: Array, high: Array) -> tuple[list[int], int]:
    """The steps of a tile (steps, lanes), those in front that fit in pairs, and how many do."""
    pairs, single = paired(low, high)
    order = [step for pair in pairs for step in pair]
    return [*order, *single], len(order)


def paired(low: Array, high: Array) -> tuple[list[tuple[int, int]], list[int]]:
    """Pairs of rows, whose sums fit 16 bits in every column, and the rows that find no partner."""
    fitting: NDArray[np.bool_] = np.all(fit(low[:, None] + low, high[:, None] + high), axis=-1)
    np.fill_diagonal(fitting, val=False)
    # those with the fewest possible partners choose first, and choose each other first
    rows = np.argsort(fitting.sum(1), kind="stable")
    bits = np.packbits(fitting[np.ix_(rows, rows)], axis=1, bitorder="little")
    partners = [int.from_bytes(one.tobytes(), "little") for one in bits]
    mates: dict[int, int] = {}
    free = (1 << len(rows)) - 1
    for one, possible in enumerate(partners):
        if free >> one & 1 and possible & free:
            other = lowest(possible & free)
            mates[one], mates[other] = other, one
            free &= ~(1 << one | 1 << other)
    while improve(mates, partners):
        pass
    pairs = [(int(rows[one]), int(rows[other])) for one, other in mates.items() if one < other]
    return pairs, [int(row) for place, row in enumerate(rows) if place not in mates]


def improve(mates: dict[int, int], partners: list[int]) -> bool:
    """Find partners for two rows that have none, by parting one pair; whether that was possible."""
    free = [row for row in range(len(partners)) if row not in mates]
    for place, one in enumerate(free):
        for other in free[:place]:
            possible = partners[one]
            while possible:
                near = lowest(possible)
                far = mates[near]
                if partners[other] >> far & 1:
                    mates.update({one: near, near: one, other: far, far: other})
                    return True
                possible &= possible - 1
    return False


def lowest(number: int) -> int:
    """The place of the lowest one of a number's bits."""
    return (number & -number).bit_length() - 1
