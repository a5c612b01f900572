"""The probes of a core's peaks: in their loop nothing but the instructions that they are about."""

from __future__ import annotations

import re

import pytest
import tvm
from tvm.target import Target

from tvm_mobilenet.compiler.cpu.lowering import lower
from tvm_mobilenet.hardware import target
from tvm_mobilenet.kernels.arithmetic import Arithmetic
from tvm_mobilenet.kernels.cpu.dot_probes import dot_peak, step_of
from tvm_mobilenet.kernels.cpu.probes import CHAINS
from tvm_mobilenet.kernels.probe_sizes import PEAK_OPERATIONS

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
    probe = dot_peak(step).with_attr("global_symbol", "peak")
    text = lower(tvm.IRModule({"peak": probe}), chosen).inspect_source("s")
    (loop,) = (re.sub(r"{vex}\s", "", body) for _, body in LOOP.findall(text))
    lines = [line.split() for line in loop.splitlines() if re.match(r"\t[a-z]", line)]
    found = [words[0] for words in lines if not COUNTING.fullmatch(words[0])]
    assert set(found) == set(instructions)
    rounds = found.count(next(iter(instructions))) // CHAINS
    assert all(found.count(one) == CHAINS * rounds > 0 for one in instructions)
    assert not any("(" in line or "[" in line for line in loop.splitlines()), "no memory"
