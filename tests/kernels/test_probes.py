"""The probes of a core's peaks: in their loop nothing but the instructions that they are about."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import tvm
from support.tile_cases import HAS_TILES, NAME, spec_that_runs, tile_unit, tiles
from tvm import tirx
from tvm.target import Target

from schedules.x86.tile_products import BYTES, LANES, PAIRS, ROW_BYTES, ROWS
from tvm_mobilenet.compiler.cpu.lowering import lower
from tvm_mobilenet.compiler.cpu.static_program import peak
from tvm_mobilenet.hardware import target
from tvm_mobilenet.kernels.arithmetic import Arithmetic
from tvm_mobilenet.kernels.cpu.dot_probes import dot_peak, step_of
from tvm_mobilenet.kernels.cpu.probes import CHAINS
from tvm_mobilenet.kernels.cpu.tile_probes import SUMS
from tvm_mobilenet.kernels.probe_sizes import PEAK_OPERATIONS, SCRATCH_FLOATS

LOOP = re.compile(r"^(\.LBB[\d_]+):\n((?:(?!^\.LBB).)*?\t(?:j\w+|b\.\w+)\t\1)", re.M | re.S)
# what a loop is counted and ended by
COUNTING = re.compile(r"(add|sub|dec|inc|cmp|test)\w?$|subs|j\w+|b\.\w+")


# VNNI of 256 bits, which no target in targets/ has
AVX_VNNI = Target({"kind": "llvm", "mtriple": "x86_64-linux-gnu", "mcpu": "alderlake"})


@pytest.mark.parametrize(
    ("name", "kind", "instructions"),
    [
        ("x86-znver4", "bytes", {"vpdpbusd": 64}),
        ("x86-znver4", "bf16", {"vdpbf16ps": 32}),
        ("alderlake", "bytes", {"vpdpbusd": 32}),
        ("x86-64-v3", "bytes", {"vpmaddwd": 16, "vpaddd": 0}),
        ("arm-rpi4", "bytes", {"smull": 8, "smlal2": 8, "sadalp": 0}),
        ("arm-rpi5", "bytes", {"sdot": 16}),
        ("arm-graviton3", "bytes", {"smmla": 32}),
        ("arm-graviton3", "bf16", {"bfmmla": 16}),
    ],
)
def test_a_loop_is_of_these_alone(
    name: str, kind: Arithmetic, instructions: dict[str, int]
) -> None:
    """``instructions`` with the products of each."""
    chosen = AVX_VNNI if name == "alderlake" else target.resolve(name).tvm_target()
    step = step_of(kind, chosen)
    assert step.products == sum(instructions.values())
    assert PEAK_OPERATIONS % (2 * CHAINS * step.products) == 0, "no operation is left out"
    found, loop = in_loop(dot_peak(step), chosen)
    assert set(found) == set(instructions)
    rounds = found.count(next(iter(instructions))) // CHAINS
    assert all(found.count(one) == CHAINS * rounds > 0 for one in instructions)
    assert not any("(" in line or "[" in line for line in loop.splitlines()), "no memory"


def in_loop(probe: tirx.PrimFunc, chosen: Target) -> tuple[list[str], str]:
    """The instructions of a probe's loop but those that count it, and its text."""
    named = probe.with_attr("global_symbol", "peak")
    text = lower(tvm.IRModule({"peak": named}), chosen).inspect_source("s")
    (loop,) = (re.sub(r"{vex}\s", "", body) for _, body in LOOP.findall(text))
    lines = [line.split() for line in loop.splitlines() if re.match(r"\t[a-z]", line)]
    return [words[0] for words in lines if not COUNTING.fullmatch(words[0])], loop


OF_TILES = [("bytes_tiles", "tdpbusd", BYTES), ("bf16_tiles", "tdpbf16ps", PAIRS)]


@pytest.mark.parametrize(("kind", "instruction", "operands"), OF_TILES)
def test_a_loop_of_products_of_tiles(kind: Arithmetic, instruction: str, operands: Any) -> None:
    """In registers alone; and run, it does as many as the profiler takes it to have done."""
    chosen = target.resolve(NAME).tvm_target()
    found, loop = in_loop(peak(kind, chosen), chosen)
    assert set(found) == {instruction} and len(found) % SUMS == 0
    assert "(" not in loop, "no memory"

    spec = spec_that_runs()
    probe = peak(kind, spec.tvm_target()).with_attr("global_symbol", "peak")
    library = lower(tvm.IRModule({"peak": probe}), spec.tvm_target())
    scratch = tvm.runtime.tensor(np.full(SCRATCH_FLOATS, 0.5, np.float32))
    before = tile_unit().counts()
    with tiles():
        library["peak"](scratch)
    assert np.count_nonzero(scratch.numpy() - np.float32(0.5)), "the sums are left there"
    if HAS_TILES:
        return
    after = tile_unit().counts()
    products = after.of_bytes - before.of_bytes, after.of_bf16 - before.of_bf16
    of_each = 2 * ROWS * LANES * ROW_BYTES // operands.bytes
    done = products[operands is PAIRS] * of_each
    assert done == pytest.approx(PEAK_OPERATIONS, rel=1e-3) and not products[operands is BYTES]
