"""The reader of loops that the tests of schedules rely on."""

from __future__ import annotations

from tvm_mobilenet.core_model import loops

# An outer loop .LBB0_1 over two inner ones, and a call outside of any
X86 = """
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
    assert [loop.label for loop in loops.innermost_loops(X86, "x86_64")] == [".LBB0_2", ".LBB0_3"]


def test_hot_loop() -> None:
    loop = loops.hot_loop(X86, "x86_64")
    assert loop.label == ".LBB0_2"
    assert (loop.fmas, loop.fmas_into("zmm"), loop.fmas_into("ymm")) == (2, 2, 0)
    assert (loop.stack_accesses, loop.calls, loop.branches) == ([], [], [])
    assert loop.instructions[0] == "vbroadcastss (%rsi,%rax), %zmm1"
    assert loop.instructions[-1] == "jne .LBB0_2"


def test_what_a_hot_loop_must_not_have() -> None:
    loop = loops.innermost_loops(X86, "x86_64")[1]
    assert loop.stack_accesses == ["vmovups %ymm3, -32(%rsp)", "vmovups 8(%rbp), %ymm3"]
    assert loop.calls == ["callq expf@PLT"]
    assert loop.branches == ["je .LBB0_4"]
    assert loop.fmas_into("ymm") == 1


AARCH64 = """
main:
\tadd\tx29, sp, #96
.LBB0_1:
\tldp\tq0, q1, [x8], #32                  // 32-byte Folded Reload
\tldr\tq2, [x9, :lo12:table]
\tldr\ts3, [sp, #8]
\tfmla\tv16.4s, v2.4s, v0.s[0]
\tfmla\tv17.4s, v2.4s, v1.4s
\tfadd\tv18.4s, v18.4s, v2.4s
\tstr\tq2, [x29, #16]
\tcbz\tx10, .LBB0_2
.LBB0_2:
\tbl\tmemset
\tsubs\tx10, x10, #1
\tb.ne\t.LBB0_1
\tret
"""


def test_the_same_of_aarch64() -> None:
    loop = loops.hot_loop(AARCH64, "aarch64")
    assert (loop.label, loop.fmas, loop.by_element_fmas, loop.vector_adds) == (".LBB0_1", 2, 1, 1)
    assert loop.stack_accesses == ["ldr s3, [sp, #8]", "str q2, [x29, #16]"]
    assert loop.scalar_loads == ["ldr s3, [sp, #8]"]
    assert (loop.calls, loop.branches) == (["bl memset"], ["cbz x10, .LBB0_2"])
    assert len(loop.instructions) == 11 and loop.instructions_per_fma == 5.5
    without_frame = loops.hot_loop(AARCH64.replace("x29, sp", "x28, sp"), "aarch64")
    assert without_frame.stack_accesses == ["ldr s3, [sp, #8]"], "x29 is a register like any other"
