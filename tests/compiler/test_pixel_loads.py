"""Neighbouring pixels on ARM with matrices of int8: which are loaded at once, and in what order."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from support import odd_kernels
from support.kernel_cases import Convolution
from support.quantized_cases import QuantizedConvolution

from tvm_mobilenet.compiler.cpu.lowering import lower
from tvm_mobilenet.compiler.cpu.pixel_loads import chains_of, loads_of
from tvm_mobilenet.core_model import loops
from tvm_mobilenet.hardware import target
from tvm_mobilenet.scheduling.rules import default_schedule

LANES, DEPTH = 8, 8
MACHINE = target.resolve("arm-graviton3").tvm_target()
# the registers of an instruction that can move its address on
LD1 = re.compile(r"^ld1\s+\{([^}]*)\}, \[x\d+\]")


@pytest.mark.parametrize(
    ("pairs", "registers"),
    [(1, []), (2, [2]), (4, [4]), (5, [2, 3]), (6, [3, 3]), (7, [3, 4]), (8, [4, 4])],
)
def test_neighbours_are_divided_evenly(pairs: int, registers: list[int]) -> None:
    loads = loads_of([100 + 16 * place for place in range(pairs)])
    assert [one.registers for one in loads] == registers
    if loads:
        assert [one.offset for one in loads] == [
            100 + 16 * sum(registers[:place]) for place in range(len(registers))
        ]


def test_a_chain_is_in_the_order_of_its_uses() -> None:
    """Of two rows of two pairs, as they are read: a step after the other."""
    row, step = 10_000, 224
    offsets = [s * step + r * row + 16 * p for s in range(16) for r in range(2) for p in range(2)]
    found = chains_of(offsets)
    assert found.keys() == set(offsets)
    chains = {(start, chain) for start, chain, _ in found.values()}
    places = [[start + one.offset for one in chain] for start, chain in chains]
    order = [s * step + r * row for s in range(16) for r in range(2)]
    for chain in places:
        assert chain == sorted(chain) == sorted(chain, key=order.index)
    # each load is the last of one chain
    assert sorted(chain[-1] for chain in places) == sorted(order)


def test_few_loads_are_no_chain() -> None:
    offsets = [224 * step + 16 * pair for step in range(8) for pair in range(2)]
    assert not chains_of(offsets[:-2])
    assert chains_of(offsets).keys() == set(offsets)


@pytest.mark.parametrize(
    ("width", "registers"),
    [
        (14, {3: 1, 4: 3}),  # of a row in two loops, each loads four matrices of weights
        (12, {3: 2, 4: 2}),
        (7, {4: 2}),
    ],
)
def test_loads_of_a_hot_loop(width: int, registers: dict[int, int]) -> None:
    plain = Convolution("conv2d", (256, 16), (2, width), (LANES, LANES))
    case = QuantizedConvolution(plain, odd_kernels.IN_UNITS, dtype="int8", depth=DEPTH, offset=-128)
    func = case.func().with_attr("global_symbol", "main")
    text = lower(default_schedule(func, MACHINE).mod, MACHINE).inspect_source("asm")
    found = [one for one in loops.innermost_loops(text, "aarch64") if one.dot_products >= 64]
    lines = [line for one in found for line in one.instructions]
    joined = [match[1].count("v") for match in map(LD1.match, lines) if match]
    steps = len(joined) // sum(registers.values())
    assert steps >= 8
    assert Counter(joined) == {count: steps * times for count, times in registers.items()}
    # nothing else is loaded, nor is anything on the stack
    assert not [line for line in lines if line.startswith(("ld", "st")) and not LD1.match(line)]
    products = sum(one.dot_products for one in found)
    # a matrix of two pixels by two channels each
    assert products == steps * -(-width // 2) * LANES // 2
    assert len(lines) <= 1.25 * products
