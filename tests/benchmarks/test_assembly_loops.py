"""The reader of assembly that tests/test_schedules_x86.py relies on."""

from __future__ import annotations

from support import assembly

# An outer loop .LBB0_1 over two inner ones, and a call outside of any
TEXT = """
\t.text
main:
\tmovq\t%rsp, %rbp
\txorl\t%eax, %eax
.LBB0_1:                                # =>This Loop Header
\tvmovups\t(%rdi), %zmm0
.LBB0_2:                                #   Parent Loop BB0_1
\tvbroadcastss\t(%rsi,%rax), %zmm1
\tvfmadd231ps\t64(%rdi), %zmm1, %zmm0     # zmm0 = (zmm1 * mem) + zmm0
\tvfmadd231ps\t(%rdi){1to16}, %zmm1, %zmm31
\tvfmadd213ss\t(%rdi), %xmm1, %xmm2
\tincq\t%rax
\tjne\t.LBB0_2
\tmovl\t$5, %ecx
.LBB0_3:
\tvmovups\t%ymm3, -32(%rsp)                # 32-byte Spill
\tvmovups\t8(%rbp), %ymm3
\tvfnmadd132ps\t%ymm1, %ymm2, %ymm3
\tje\t.LBB0_4
\tcallq\texpf@PLT
.LBB0_4:
\tdecq\t%rcx
\tjne\t.LBB0_3
\tjmp\t.LBB0_1
\tcallq\t__TVMBackendParallelLaunch
\tretq
"""


def test_innermost_loops() -> None:
    assert [loop.label for loop in assembly.innermost_loops(TEXT)] == [".LBB0_2", ".LBB0_3"]


def test_hot_loop() -> None:
    loop = assembly.hot_loop(TEXT)
    assert loop.label == ".LBB0_2"
    assert (loop.fmas(), loop.fmas("zmm"), loop.fmas("ymm")) == (2, 2, 0)
    assert (loop.stack_accesses, loop.calls, loop.branches) == ([], [], [])
    assert loop.instructions[0] == "vbroadcastss (%rsi,%rax), %zmm1"
    assert loop.instructions[-1] == "jne .LBB0_2"


def test_what_a_hot_loop_must_not_have() -> None:
    loop = assembly.innermost_loops(TEXT)[1]
    assert loop.stack_accesses == ["vmovups %ymm3, -32(%rsp)", "vmovups 8(%rbp), %ymm3"]
    assert loop.calls == ["callq expf@PLT"]
    assert loop.branches == ["je .LBB0_4"]
    assert loop.fmas("ymm") == 1
