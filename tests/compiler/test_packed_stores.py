"""Bytes of neighbouring pixels in one store: the same bytes, whatever was rounded or looked up."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
import tvm

from tvm_mobilenet.compiler.cpu.lowering import lower, lower_module
from tvm_mobilenet.compiler.cpu.packed_stores import looks_up
from tvm_mobilenet.hardware import cpu, target
from tvm_mobilenet.kernels.cpu.elementwise import copy, read_integers, table_operand, with_epilogue
from tvm_mobilenet.kernels.cpu.expressions import SELF, Input, apply
from tvm_mobilenet.kernels.cpu.layout import Blocked
from tvm_mobilenet.scheduling.rules import default_schedule

# 7 columns: one store of four pixels, and three of one
X = Blocked(1, 32, 3, 7, 16)
# past both ends of a byte, of a 16-bit integer and of an int32; ties; not a round number of them
VALUES = [-3e9, -40000.0, -1.0, -0.5, 0.5, 1.5, 2.5, 127.49, 254.5, 255.5, 256.0, 32768.5, 70000.0]


def rounded(operator: str, name: str) -> tvm.IRModule:
    func = with_epilogue(copy(X, X), apply(operator, SELF))
    scheduled = default_schedule(
        func.with_attr("global_symbol", "main"), target.resolve(name).tvm_target()
    )
    return scheduled.mod


@pytest.mark.parametrize("operator", ["saturate_uint8", "saturate_int_uint8"])
@pytest.mark.skipif("avx512bw" not in cpu.host_features(), reason="AVX-512 is what packs")
def test_the_same_bytes(operator: str, rng: np.random.Generator) -> None:
    spec = target.resolve("x86-znver4")
    if spec.missing_features(cpu.host_features()):
        spec = dataclasses.replace(target.resolve("x86-skylake-avx512"))
    function = lower(rounded(operator, spec.name), spec.tvm_target())["main"]
    x = rng.choice(np.array(VALUES[1:], np.float32), X.shape)
    if operator == "saturate_uint8":
        x[0, 0, 0, 0, :2] = VALUES[0], -VALUES[0]  # which no int32 holds
    result = tvm.runtime.tensor(np.full(X.shape, 77, np.uint8))
    function(tvm.runtime.tensor(x), result)
    np.testing.assert_array_equal(result.numpy(), np.clip(np.rint(x), 0, 255).astype(np.uint8))


@pytest.mark.parametrize(
    ("name", "packs"), [("x86-znver4", True), ("x86-skylake-avx512", True), ("x86-64-v3", False)]
)
def test_where_there_are_instructions_for_it(name: str, packs: bool) -> None:
    lowered = lower_module(rounded("saturate_int_uint8", name), target.resolve(name).tvm_target())
    assert ("packuswb" in lowered.script()) == packs


def looked_up(x: Blocked, *, of_bytes: bool) -> tvm.IRModule:
    """A kernel that looks up bytes from memory, or those that it rounds, in a table."""
    read = read_integers(copy(x, x), "uint8") if of_bytes else copy(x, x)
    byte = SELF if of_bytes else apply("saturate_int_uint8", SELF)
    table = table_operand(np.zeros(256, np.uint8))
    func = with_epilogue(read, apply("lookup_uint8", byte, Input(1)), [table])
    machine = target.resolve("x86-znver4").tvm_target()
    return default_schedule(func.with_attr("global_symbol", "main"), machine).mod


# in vectors of 16: columns that fill stores of four pixels, or leave one to three, or are fewer;
# of 8 they are not packed
SHAPES = [Blocked(2, 37, 8, columns, 16) for columns in (8, 7, 6, 5, 3)] + [Blocked(1, 8, 16, 6, 8)]


@pytest.mark.parametrize("of_bytes", [False, True], ids=["rounded", "from memory"])
@pytest.mark.parametrize("x", SHAPES, ids=lambda x: f"{x.width}x{x.vector}")
@pytest.mark.skipif("avx512vbmi" not in cpu.host_features(), reason="AVX512_VBMI looks up")
def test_every_byte_is_looked_up(x: Blocked, of_bytes: bool, rng: np.random.Generator) -> None:
    machine = target.resolve("x86-znver4").tvm_target()
    function = lower(looked_up(x, of_bytes=of_bytes), machine)["main"]
    table = rng.integers(0, 256, 256, dtype=np.uint8)
    values = rng.permutation(np.resize(np.arange(-40, 300), x.shape).reshape(-1)).reshape(x.shape)
    data = values.astype(np.uint8 if of_bytes else np.float32)
    result = tvm.runtime.tensor(np.full(x.shape, 77, np.uint8))
    function(*map(tvm.runtime.tensor, (data, table)), result)
    places = data if of_bytes else np.clip(values, 0, 255)
    assert len(np.unique(places)) == 256
    np.testing.assert_array_equal(result.numpy(), table[places])


def test_lookups_are_two_instructions_of_64_bytes() -> None:
    machine = target.resolve("x86-znver4").tvm_target()
    eight_columns = Blocked(1, 16, 4, 8, 16)
    assembly = lower(looked_up(eight_columns, of_bytes=False), machine).inspect_source("asm")
    # of groups of four pixels, no byte by itself
    groups = len(re.findall(r"\bvpackuswb\b.*zmm", assembly))
    assert groups and len(re.findall(r"\bvperm[it]2b\b.*zmm", assembly)) == 2 * groups
    assert not re.search(r"\bvpinsrb\b|\bvpextrb\b|\bvpgather", assembly)


@pytest.mark.parametrize(
    ("name", "tables"), [("x86-znver4", True), ("x86-skylake-avx512", False), ("arm-rpi5", False)]
)
def test_where_functions_of_bytes_are_tables(name: str, tables: bool) -> None:
    assert looks_up(target.resolve(name).tvm_target()) == tables


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("operator", ["saturate", "saturate_int"])
def test_neon_rounds_and_narrows_by_instructions_of_its_own(operator: str, dtype: str) -> None:
    mod, machine = rounded(f"{operator}_{dtype}", "arm-rpi4"), target.resolve("arm-rpi4")
    assembly = lower(mod, machine.tvm_target()).inspect_source("asm")
    assert "fcvtns" in assembly and ("sqxtun" if dtype == "uint8" else "sqxtn2") in assembly
    assert not re.search(r"\b(?:frintx|lrintf|smax|smin|fmaxnm)\b", assembly)


def test_32_bit_neon_rounds_without_a_call() -> None:
    mod, machine = rounded("saturate_int_int8", "arm-rpi2-armv7"), target.resolve("arm-rpi2-armv7")
    assert "lrintf" not in lower(mod, machine.tvm_target()).inspect_source("asm")
