"""The x86 rules: right numbers at every decision, the code that is meant, and no spills.

Right numbers are asked of a sixth of the kernels of odd shape, some of each kind, at their default
decision and at a random one, in vectors of AVX-512 or of AVX2: which of them changes with --seed.
Of the kernels of the 16 MobileNets every run takes another share at either (--seed chooses it),
since all of them would take minutes; the networks as they are, at their default decisions, are
compiled by tests/compiler/test_variants.py.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest
import tvm
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from support import network_kernels, odd_kernels, tile_cases
from support.bf16_cases import Bf16Convolution, Bf16Dense
from support.blocked_cases import BlockedPooling, Channels, Elementwise
from support.kernel_cases import Case, Convolution, Dense, Packing
from support.network_kernels import Workload
from support.quantized_cases import QuantizedConvolution
from tvm import tirx

from schedules import RULES
from schedules.cpu.sharing import EVEN
from tvm_mobilenet.compiler.cpu.lowering import lower
from tvm_mobilenet.core_model import loops
from tvm_mobilenet.hardware import target
from tvm_mobilenet.hardware.target import TargetSpec
from tvm_mobilenet.kernels.cpu.expressions import SELF, silu
from tvm_mobilenet.kernels.cpu.layout import Blocked
from tvm_mobilenet.models import config_from
from tvm_mobilenet.scheduling.balance import imbalance
from tvm_mobilenet.scheduling.rules import SCHEDULE_RULE, default_schedule, rule_of
from tvm_mobilenet.scheduling.space import (
    Candidate,
    KernelSpace,
    Knob,
    TooManyStatements,
    Unbalanced,
)
from tvm_mobilenet.scheduling.traces import Option

AVX512, AVX2 = "x86-skylake-avx512", "x86-64-v3"
VNNI = ("x86-znver4", "x86-icelake")
BF16 = "x86-znver4"
WIDTHS = {"avx512": AVX512, "avx2": AVX2}
TARGETS = [pytest.param(name, marks=pytest.mark.isa(isa), id=isa) for isa, name in WIDTHS.items()]
KERNELS = network_kernels.distinct()
# the widest network, and one whose channels are no multiples of 16 and sizes no multiples of 7
FOR_AVX2 = network_kernels.distinct(
    (config_from("mobilenet_v1", 1.0, 224), config_from("mobilenet_v1", 0.75, 160))
)
# every Strassen product of the 16 networks, and what makes its operands
FAST_PRODUCTS = network_kernels.fast_products(16)
ODD = [
    *odd_kernels.CASES,
    *odd_kernels.FAST_PRODUCTS,
    *odd_kernels.OVERLAPPING,
    *odd_kernels.RUNS,
    *odd_kernels.IN_BF16,  # by float32 arithmetic, which these targets have in its place
]
SHARES = 60  # a run takes one in so many kernels of the networks, at its default and at random
ODD_SHARES = 6  # and one in so many kernels of odd shape, at both


@cache
def spec_of(name: str) -> TargetSpec:
    return target.resolve(name)


def by_default(func: tirx.PrimFunc, spec: TargetSpec) -> tvm.IRModule:
    plain = func.with_attr("global_symbol", "main")
    return default_schedule(plain, spec.tvm_target()).mod


def compiled(mod: tvm.IRModule, spec: TargetSpec) -> tvm.runtime.Function:
    return lower(mod, spec.tvm_target())["main"]


def random_point(space: KernelSpace, rng: np.random.Generator) -> Candidate:
    """A point drawn evenly from those that are not refused for their size or balance."""

    def choose(_: int, knob: Knob) -> Option:
        return knob.options[rng.integers(len(knob.options))]

    for _ in range(100):
        try:
            return space.instantiate(choose)
        except (TooManyStatements, Unbalanced):
            continue  # RuleFailed passes: the search space should hold nothing that fails
    return space.default


# Numerics


@pytest.mark.isa("avx512")
def test_default_decision_of_strassen(case: Convolution, rng: np.random.Generator) -> None:
    spec = spec_of(AVX512)
    case.check(compiled(by_default(case.func(), spec), spec), rng)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    first = metafunc.config.option.seed % SHARES
    if metafunc.function is test_default_decision_of_strassen:
        metafunc.parametrize("case", FAST_PRODUCTS[first::SHARES], ids=lambda case: case.id)
    if metafunc.function is test_kernels_of_the_networks:
        share = [("avx512", AVX512, one) for one in KERNELS[first::SHARES]]
        share += [("avx2", AVX2, one) for one in FOR_AVX2[first::SHARES]]
        params = [
            pytest.param(name, one, marks=pytest.mark.isa(isa), id=f"{one.id}-{isa}")
            for isa, name, one in share
        ]
        metafunc.parametrize(("name", "workload"), params)
    if metafunc.function is test_odd_shapes:
        odd = [
            pytest.param(name, case, marks=pytest.mark.isa(isa), id=f"{case.id}-{isa}")
            for case, (isa, name) in zip(
                odd_kernels.share(ODD, metafunc.config.option.seed, ODD_SHARES),
                alternately(metafunc.config.option.seed // ODD_SHARES),
                strict=False,
            )
        ]
        metafunc.parametrize(("name", "case"), odd)


def alternately(seed: int) -> Iterator[tuple[str, str]]:
    """Instruction sets and their targets, in turn without end."""
    return itertools.islice(itertools.cycle(WIDTHS.items()), seed % len(WIDTHS), None)


def test_kernels_of_the_networks(name: str, workload: Workload, rng: np.random.Generator) -> None:
    spec = spec_of(name)
    kernel = network_kernels.kernel(workload, spec.vector_width)
    kernel.check(compiled(by_default(kernel.func, spec), spec), rng)
    candidate = random_point(KernelSpace(kernel.func, spec.tvm_target()), rng)
    print(f"decision: {candidate.point}")
    kernel.check(compiled(candidate.schedule.mod, spec), rng)


def test_odd_shapes(name: str, case: Case, rng: np.random.Generator) -> None:
    check_decisions(case, spec_of(name), rng)


@pytest.mark.isa("avx512_bf16")
@pytest.mark.parametrize("case", odd_kernels.IN_BF16[::2], ids=lambda case: case.id)
def test_odd_shapes_by_instructions_for_bf16(case: Case, rng: np.random.Generator) -> None:
    check_decisions(case, spec_of(BF16), rng)


@pytest.mark.parametrize("name", TARGETS)
# the shapes are small as they are; making them smaller would take minutes of compiling
@settings(max_examples=6, phases=[Phase.reuse, Phase.generate])
@given(case=odd_kernels.convolutions(overlapping=True), seed=st.integers(0, 2**32 - 1))
def test_any_convolution(case: Convolution, name: str, seed: int) -> None:
    check_decisions(case, spec_of(name), np.random.default_rng(seed))


def check_decisions(case: Case, spec: TargetSpec, rng: np.random.Generator) -> None:
    """The rule's default for the case, and a random decision."""
    case.check(compiled(by_default(case.func(), spec), spec), rng)
    space = KernelSpace(case.func(), spec.tvm_target())
    if space.size > 1:
        candidate = random_point(space, rng)
        print(f"decision: {candidate.point}")
        case.check(compiled(candidate.schedule.mod, spec), rng)


@pytest.mark.parametrize("name", [AVX512, AVX2])
def test_the_search_starts_at_the_default(name: str) -> None:
    spec = spec_of(name)
    for workload in network_kernels.distinct((config_from("mobilenet_v1"),)):
        func = network_kernels.kernel(workload, spec.vector_width).func
        space = KernelSpace(func, spec.tvm_target())
        assert without_rule(space.default.schedule.mod) == without_rule(by_default(func, spec))
        assert space.size > 1, f"{workload.id}: nothing to tune"


def test_default_decisions_keep_two_cores_busy() -> None:
    spec = spec_of(AVX512).with_cores(2)
    funcs = {one.id: network_kernels.kernel(one, spec.vector_width).func for one in KERNELS}
    funcs |= {case.id: case.func() for case in FAST_PRODUCTS}
    found = {name: imbalance(by_default(func, spec), 2) for name, func in funcs.items()}
    assert {name: one for name, one in found.items() if one > EVEN} == {}


def test_points_that_leave_a_core_idle_are_refused() -> None:
    """Timed on one core they may win, and then take as long on two."""
    spec = spec_of(AVX512).with_cores(2)
    func = next(case.func() for case in FAST_PRODUCTS if case.kind == "strassen")
    space = KernelSpace(func, spec.tvm_target())
    point: tuple[Any, ...] = space.default.point
    (o0, o1, oi), (h0, h1, hi), *others = point
    in_one_piece = [(1, o0 * o1, oi), (1, h0 * h1, hi), *others]
    with pytest.raises(Unbalanced, match=r"busiest of 2 cores has 2\.00 times an even part"):
        space.at(in_one_piece)
    alone = KernelSpace(func, spec.with_cores(1).tvm_target())
    assert alone.at(in_one_piece).point == tuple(in_one_piece)


def without_rule(mod: tvm.IRModule) -> list[str]:
    """The script but for the annotation, which MetaSchedule leaves where it was."""
    script: str = mod.script()
    return [line for line in script.splitlines() if SCHEDULE_RULE not in line]


# Structure


DOUBLE_ROW = Convolution("operands", (512, 512), (14, 14), kernel=(3, 3), padding=(1, 1, 1, 1))
PRODUCT = Convolution("strassen", (512, 512), (14, 14), halo=odd_kernels.RING, panel=2)
WINOGRAD_PRODUCT = Convolution(
    "winograd", (64, 64), (28, 28), kernel=(3, 3), padding=(1, 1, 1, 1), halo=odd_kernels.RING
)


OF_TILES = Convolution("conv2d", (512, 512), (14, 14), halo=odd_kernels.RING)


def in_bf16(kind: str) -> Case:
    """A kernel of 1.0-224 in bfloat16, its result stored as that."""
    if kind == "dense":
        return Bf16Dense(Dense((1024, 1000), 64, 8, 16))
    one = odd_kernels.over_bytes(kind)
    assert isinstance(one, QuantizedConvolution)
    return Bf16Convolution(one.real, SELF)


GOLDEN: dict[str, Case] = {
    "bf16_conv2d": in_bf16("conv2d"),
    "bf16_dense": in_bf16("dense"),
    "bf16_depthwise_conv2d": in_bf16("depthwise"),
    "bf16_stem_conv2d": in_bf16("stem"),
    "conv2d": Convolution("conv2d", (32, 64), (28, 28), (16, 16), (3, 3), (1, 1), (1, 1, 1, 1)),
    "depthwise_operands": DOUBLE_ROW,
    "blocked_avg_pool2d": BlockedPooling(Blocked(1, 64, 14, 14, 16, odd_kernels.RING)),
    "elementwise": Elementwise(Blocked(1, 64, 14, 14, 16), silu(SELF), halo=odd_kernels.RING),
    "move_channels": Channels((Blocked(1, 2, 14, 14, 16),), ((0, 1), (0, 0)), 16),
    "layout": Packing(Blocked(1, 64, 14, 14, 16, odd_kernels.RING)),
    "quantized_conv2d": odd_kernels.over_bytes("conv2d"),
    "quantized_dense": odd_kernels.over_bytes("dense"),
    "quantized_depthwise_conv2d": odd_kernels.over_bytes("depthwise"),
    "quantized_stem_conv2d": odd_kernels.over_bytes("stem"),
    "strassen_conv2d": PRODUCT,
    "tiles_conv2d_bfloat16": tile_cases.Bf16Tiles(OF_TILES, SELF),
    "tiles_conv2d_uint8": tile_cases.ByteTiles(OF_TILES),
    "winograd_conv2d": WINOGRAD_PRODUCT,
    "winograd_operands": dataclasses.replace(WINOGRAD_PRODUCT, kind="windows"),
}
# kernels of 1.0-224
GOLDEN_OF_NETWORK = {
    "dense": "dense-1024_1000",
    "depthwise_conv2d": "depthwise-14x14x512",
    "global_avg_pool2d": "pool-7x7x1024",
    "pointwise_conv2d": "pointwise-14x14x512_512-halo",
    "stem_conv2d": "stem-112x112x3_32-s2-halo",
}


def test_a_golden_file_for_every_rule() -> None:
    assert sorted([*GOLDEN, *GOLDEN_OF_NETWORK]) == sorted(RULES["x86"])


@pytest.mark.parametrize("rule", sorted([*GOLDEN, *GOLDEN_OF_NETWORK]))
def test_structure(rule: str, golden: Callable[[str, str], None]) -> None:
    spec = spec_of(VNNI[0] if rule.startswith(("quantized", "bf16")) else AVX512)
    if rule.startswith("tiles"):
        spec = spec_of(tile_cases.NAME)
    if rule in GOLDEN:
        func = GOLDEN[rule].func()
    else:
        func = kernel_of_largest(GOLDEN_OF_NETWORK[rule], spec)
    assert rule_of(func) == rule
    golden(f"schedules/x86/{rule}.tvmscript", by_default(func, spec).script() + "\n")


def kernel_of_largest(name: str, spec: TargetSpec) -> tirx.PrimFunc:
    """The kernel of 1.0-224 that has this name."""
    (workload,) = (
        one for one in network_kernels.distinct((config_from("mobilenet_v1"),)) if one.id == name
    )
    return network_kernels.kernel(workload, spec.vector_width).func


# Assembly: cross-compiled, so no target has to be at hand


SHUFFLE = re.compile(r"^(?:vperm|vpshufb)")  # what transposes bytes
HOT = [
    "stem-112x112x3_32-s2-halo",
    "depthwise-112x112x32",
    "depthwise-56x56x64-s2",
    "depthwise-14x14x512",
    "depthwise-7x7x512-s2",
    "depthwise-7x7x1024",
    "pointwise-112x112x32_64-halo",
    "pointwise-28x28x256_256-halo",
    "pointwise-14x14x512_512-halo",
    "pointwise-7x7x1024_1024",
    "dense-1024_1000",
]


@pytest.mark.parametrize(
    ("name", "register"),
    [("x86-64-v3", "ymm"), ("x86-skylake-avx512", "zmm"), ("x86-znver4", "zmm")],
    ids=["haswell", "skylake-avx512", "znver4"],
)
@pytest.mark.parametrize("kernel", [*HOT, "operands", "strassen", "winograd"])
def test_hot_loop(kernel: str, name: str, register: str) -> None:
    spec = spec_of(name)
    fast = [one for one in network_kernels.fast_products(spec.vector_width) if one.kind == kernel]
    if kernel == "winograd":
        fast = [dataclasses.replace(WINOGRAD_PRODUCT, vectors=2 * (spec.vector_width,))]
    func = fast[-1].func() if fast else kernel_of_largest(kernel, spec)
    library = lower(by_default(func, spec), spec.tvm_target())
    loop = loops.hot_loop(library.inspect_source("asm"), "x86_64")
    fmas = loop.fmas_into(register)
    assert fmas >= 8, "as many as hide the latency of one"
    assert fmas == loop.fmas, "all of them as wide as the target's vectors"
    # the others are loads, broadcasts and the loop's own: at best one for each FMA
    assert fmas >= len(loop.instructions) / 4
    if kernel != "operands":  # whose tile is left in a scratch on the stack
        assert loop.stack_accesses == []
    assert loop.calls == []
    assert loop.branches == []


def test_dot_products_of_avx_vnni() -> None:
    """In 256 bits, on CPUs without AVX-512."""
    plain = spec_of(AVX2)
    spec = dataclasses.replace(plain, target={**plain.target, "mcpu": "alderlake"})
    library = lower(by_default(odd_kernels.over_bytes("dense", 8).func(), spec), spec.tvm_target())
    loop = loops.hot_loop(library.inspect_source("asm"), "x86_64")
    assert loop.dot_products_into("ymm") == {"vpdpbusd": loop.dot_products}
    assert loop.dot_products >= 0.7 * len(loop.instructions)
    assert loop.stack_accesses == loop.calls == []


@pytest.mark.parametrize("kind", ["conv2d", "depthwise", "depthwise-s2", "stem", "dense"])
def test_hot_loop_in_bf16(kind: str) -> None:
    spec = spec_of(BF16)
    library = lower(by_default(in_bf16(kind).func(), spec), spec.tvm_target())
    loop = loops.hot_loop(library.inspect_source("asm"), "x86_64")
    assert loop.dot_products_into("zmm") == {"vdpbf16ps": loop.dot_products}
    assert loop.dot_products >= 8
    assert loop.calls == loop.branches == []
    # of a classifier, and of a first convolution, what it rounded lies there
    stack = [line for line in loop.stack_accesses if "vbroadcastss" not in line]
    assert (stack if kind in ("dense", "stem") else loop.stack_accesses) == []
    if kind.startswith("depthwise"):
        # what puts two pixels side by side serves several dot products
        shuffles = [line.split()[0] for line in loop.instructions if SHUFFLE.match(line)]
        assert set(shuffles) == {"vpermw"}
        assert len(shuffles) < loop.dot_products
    else:
        # the others are loads, broadcasts and the loop's own
        assert loop.dot_products >= 0.4 * len(loop.instructions)


@pytest.mark.parametrize("name", [*VNNI, AVX512, AVX2])
@pytest.mark.parametrize("kind", ["conv2d", "depthwise", "depthwise-s2", "stem", "dense"])
def test_hot_loop_over_bytes(kind: str, name: str) -> None:
    spec = spec_of(name)
    lanes = spec.vector_width
    kernel = odd_kernels.over_bytes(kind, lanes).func()
    library = lower(by_default(kernel, spec), spec.tvm_target())
    loop = loops.hot_loop(library.inspect_source("asm"), "x86_64")
    found = loop.dot_products_into("zmm" if lanes == 16 else "ymm")
    (instruction,) = found
    assert instruction == ("vpdpbusd" if name in VNNI else "vpmaddwd")
    assert found[instruction] == loop.dot_products >= 8, "all of them as wide as vectors are"
    assert loop.calls == loop.branches == []
    if kind.startswith("depthwise"):
        # what transposes four pixels serves several dot products
        shuffles = [line.split()[0] for line in loop.instructions if SHUFFLE.match(line)]
        assert set(shuffles) == ({"vpermb"} if name in VNNI else {"vpermd", "vpshufb"})
        if name in VNNI:
            assert len(shuffles) < loop.dot_products
    if name in VNNI:
        assert loop.stack_accesses == []
        if kind in ("conv2d", "dense"):
            # a broadcast serves two or more of them
            assert loop.dot_products >= 0.45 * len(loop.instructions)
