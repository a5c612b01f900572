"""Loads of four registers on ARM: which are joined, and what becomes of them."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from support import odd_kernels

from tvm_mobilenet.compiler.cpu import load_chains, neon_loads
from tvm_mobilenet.compiler.cpu.load_chains import Load
from tvm_mobilenet.compiler.cpu.lowering import lower
from tvm_mobilenet.core_model import loops
from tvm_mobilenet.hardware import target
from tvm_mobilenet.scheduling.rules import default_schedule

# what moves the address on to the next load, without an instruction for that
FOUR = re.compile(r"^ld1\s+\{ *v\d+\.16b,(?: *v\d+\.16b,?){3} *\}, \[x\d+\], ")


@pytest.mark.parametrize(
    ("machine", "lanes", "depth", "products"),
    [("arm-rpi5", 16, 4, 16), ("arm-graviton3", 8, 8, 8), ("arm-rpi4", 16, 16, 8)],
)
def test_weights_come_four_registers_at_once(
    machine: str, lanes: int, depth: int, products: int
) -> None:
    spec = target.resolve(machine)
    case = odd_kernels.over_bytes("conv2d", lanes, "int8", depth, offset=-128)
    plain = case.func().with_attr("global_symbol", "main")
    mod = default_schedule(plain, spec.tvm_target()).mod
    loop = loops.hot_loop(lower(mod, spec.tvm_target()).inspect_source("asm"), "aarch64")
    joined = [line for line in loop.instructions if FOUR.match(line)]
    assert len(joined) >= 3
    # each of them for so many steps
    assert loop.dot_products >= products * len(joined)
    assert not loop.stack_accesses


@pytest.mark.parametrize(
    ("readers", "places"),
    [
        (dict.fromkeys(range(12), 2), [0, 1, 2]),
        (dict.fromkeys(range(8), 2), []),  # too few for a chain
        (dict.fromkeys(range(12), 1), []),  # read once
        ({**dict.fromkeys(range(16), 4), 5: 1}, [0, 2, 3]),  # but for one register
        (dict.fromkeys([*range(4), *range(16, 20), *range(32, 36)], 2), [0, 4, 8]),
    ],
)
def test_whole_loads_of_what_is_shared(readers: dict[int, int], places: list[int]) -> None:
    assert neon_loads.whole_loads(Counter(readers)) == places


def test_a_chain_goes_by_way_of_the_loads_before() -> None:
    code = load_chains.definition((Load(0), Load(64), Load(320, 2)))
    assert code.count("getelementptr") == 2
    assert "i64 64\n" in code and "(i64 256)" in code
    assert "ld1x2" in code and "ld1x4" not in code
    first = load_chains.definition((Load(128),))
    assert "(i64 128)" in first and first.count("getelementptr") == 1
