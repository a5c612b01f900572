"""The model of a core: what it reads in code, what it thinks is dearer, and the counts it gets."""

from __future__ import annotations

from dataclasses import replace

import pytest
import tvm
from support import network_kernels, odd_kernels
from support.kernel_cases import Convolution
from support.quantized_cases import QuantizedConvolution, signed

from schedules import RULES
from schedules.cpu.dot_products import integers_of
from tvm_mobilenet.core_model import aarch64, x86_64
from tvm_mobilenet.core_model.caches import incoming, nest_of
from tvm_mobilenet.core_model.estimate import estimate
from tvm_mobilenet.core_model.interpreter import Count, Interpreter
from tvm_mobilenet.core_model.operation import Flags, Unmodelled, difference, holds
from tvm_mobilenet.hardware import target
from tvm_mobilenet.hardware.core import Core
from tvm_mobilenet.models import config_from
from tvm_mobilenet.scheduling.rules import default_schedule

assert RULES  # the rules are registered

SMALL = config_from("mobilenet_v1", 0.25, 128)
PLACES = (
    0,
    1,
    2,
    3,
    14,
    26,
)  # of its kernels: stem, depthwise s1 and s2, pointwise large and small


def core_of(name: str) -> Core:
    core = target.resolve(name).core
    assert core is not None
    return core


ZEN5, A72 = core_of("x86-znver5"), core_of("arm-rpi4")


def function(body: str) -> str:
    return f"\t.type\tf,@function\nf:\n{body}\n\tret\n"


def run_x86(body: str, arguments: int = 2, core: Core = ZEN5) -> Count:
    return Interpreter(function(body), "x86_64", core).call("f", arguments)


def run_arm(body: str, arguments: int = 2, core: Core = A72) -> Count:
    return Interpreter(function(body), "aarch64", core).call("f", arguments)


# ---------------------------------------------------------------- loops

NESTED_X86 = """
	xorl	%eax, %eax
.L1:
	movl	$-4096, %ecx
.L2:
	vfmadd231ps	(%rdi,%rcx), %zmm1, %zmm0
	addq	$64, %rcx
	jne	.L2
	incl	%eax
	cmpl	$300, %eax
	jb	.L1
"""
NESTED_X86 = NESTED_X86.replace("movl	$-4096, %ecx", "movq	$-4096, %rcx")

NESTED_ARM = """
	mov	w8, wzr
.L1:
	mov	x9, xzr
	add	x10, x0, w8, sxtw #6
.L2:
	ldr	q1, [x10, x9]
	fmla	v0.4s, v1.4s, v2.s[1]
	add	x9, x9, #16
	cmp	x9, #1024
	b.ne	.L2
	add	w8, w8, #1
	cmp	w8, #300
	b.lt	.L1
"""


def test_counts_the_trips_of_nested_loops_it_does_not_follow() -> None:
    assert run_x86(NESTED_X86).units["fma"] == 300 * 64
    count = run_arm(NESTED_ARM)
    assert count.units["fma"] == 300 * 64
    assert count.instructions == 1 + 300 * (2 + 64 * 5 + 3) + 1


def test_whole_vectors_have_a_width_of_their_own() -> None:
    """A loop of two loads and two FMAs, the adding and branching beside them."""
    body = """
	mov	x8, #1000
.L1:
	ldr	q1, [x0]
	fmla	v0.4s, v2.4s, v2.4s
	ldr	q3, [x0]
	fmla	v4.4s, v5.4s, v5.4s
	subs	x8, x8, #1
	b.ne	.L1
"""
    core = replace(A72, fma_latency=1)
    assert run_arm(body, core=core).cycles < 2.5 * 1000
    assert run_arm(body, core=replace(core, vector_issue=1)).cycles > 3.9 * 1000
    # no other width: what enters beside the vectors costs nothing
    assert run_arm(body, core=replace(core, vector_issue=1)).cycles < 4.1 * 1000


@pytest.mark.parametrize("trips", [1, 2, 3, 7, 8, 9, 1000, 1001])
def test_counts_an_unrolled_loop_with_a_remainder(trips: int) -> None:
    body = f"""
	mov	w8, #{trips}
	and	w9, w8, #0x7
	and	w10, w8, #0xfffffff8
	cbz	w10, .L2
.L1:
{"	fmla	v0.4s, v1.4s, v2.s[1]" + chr(10)}{("	fmla	v0.4s, v1.4s, v2.s[1]" + chr(10)) * 7}
	subs	w10, w10, #8
	b.ne	.L1
.L2:
	cbz	w9, .L4
.L3:
	fmla	v0.4s, v1.4s, v2.s[1]
	subs	w9, w9, #1
	b.ne	.L3
.L4:
"""
    assert run_arm(body).units["fma"] == trips


def test_a_branch_on_a_divided_counter_is_followed_and_not_guessed() -> None:
    # every eighth iteration does one more multiply-add
    body = """
	xorl	%eax, %eax
.L1:
	movl	%eax, %ecx
	shrl	$3, %ecx
	shll	$3, %ecx
	cmpl	%eax, %ecx
	jne	.L2
	vfmadd231ps	%zmm2, %zmm1, %zmm0
.L2:
	incl	%eax
	cmpl	$4000, %eax
	jne	.L1
"""
    assert run_x86(body).units["fma"] == 500


def test_what_a_branch_needs_must_be_known() -> None:
    with pytest.raises(Unmodelled, match="depends on what is not known"):
        run_x86("\tmovl (%rdi), %eax\n\ttestl %eax, %eax\n\tje .L1\n.L1:")


@pytest.mark.parametrize("text", ["crc32b w0, w1, w2", "svc #0"])
def test_an_unknown_instruction_is_named(text: str) -> None:
    with pytest.raises(Unmodelled, match=text.split()[0]):
        run_arm("\t" + text)


def test_an_instruction_set_without_a_model_is_refused() -> None:
    armv7 = target.resolve("arm-rpi2-armv7")
    mod = scheduled(-1, "arm-rpi4")
    with pytest.raises(Unmodelled, match="x86_64 and aarch64"):
        estimate(mod, armv7.tvm_target(), A72)


# ---------------------------------------------------------------- instructions


def test_reads_x86_operands() -> None:
    broadcast = x86_64.decode("vfmadd231ps 4(%rdi,%rcx,8){1to16}, %zmm1, %zmm0")
    assert (broadcast.unit, broadcast.loads) == ("fma", 1)
    assert set(broadcast.reads) == {"rdi", "rcx", "v1", "v0"}
    assert broadcast.memory is not None and broadcast.memory.size == 4
    spill = x86_64.decode("vmovups %zmm3, -64(%rsp)")
    assert (spill.stores, spill.reads) == (1, ("v3", "rsp"))
    assert x86_64.decode("vxorps %xmm0, %xmm0, %xmm0").reads == ()


@pytest.mark.parametrize(
    ("text", "unit", "reads", "read", "stored"),
    [
        ("vpdpbusd (%rdi), %zmm1, %zmm0", "fma", {"rdi", "v1", "v0"}, 64, 0),
        ("{vex} vpdpbusd %ymm2, %ymm1, %ymm0", "fma", {"v2", "v1", "v0"}, 0, 0),
        ("vpmaddwd %ymm2, %ymm1, %ymm0", "vector", {"v1", "v2"}, 0, 0),
        ("vpermb %zmm2, %zmm1, %zmm0", "vector", {"v1", "v2"}, 0, 0),
        ("vpermd (%rdi), %ymm1, %ymm0", "vector", {"rdi", "v1"}, 32, 0),
        ("vpbroadcastd (%rdi,%rcx), %zmm0", "none", {"rdi", "rcx"}, 4, 0),
        ("vpmovzxbd (%rdi), %zmm0", "vector", {"rdi"}, 16, 0),
        ("vpmovzxbw (%rdi), %ymm0", "vector", {"rdi"}, 16, 0),
        ("vpmovusdb %zmm3, (%rdi)", "vector", {"v3", "rdi"}, 0, 16),
        ("vpmovdb %zmm3, %xmm0", "vector", {"v3"}, 0, 0),
        ("vcvtps2dq %zmm3, %zmm0", "vector", {"v3"}, 0, 0),
        ("vcvtdq2ps %zmm3, %zmm0", "vector", {"v3"}, 0, 0),
    ],
)
def test_reads_instructions_over_bytes(
    text: str, unit: str, reads: set[str], read: int, stored: int
) -> None:
    operation = x86_64.decode(text)
    size = 0 if operation.memory is None else operation.memory.size
    assert (operation.unit, set(operation.reads)) == (unit, reads)
    assert (operation.loads * size, operation.stores * size) == (read, stored)


def test_reads_aarch64_operands() -> None:
    fma = aarch64.decode("fmla v0.4s, v1.4s, v2.s[3]")
    assert (fma.unit, set(fma.reads), fma.writes) == ("fma", {"v0", "v1", "v2"}, ("v0",))
    pair = aarch64.decode("ldp q0, q1, [x3, #32]")
    assert (pair.loads, pair.writes) == (2, ("v0", "v1"))
    post = aarch64.decode("str q0, [x3], #16")
    assert (post.stores, post.writes) == (1, ("x3",))


@pytest.mark.parametrize(
    ("text", "unit", "reads"),
    [
        ("sdot v2.4s, v10.16b, v26.4b[3]", "fma", {"v2", "v10", "v26"}),
        ("smmla v2.4s, v10.16b, v26.16b", "fma", {"v2", "v10", "v26"}),
        ("smull v2.8h, v10.8b, v26.8b", "fma", {"v10", "v26"}),
        ("smlal2 v2.8h, v10.16b, v26.16b", "fma", {"v2", "v10", "v26"}),
        ("sadalp v2.4s, v10.8h", "vector", {"v2", "v10"}),
        ("sqxtn v2.4h, v10.4s", "vector", {"v10"}),
        ("sqxtn2 v2.8h, v10.4s", "vector", {"v2", "v10"}),
        ("fcvtn2 v2.8h, v10.4s", "vector", {"v2", "v10"}),
    ],
)
def test_reads_aarch64_instructions_over_narrow_numbers(
    text: str, unit: str, reads: set[str]
) -> None:
    operation = aarch64.decode(text)
    assert (operation.unit, set(operation.reads), operation.writes) == (unit, reads, ("v2",))


@pytest.mark.parametrize(
    ("name", "products"), [("arm-rpi4", 30 * 32 * 64 // 16 * 2), ("arm-rpi5", 30 * 32 * 64 // 16)]
)
def test_counts_every_product_of_a_kernel_over_int8(name: str, products: int) -> None:
    spec = target.resolve(name)
    depth = integers_of(spec.tvm_target()).depth
    real = Convolution("conv2d", (64, 32), (5, 6))
    kernel = signed(QuantizedConvolution(real, odd_kernels.AS_BYTE, depth=depth)).func()
    mod = default_schedule(kernel, spec.tvm_target()).mod
    assert spec.core is not None
    found = estimate(mod, spec.tvm_target(), spec.core)
    scaled = 2 * 30 * 32 // 4  # FMAs of the epilogue: by the sum's scale, and the result's
    assert found.count.units["fma"] == pytest.approx(products + scaled, rel=0.01)


@pytest.mark.parametrize(
    ("condition", "left", "right", "expected"),
    [
        ("l", -1, 1, True),
        ("b", -1, 1, False),  # unsigned, -1 is the largest
        ("ae", 5, 5, True),
        ("g", 3, 3, False),
        ("e", 7, 7, True),
        ("be", 2, 1, False),
    ],
)
def test_conditions(condition: str, left: int, right: int, expected: bool) -> None:
    assert holds(condition, difference(condition, Flags(left, right, 32))) is expected


# ---------------------------------------------------------------- what is dearer


def loop_arm(lines: list[str]) -> str:
    return "\n".join(["\tmov w8, #1000", ".L1:", *lines, "\tsubs w8, w8, #1", "\tb.ne .L1"])


def fmas(accumulators: int, count: int) -> list[str]:
    return [f"\tfmla v{i % accumulators}.4s, v30.4s, v31.s[0]" for i in range(count)]


def test_too_few_accumulators_are_dearer() -> None:
    one, enough = (run_arm(loop_arm(fmas(n, 24))).cycles for n in (1, 12))
    assert enough == pytest.approx(24_000 / A72.fmas, rel=0.05)
    assert one == pytest.approx(24_000 * A72.fma_latency, rel=0.05)


def test_a_spill_is_dearer() -> None:
    def cycles(spilled: int) -> float:
        lines = [f"\tvfmadd231ps %zmm30, %zmm31, %zmm{i}" for i in range(8)]
        for i in range(spilled):
            lines += [f"\tvmovups %zmm{i}, {64 * i}(%rsp)", f"\tvmovups {64 * i}(%rsp), %zmm{i}"]
        body = ["\tmovl $1000, %eax", ".L1:", *lines, "\tdecl %eax", "\tjne .L1"]
        return run_x86("\n".join(body)).cycles

    assert cycles(0) == pytest.approx(8_000 / ZEN5.fmas, rel=0.05)
    assert 1.2 * cycles(0) < cycles(4) < cycles(8)


def test_an_in_order_core_waits_where_another_goes_on() -> None:
    # a load just before it is needed
    lines = [
        line
        for i in range(8)
        for line in (f"\tldr q{i}, [x0]", f"\tfmla v{i + 8}.4s, v{i}.4s, v31.s[0]")
    ]
    in_order, ahead = (
        run_arm(loop_arm(lines), core=replace(A72, window=window)).cycles for window in (0, 64)
    )
    assert in_order > 1.5 * ahead


def test_a_smaller_window_overlaps_less() -> None:
    lines = [*fmas(1, 30), "\tmovi v0.2d, #0000000000000000"]  # tiles of one chain each
    small, large = (
        run_arm(loop_arm(lines), core=replace(A72, window=window)).cycles for window in (16, 256)
    )
    assert small > 1.5 * large


# ---------------------------------------------------------------- kernels


def scheduled(place: int, target_name: str) -> tvm.IRModule:
    spec = target.resolve(target_name)
    kernel = network_kernels.network(SMALL, spec.vector_width)[place]
    return default_schedule(kernel.func, spec.tvm_target()).mod


@pytest.mark.parametrize("name", ["x86-znver5", "x86-64-v3", "arm-rpi4", "arm-graviton2"])
def test_counts_every_multiply_add_of_a_network(name: str) -> None:
    """The convolutions' FMAs are known from their shapes; the model's come from their code."""
    spec = target.resolve(name)
    for place in PLACES:
        kernel = network_kernels.network(SMALL, spec.vector_width)[place]
        assert kernel.layer is not None
        core = spec.core or ZEN5
        count = estimate(scheduled(place, name), spec.tvm_target(), core).count
        taps = kernel.layer.kernel**2 * kernel.layer.in_channels // kernel.layer.groups
        vectors = -(-kernel.layer.out_channels // spec.vector_width)
        wanted = kernel.layer.out_size**2 * vectors * taps
        assert count.units["fma"] == pytest.approx(wanted, rel=0.01), kernel.layer.name


@pytest.mark.parametrize("name", ["x86-znver5", "x86-64-v3"])
def test_counts_every_dot_product_of_a_kernel_over_bytes(name: str) -> None:
    spec = target.resolve(name)
    v = spec.vector_width
    real = Convolution("conv2d", (64, 32), (6, 5), (v, v), panel=2)
    kernel = QuantizedConvolution(real, odd_kernels.AS_BYTE).func()
    mod = default_schedule(kernel, spec.tvm_target()).mod
    found = estimate(mod, spec.tvm_target(), spec.core or ZEN5)
    steps = 30 * (32 // v) * (64 // 4)
    epilogue = 30 * (32 // v)  # each with an FMA for the scale, and one for the quantization
    if name == "x86-znver5":
        assert found.count.units["fma"] == pytest.approx(steps + 2 * epilogue, rel=0.01)
    else:  # two pmaddwd, and what adds them
        assert found.count.units["vector"] > 4 * steps
    weights = 64 * 32 / 64  # lines
    assert incoming(nest_of(mod), 1 << 20, 64)["weight"] == weights


def test_a_cache_that_holds_the_weights_reads_them_once() -> None:
    nest = nest_of(scheduled(-3, "arm-rpi4"))  # 4x4x256 → 256: 256 KB of weights
    lines = 256 * 256 * 4 // 64
    assert incoming(nest, 4 << 20, 64)["weight"] == pytest.approx(lines)
    assert incoming(nest, 1 << 10, 64)["weight"] >= lines


def test_more_bytes_and_slower_memory_cost_more() -> None:
    spec = target.resolve("arm-rpi4")
    mod = scheduled(-3, "arm-rpi4")
    assert spec.core is not None
    slow = replace(spec.core, memory_bandwidth=1)
    usual, dear, warm = (
        estimate(mod, spec.tvm_target(), core, cold=cold).seconds
        for core, cold in ((spec.core, True), (slow, True), (spec.core, False))
    )
    assert warm <= usual < dear
