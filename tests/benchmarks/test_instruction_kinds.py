"""The kinds of instructions: what the script makes of a disassembly."""

from __future__ import annotations

import runpy

import pytest
from support import benchmark_scripts

from tvm_mobilenet.emulation import executed

SCRIPT = runpy.run_path(str(benchmark_scripts.FOLDER / "instruction_kinds.py"))


@pytest.mark.parametrize(
    ("text", "kind", "name"),
    [
        ("sdot v0.4s, v1.16b, v2.4b[3]", "PRODUCTS", "sdot v.4s"),
        ("fmla v0.8h, v1.8h, v2.h[3]", "PRODUCTS", "fmla v.8h"),
        ("ldp q0, q1, [x3, #32]", "LOADS", "ldp q"),
        ("ld1 {v4.16b-v7.16b}, [x11], #64", "LOADS", "ld1 v.16b"),
        ("prfm pldl1keep, [x10, #512]", "LOADS", "prfm"),
        ("sqrdmulh v0.4s, v1.4s, v2.4s", "RESULTS", "sqrdmulh v.4s"),
        ("add v0.16b, v1.16b, v2.16b", "RESULTS", "add v.16b"),
        ("add v0.4s, v1.4s, v2.4s", "ORDER", "add v.4s"),
        ("mov v0.16b, v1.16b", "COPIES", "mov v.16b"),
        ("umov w0, v1.s[0]", "OTHER", "umov w"),
        ("mov x0, x1", "SCALAR", "mov x"),
        ("b.ne 0x24", "SCALAR", "b.ne"),
    ],
)
def test_an_instruction_is_of_one_kind(text: str, kind: str, name: str) -> None:
    assert SCRIPT["by_kind"]({text: 3}) == {SCRIPT[kind]: {name: 3}}


def test_instructions_are_spelled_as_the_kinds_have_them() -> None:
    codes = {0x4F83E841: "sdot v1.4s, v2.16b, v3.4b[2]", 0x54000041: "b.ne 0xc", 0: "udf #0"}
    found = executed.disassemble(list(codes))
    assert found == [*codes.values()]
