"""Two vectors of bfloat16 in one store: the same numbers, whatever limits them."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
import tvm
from support.quantized_cases import run

from tvm_mobilenet.compiler.cpu.lowering import lower, lower_module
from tvm_mobilenet.compiler.cpu.paired_stores import BOTH
from tvm_mobilenet.hardware import target
from tvm_mobilenet.kernels.cpu.elementwise import copy, with_epilogue
from tvm_mobilenet.kernels.cpu.expressions import SELF, clip
from tvm_mobilenet.kernels.cpu.layout import BF16, Blocked
from tvm_mobilenet.scheduling.rules import default_schedule

# what lies between two numbers of bfloat16, or half-way, or beyond the largest
VALUES = [0.0, 1.0, 1.0039, 1.00390625, 1.01171875, 5.99, 6.0, 6.01, 3.4e38, np.inf, 1e-20]
# ReLU, ReLU6, a limit that bfloat16 has not, one below zero, only the upper one, and none
LIMITS = [(0.0, None), (0.0, 6.0), (0.0, 6.01), (-1.0, 6.0), (None, 6.0), (None, None)]


def rounded(x: Blocked, limits: tuple[float | None, float | None], name: str) -> tvm.IRModule:
    func = with_epilogue(copy(x, x), clip(SELF, *limits), dtype=BF16)
    machine = target.resolve(name).tvm_target()
    return default_schedule(func.with_attr("global_symbol", "main"), machine).mod


@pytest.mark.isa("avx512_bf16")
@pytest.mark.parametrize("limits", LIMITS, ids=str)
def test_the_same_numbers(
    limits: tuple[float | None, float | None], rng: np.random.Generator
) -> None:
    x = Blocked(1, 32, 3, 7, 16)  # three pairs of columns, and one left
    machine = target.resolve("x86-znver4").tvm_target()
    kernel = lower(rounded(x, limits, "x86-znver4"), machine)["main"]
    values = rng.choice(np.array([*VALUES, *(-value for value in VALUES)], np.float32), x.shape)
    low, high = limits
    expected = np.clip(values, low, high).astype(ml_dtypes.bfloat16)
    np.testing.assert_array_equal(run(kernel, x.shape, BF16, values), expected)


@pytest.mark.isa("avx512_bf16")
def test_vectors_of_eight(rng: np.random.Generator) -> None:
    x = Blocked(1, 16, 4, 6, 8)
    machine = target.resolve("x86-znver4").tvm_target()
    kernel = lower(rounded(x, (0.0, 6.0), "x86-znver4"), machine)["main"]
    values = rng.uniform(-3, 9, x.shape).astype(np.float32)
    expected = values.clip(0, 6).astype(ml_dtypes.bfloat16)
    np.testing.assert_array_equal(run(kernel, x.shape, BF16, values), expected)


@pytest.mark.parametrize("name", ["x86-znver4", "arm-graviton3"])
def test_where_there_is_an_instruction_for_it(name: str) -> None:
    x = Blocked(1, 32, 3, 7, 4 if name.startswith("arm") else 16)
    script = lower_module(rounded(x, (0.0, 6.0), name), target.resolve(name).tvm_target()).script()
    assert (BOTH in script) == (name == "x86-znver4")


def test_limits_are_applied_to_both() -> None:
    x = Blocked(1, 32, 3, 8, 16)
    machine = target.resolve("x86-znver4").tvm_target()
    assembly = lower(rounded(x, (0.0, 6.0), "x86-znver4"), machine).inspect_source("asm")
    found = [line.split()[0] for line in assembly.splitlines() if line.strip()]
    assert {"vcvtne2ps2bf16", "vpmaxsw", "vpminsw"} <= set(found)
    assert not {"vcvtneps2bf16", "vmaxps", "vminps"} & set(found)
