"""The order in which bytes are summed: what is summed in 16 bits fits them for every activation."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from schedules.cpu.register_products import REGISTER
from tvm_mobilenet.kernels.cpu.sum_order import TOGETHER, SumOrder, sum_order
from tvm_mobilenet.kernels.cpu.weights import pack_quantized_conv2d

LANES = 8
LEAST, LARGEST = -(2**15), 2**15 - 1
Weights = NDArray[np.int8]


def packed(weight: Weights) -> Weights:
    return pack_quantized_conv2d(weight[:, :, None, None], 16, 1, REGISTER)


def normal_weights(rng: np.random.Generator, outputs: int, inputs: int, most: int) -> Weights:
    drawn = rng.standard_normal((outputs, inputs))
    weight: Weights = np.rint(drawn * most / np.abs(drawn).max(1, keepdims=True)).astype(np.int8)
    return weight


def worst_sums(weight: Weights) -> tuple[int, int]:
    """Of (outputs, steps, REGISTER), whose steps are summed in lanes: the extremes there can be."""
    lanes = weight.reshape(len(weight), -1, LANES).astype(int)
    low = np.where(lanes > 0, -128, 127) * lanes
    high = np.where(lanes > 0, 127, -128) * lanes
    return low.sum(1).min(), high.sum(1).max()


def groups_of(table: NDArray[np.int32], steps: int) -> list[list[int]]:
    """What one tile sums together."""
    *order, in_fours, in_pairs = table.tolist()
    order = [order[0] + step for step in range(steps)] if len(order) == 1 else order
    ends = [*range(4, in_fours + 1, 4), *range(in_fours + 2, in_pairs + 1, 2)]
    ends += range(in_pairs + 1, steps + 1)
    return [order[first:end] for first, end in zip([0, *ends], ends, strict=False)]


def check(order: SumOrder, weight: Weights) -> None:
    outputs, inputs = weight.shape
    count = inputs // REGISTER
    steps = weight.reshape(outputs, count, REGISTER)
    assert order.table is not None
    reordered = order.reorder(packed(weight))
    for tile, one in enumerate(order.table.reshape(-1, order.table.shape[-1])):
        channels = steps[tile * TOGETHER : (tile + 1) * TOGETHER]
        groups = groups_of(one, count)
        assert max(map(len, groups)) <= order.together
        in_order = [step for group in groups for step in group]
        assert sorted(in_order) == list(range(count))
        for group in groups:
            low, high = worst_sums(channels[:, group])
            assert low >= LEAST and high <= LARGEST, group
        first = tile * TOGETHER % 16
        found = reordered[tile * TOGETHER // 16, 0, 0, :, 0, first : first + TOGETHER]
        np.testing.assert_array_equal(found, channels[:, in_order].swapaxes(0, 1))


def test_weights_of_8_bits_are_summed_in_pairs(rng: np.random.Generator) -> None:
    weight = normal_weights(rng, 64, 512, 127)
    order = sum_order(packed(weight))
    assert (order.together, order.entries) == (2, 32)
    check(order, weight)
    assert order.table is not None and order.table[..., -1].mean() > 0.95 * 32


def test_weights_of_7_bits_are_summed_in_fours(rng: np.random.Generator) -> None:
    weight = normal_weights(rng, 64, 512, 63)
    weight[0, 256:384] = 63  # fits in no four
    order = sum_order(packed(weight))
    assert (order.together, order.entries) == (4, 1)
    check(order, weight)
    assert order.table is not None and order.table[..., -2].mean() > 0.5 * 32
    assert (order.table[..., -1] == 32).all()


def test_no_table_where_it_spares_nothing(rng: np.random.Generator) -> None:
    for weight in (normal_weights(rng, 64, 32, 127), np.full((16, 128), 127, np.int8)):
        assert sum_order(packed(weight)) == SumOrder(1)
    assert sum_order(packed(normal_weights(rng, 64, 128, 20))) == SumOrder(4)
    three = rng.integers(-63, 64, (16, 64, 3, 3), dtype=np.int8)
    assert sum_order(pack_quantized_conv2d(three, 16, 1, REGISTER)) == SumOrder(2)


@pytest.mark.parametrize(
    ("weights", "together"),
    [
        # of magnitudes that add up to 257: 127 * 129 + 128 * 128 fits, 127 * 128 + 128 * 129 not
        ((65, 64, -64, -64), 2),
        ((64, 64, -65, -64), 1),
        ((-64, -64, -64, -64), 1),  # 128 * 256
        ((64, 64, 64, 64), 2),  # -128 * 256
        ((65, 64, 64, 64), 1),
        ((-127, -127, -1, 0), 2),
    ],
)
def test_the_bound_is_exact(weights: tuple[int, ...], together: int) -> None:
    """For four weights that a lane sums in two steps, the third of one output channel of many."""
    weight = np.zeros((32, 32), np.int8)
    weight[19, [3, 11, 19, 27]] = weights
    low, high = worst_sums(weight.reshape(32, 2, REGISTER))
    assert (low >= LEAST and high <= LARGEST) == (together == 2)
    order = sum_order(packed(weight))
    assert order.together == 2  # of the other tiles
    alone = None if order.table is None else order.table[1, 0].tolist()
    assert alone == (None if together == 2 else [0, 0, 0])
