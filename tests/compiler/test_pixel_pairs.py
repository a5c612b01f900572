"""Bytes of two neighbouring pixels on ARM with matrices of int8: which are stored together."""

from __future__ import annotations

import re

import pytest
from support import odd_kernels
from support.kernel_cases import Case
from tvm import tirx

from tvm_mobilenet.compiler.cpu.lowering import lower
from tvm_mobilenet.compiler.cpu.pixel_pairs import ORDER, PLACES, places_of
from tvm_mobilenet.hardware import target
from tvm_mobilenet.scheduling.rules import default_schedule


def assembly(case: Case) -> str:
    machine = target.resolve("arm-graviton3").tvm_target()
    mod = default_schedule(case.func().with_attr("global_symbol", "main"), machine).mod
    return str(lower(mod, machine).inspect_source("asm"))


@pytest.mark.parametrize(("kind", "depth", "shuffles"), [("conv2d", 8, 1), ("depthwise", 4, 0)])
def test_a_register_of_bytes_is_stored_at_once(kind: str, depth: int, shuffles: int) -> None:
    text = assembly(odd_kernels.over_bytes(kind, 8, "int8", depth, offset=-128))
    narrowed = len(re.findall(r"\bsqxtun2\b", text))
    assert narrowed >= 2
    # neither are there bytes of one pixel, nor sums that are put in order
    assert len(re.findall(r"\bsqxtun\b", text)) == narrowed
    assert len(re.findall(r"\btbl\b", text)) == narrowed * shuffles
    assert not re.search(r"\bzip2\s+v\d+\.2d", text)


def test_order_of_two_pixels() -> None:
    pixels = [ORDER[:8], ORDER[8:]]
    assert pixels[0] == PLACES == [0, 1, 4, 5, 8, 9, 12, 13]
    assert sorted(ORDER) == list(range(16))


def test_places_of_constant_vectors() -> None:
    two, four = (tirx.Broadcast(tirx.IntImm("int32", n), 8) for n in (2, 4))
    lanes = tirx.Ramp(tirx.IntImm("int32", 0), 1, 8)
    index = tirx.FloorDiv(lanes, two) * four + tirx.FloorMod(lanes, two)
    assert places_of(index) == PLACES
    assert places_of(tirx.Ramp(tirx.Var("x", "int32"), 1, 8)) is None
