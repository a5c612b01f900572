"""The ARM rules: right numbers at every decision, by-element FMAs in the hot loops, no spills.

Numbers are asked of the same schedules compiled for this machine, whose LLVM lowers vectors of four
floats as well; that aarch64 code computes the same is asked on the emulated device
(tests/emulation/test_arm_emulator.py).
"""

from __future__ import annotations

import platform
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import tvm
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from support import network_kernels, odd_kernels
from support.bf16_cases import Bf16Convolution, Bf16Dense
from support.blocked_cases import BlockedPooling, Channels, Elementwise
from support.fp16_cases import HalfConvolution, HalfDense
from support.kernel_cases import RELU, Case, Convolution, Dense, Packing, Separable
from support.network_kernels import Workload
from tvm import tirx
from tvm.target import Target

from schedules import RULES
from schedules.arm_cpu import cores
from schedules.facts import FACTS
from tvm_mobilenet.compiler.cpu.lowering import lower
from tvm_mobilenet.compiler.graph.legalize_float import FUSED, STRASSEN, WINOGRAD
from tvm_mobilenet.core_model import loops
from tvm_mobilenet.core_model.loops import Loop
from tvm_mobilenet.hardware import target
from tvm_mobilenet.kernels.cpu.expressions import SELF, silu
from tvm_mobilenet.kernels.cpu.layout import Blocked
from tvm_mobilenet.models import config_from
from tvm_mobilenet.scheduling.rules import default_schedule, rule_of
from tvm_mobilenet.scheduling.space import (
    Candidate,
    KernelSpace,
    Knob,
    TooManyStatements,
    Unbalanced,
)
from tvm_mobilenet.scheduling.traces import Option

VECTOR_WIDTH = 4
HOST = {
    "kind": "llvm",
    "keys": ["arm_cpu", "cpu"],
    "mtriple": f"{platform.machine()}-linux-gnu",
    "num-cores": 4,
    FACTS: dict(target.resolve("arm-rpi4").facts),
}
if platform.machine() == "x86_64":
    HOST["mattr"] = ["+f16c"]  # where float16 is computed with, without calls for its conversion
KERNELS = network_kernels.distinct()
LARGEST = network_kernels.distinct((config_from("mobilenet_v1"),))
FUSED_BLOCKS = network_kernels.fused_blocks(VECTOR_WIDTH)
FUSED_OF_LARGEST = network_kernels.fused_blocks(VECTOR_WIDTH, (config_from("mobilenet_v1"),))
REAL = [case for case in odd_kernels.CASES if case not in odd_kernels.QUANTIZED]
ODD = [*REAL, *odd_kernels.SIGNED, *odd_kernels.SEPARABLE, *odd_kernels.OVERLAPPING]
SHARES = 60  # a run takes one in so many kernels, at its default and at a random decision
ODD_SHARES = 6  # one in so many kernels of odd shape, at both
FP16_SHARES = 6  # of those in float16
BF16_SHARES = 15  # of those in bfloat16, computed with float32's arithmetic here
BLOCK_SHARES = 12  # and one in so many blocks, at its default
# A53 and A72, the in-order and the small out-of-order core; A76 and N1, the larger ones
TARGETS = ("arm-rpi3", "arm-rpi4", "arm-rpi5", "arm-graviton2")


def by_default(func: tirx.PrimFunc, machine: Target) -> tvm.IRModule:
    return default_schedule(func.with_attr("global_symbol", "main"), machine).mod


def run_here(mod: tvm.IRModule) -> tvm.runtime.Function:
    return lower(mod, Target(HOST))["main"]


def random_point(space: KernelSpace, rng: np.random.Generator) -> Candidate:
    """A point drawn evenly from those that are not refused for their size."""

    def choose(_: int, knob: Knob) -> Option:
        return knob.options[rng.integers(len(knob.options))]

    for _ in range(100):
        try:
            return space.instantiate(choose)
        except (TooManyStatements, Unbalanced):
            continue  # RuleFailed passes: the search space should hold nothing that fails
    return space.default


# Numerics


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.function is test_kernels_of_the_networks:
        share = KERNELS[metafunc.config.option.seed % SHARES :: SHARES]
        metafunc.parametrize("workload", share, ids=lambda workload: workload.id)
    if metafunc.function is test_fused_blocks_of_the_networks:
        share_of_blocks = FUSED_BLOCKS[metafunc.config.option.seed % BLOCK_SHARES :: BLOCK_SHARES]
        metafunc.parametrize("case", share_of_blocks, ids=lambda case: case.id)
    if metafunc.function is test_odd_shapes:
        odd = odd_kernels.share(ODD, metafunc.config.option.seed, ODD_SHARES)
        metafunc.parametrize("case", odd, ids=lambda case: case.id)
    if metafunc.function is test_odd_shapes_in_fp16:
        odd = odd_kernels.share(odd_kernels.IN_FP16, metafunc.config.option.seed, FP16_SHARES)
        metafunc.parametrize("case", odd, ids=lambda case: case.id)
    if metafunc.function is test_odd_shapes_in_bf16:
        odd = odd_kernels.share(odd_kernels.IN_MATRICES, metafunc.config.option.seed, BF16_SHARES)
        metafunc.parametrize("case", odd, ids=lambda case: case.id)
    if metafunc.function in HOT:
        argument, some = HOT[metafunc.function]
        on_cores = on_two_cores(some, metafunc.config.option.seed)
        metafunc.parametrize(
            (argument, "machine"), on_cores, ids=lambda one: getattr(one, "id", one)
        )


def on_two_cores(kernels: Sequence[Any], seed: int) -> list[tuple[Any, str]]:
    """Each kernel with one of the smaller cores and one of the larger; which, takes turns."""
    return [
        (kernel, pair[place % 2])
        for place, kernel in enumerate(kernels, seed)
        for pair in (TARGETS[:2], TARGETS[2:])
    ]


def test_kernels_of_the_networks(workload: Workload, rng: np.random.Generator) -> None:
    kernel = network_kernels.kernel(workload, VECTOR_WIDTH)
    kernel.check(run_here(by_default(kernel.func, Target(HOST))), rng)
    candidate = random_point(KernelSpace(kernel.func, Target(HOST)), rng)
    print(f"decision: {candidate.point}")
    kernel.check(run_here(candidate.schedule.mod), rng)


def test_fused_blocks_of_the_networks(case: Case, rng: np.random.Generator) -> None:
    case.check(run_here(by_default(case.func(), Target(HOST))), rng)


def test_odd_shapes(case: Case, rng: np.random.Generator) -> None:
    check_decisions(case, rng)


def test_odd_shapes_in_bf16(case: Case, rng: np.random.Generator) -> None:
    check_decisions(case, rng)


@pytest.mark.isa("f16c")
def test_odd_shapes_in_fp16(case: Case, rng: np.random.Generator) -> None:
    check_decisions(case, rng)


# the shapes are small as they are; making them smaller would take minutes of compiling
@settings(max_examples=4, phases=[Phase.reuse, Phase.generate])
@given(case=odd_kernels.convolutions(overlapping=True), seed=st.integers(0, 2**32 - 1))
def test_any_convolution(case: Convolution, seed: int) -> None:
    check_decisions(case, np.random.default_rng(seed))


def test_runs_that_are_as_many_as_rows(rng: np.random.Generator) -> None:
    """One run of the one pixel that a tall window sees: its loop is no loop over rows."""
    tall = Convolution("conv2d", (9, 10), (3, 1), (4, 8), (4, 1), (3, 2), (1, 2, 0, 0))
    check_decisions(replace(tall, tile=odd_kernels.run_of(1, 1)), rng)


def check_decisions(case: Case, rng: np.random.Generator) -> None:
    """The rule's default for the case, and a random decision."""
    case.check(run_here(by_default(case.func(), Target(HOST))), rng)
    space = KernelSpace(case.func(), Target(HOST))
    if space.size > 1:
        candidate = random_point(space, rng)
        print(f"decision: {candidate.point}")
        case.check(run_here(candidate.schedule.mod), rng)


# Structure


FILTER = Convolution("depthwise", (128, 128), (56, 56), (4, 4), (3, 3), padding=(1, 1, 1, 1))
FIRST = Convolution("stem", (3, 32), (224, 224), (4, 4), (3, 3), (2, 2), (1, 1, 1, 1))
BLOCK = Separable(FILTER, 128, vector=4, halo=odd_kernels.RING, panel=2)
PRODUCT = Convolution("conv2d", (512, 512), (14, 14), (4, 4), activation=RELU, panel=4)
GOLDEN: dict[str, Case] = {
    "bf16_conv2d": Bf16Convolution(PRODUCT, SELF, depth=4),
    "bf16_dense": Bf16Dense(Dense((1024, 1000), 256, 8, 4)),
    "bf16_depthwise_conv2d": Bf16Convolution(replace(FILTER, activation=RELU), SELF),
    "bf16_stem_conv2d": Bf16Convolution(FIRST, SELF, depth=4),
    "conv2d": Convolution("conv2d", (32, 64), (28, 28), (4, 4), (3, 3), (1, 1), (1, 1, 1, 1)),
    "blocked_avg_pool2d": BlockedPooling(Blocked(1, 64, 14, 14, 4, odd_kernels.RING)),
    "elementwise": Elementwise(Blocked(1, 64, 14, 14, 4), silu(SELF), halo=odd_kernels.RING),
    "move_channels": Channels((Blocked(1, 2, 14, 14, 4),), ((0, 1), (0, 0)), 4),
    "half_dense": HalfDense(Dense((1024, 1000), 128, 8, 8)),
    "layout": Packing(Blocked(1, 64, 14, 14, 4, odd_kernels.RING)),
    "quantized_conv2d": odd_kernels.over_bytes("conv2d", dtype="int8"),
    "quantized_dense": odd_kernels.over_bytes("dense", dtype="int8"),
    "quantized_depthwise_conv2d": odd_kernels.over_bytes("depthwise", dtype="int8"),
    "quantized_stem_conv2d": odd_kernels.over_bytes("stem", dtype="int8"),
    "separable_conv2d": BLOCK,
}
# kernels of 1.0-224
GOLDEN_OF_NETWORK = {
    "dense": "dense-1024_1000",
    "depthwise_conv2d": "depthwise-14x14x512",
    "global_avg_pool2d": "pool-7x7x1024",
    "pointwise_conv2d": "pointwise-14x14x512_512-halo",
    "stem_conv2d": "stem-112x112x3_32-s2-halo",
}


def test_every_rule_of_x86_has_its_arm_one() -> None:
    only_x86 = STRASSEN | WINOGRAD | {rule for rule in RULES["x86"] if rule.startswith("tiles_")}
    assert set(RULES["arm_cpu"]) == set(RULES["x86"]) - only_x86 | {FUSED, "half_dense"}
    assert sorted([*GOLDEN, *GOLDEN_OF_NETWORK]) == sorted(RULES["arm_cpu"])


@pytest.mark.parametrize("rule", sorted([*GOLDEN, *GOLDEN_OF_NETWORK]))
def test_structure(rule: str, golden: Callable[[str, str], None]) -> None:
    known = GOLDEN.get(rule)
    func = known.func() if known else kernel_of_largest(GOLDEN_OF_NETWORK[rule])
    assert rule_of(func) == rule
    machine = target.resolve("arm-rpi4").tvm_target()
    golden(f"schedules/arm_cpu/{rule}.tvmscript", by_default(func, machine).script() + "\n")


def kernel_of_largest(name: str) -> tirx.PrimFunc:
    """The kernel of 1.0-224 that has this name."""
    (workload,) = (one for one in LARGEST if one.id == name)
    return network_kernels.kernel(workload, VECTOR_WIDTH).func


# Assembly: cross-compiled, so no board has to be at hand

POINTWISE = [one.id for one in LARGEST if one.id.startswith("pointwise")]
DEPTHWISE = [one.id for one in LARGEST if one.id.startswith("depthwise")]
# instructions per FMA that the hot loop may take: the rest are loads and the loop itself
POINTWISE_LIMIT = 1.18
LIMITS = {
    "stem-112x112x3_32-s2-halo": 1.25,
    "dense-1024_1000": 1.8,
}


@cache
def assembly_of(name: str, machine: str) -> str:
    spec = target.resolve(machine)
    mod = by_default(kernel_of_largest(name), spec.tvm_target())
    return str(lower(mod, spec.tvm_target()).inspect_source("asm"))


def hot_loop(name: str, machine: str) -> Loop:
    return loops.hot_loop(assembly_of(name, machine), "aarch64")


def test_pointwise_hot_loops(name: str, machine: str) -> None:
    loop = hot_loop(name, machine)
    assert loop.by_element_fmas == loop.fmas >= 64
    assert not loop.stack_accesses and not loop.calls
    assert not loop.scalar_loads, "activations come as vectors"
    assert loop.instructions_per_fma < POINTWISE_LIMIT


@pytest.mark.parametrize("machine", TARGETS)
@pytest.mark.parametrize("name", LIMITS)
def test_other_by_element_loops(name: str, machine: str) -> None:
    loop = hot_loop(name, machine)
    assert loop.by_element_fmas == loop.fmas
    assert not loop.stack_accesses and not loop.calls
    assert loop.instructions_per_fma < LIMITS[name]


# For an in-order core LLVM starts loads so early that up to this share of the instructions are
# spills; by llvm-mca's model the loops that spill nothing take longer.
DEPTHWISE_SPILLS = {"arm-rpi3": 0.05}


def test_depthwise_hot_loops(name: str, machine: str) -> None:
    loop = hot_loop(name, machine)
    assert loop.fmas % 9 == 0, "all taps of a tile, unrolled"
    assert not loop.calls and not loop.scalar_loads
    allowed = DEPTHWISE_SPILLS.get(machine, 0) * len(loop.instructions)
    assert len(loop.stack_accesses) <= allowed
    # nine FMAs an output, and what loading, starting and ending them takes
    assert loop.instructions_per_fma < 2.3


def in_fp16(case: Convolution) -> Case:
    return HalfConvolution(replace(case, vectors=(8, 8), activation=RELU))


# kernels of 1.0-224, and how many instructions an FMA of their hot loops may take
FP16_HOT: dict[str, tuple[Case, float]] = {
    "14x14x512": (in_fp16(Convolution("conv2d", (512, 512), (14, 14), panel=2)), POINTWISE_LIMIT),
    "7x7x1024": (in_fp16(Convolution("conv2d", (1024, 1024), (7, 7), panel=2)), POINTWISE_LIMIT),
    "stem": (
        in_fp16(Convolution("stem", (3, 32), (224, 224), (8, 8), (3, 3), (2, 2), (1, 1, 1, 1))),
        1.25,
    ),
    "depthwise": (
        in_fp16(replace(FILTER, channels=(512, 512), size=(14, 14))),
        2.3,
    ),
    "classifier": (HalfDense(Dense((1024, 1000), 128, 8, 8)), 1.65),
}
# what LLVM keeps on the stack for a core's scheduling model, as a share of the FMAs
FP16_SPILLS = {
    ("14x14x512", "arm-graviton2"): 0.01,
    ("7x7x1024", "arm-jetson-orin"): 0.05,
}
FP16_TARGETS = ("arm-rpi5", "arm-graviton2", "arm-graviton3", "arm-jetson-orin")


@pytest.mark.parametrize("kind", FP16_HOT)
def test_hot_loops_in_fp16(kind: str, pytestconfig: pytest.Config) -> None:
    """On one of the targets; which, takes turns."""
    case, limit = FP16_HOT[kind]
    spec = target.resolve(FP16_TARGETS[(pytestconfig.option.seed + len(kind)) % len(FP16_TARGETS)])
    mod = by_default(case.func(), spec.tvm_target())
    assembly = str(lower(mod, spec.tvm_target()).inspect_source("asm"))
    loop = loops.hot_loop(assembly, "aarch64")
    assert loop.fmas == len(loop.matching(re.compile(r"^fmla\s+v\d+\.8h"))) >= 64
    assert kind == "depthwise" or loop.by_element_fmas == loop.fmas
    spilled = FP16_SPILLS.get((kind, spec.name), 0.0)
    assert len(loop.stack_accesses) <= spilled * loop.fmas and not loop.calls, spec.name
    assert kind == "stem" or not loop.scalar_loads
    assert loop.instructions_per_fma < limit + spilled, spec.name


BF16_TARGET = "arm-graviton3"
# by the rule: the instruction of their hot loops, and how many instructions one of it may take
BF16_HOT = {
    "bf16_conv2d": ("bfmmla", 1.46),
    "bf16_dense": ("bfdot", 1.75),
    "bf16_depthwise_conv2d": ("bfdot", 2.5),
    "bf16_stem_conv2d": ("bfmmla", 2.55),
}


@pytest.mark.parametrize("rule", BF16_HOT)
def test_hot_loops_in_bf16(rule: str) -> None:
    instruction, limit = BF16_HOT[rule]
    machine = target.resolve(BF16_TARGET).tvm_target()
    assembly = str(lower(by_default(GOLDEN[rule].func(), machine), machine).inspect_source("asm"))
    loop = loops.hot_loop(assembly, "aarch64")
    assert loop.dot_products_into("v") == {instruction: loop.dot_products}
    assert loop.dot_products >= 24 and not loop.calls and not loop.stack_accesses
    assert len(loop.instructions) < limit * loop.dot_products


FUSED_SPILLS = {"arm-rpi3": 0.1}  # the same, where the outputs go into tiles


def test_hot_loops_of_a_fused_block(block: Separable, machine: str) -> None:
    spec = target.resolve(machine)
    mod = by_default(block.func(), spec.tvm_target())
    assembly = str(lower(mod, spec.tvm_target()).inspect_source("asm"))
    found = [one for one in loops.innermost_loops(assembly, "aarch64") if one.fmas >= 9]
    product = max(found, key=lambda one: one.by_element_fmas)
    assert product.by_element_fmas == product.fmas >= 64
    assert not product.stack_accesses and not product.calls and not product.scalar_loads
    assert product.instructions_per_fma < POINTWISE_LIMIT
    filters = [one for one in found if not one.by_element_fmas]
    assert filters
    for loop in filters:
        assert loop.fmas % 9 == 0 and not loop.calls and not loop.scalar_loads
        allowed = FUSED_SPILLS.get(machine, 0) * len(loop.instructions)
        assert len(loop.stack_accesses) <= allowed
        assert loop.instructions_per_fma < 2.4


# By name of the argument; a run takes each on two of the cores.
HOT: dict[Any, tuple[str, Sequence[Any]]] = {
    test_pointwise_hot_loops: ("name", POINTWISE),
    test_depthwise_hot_loops: ("name", DEPTHWISE),
    test_hot_loops_of_a_fused_block: ("block", FUSED_OF_LARGEST),
}


# instructions that multiply bytes, of those of a hot loop: at least this share
BYTE_LOOPS = {
    ("arm-rpi4", "conv2d", 16, 16): ("smull", 0.87),
    ("arm-rpi4", "depthwise", 16, 16): ("smull", 0.2),
    ("arm-rpi4", "stem", 16, 16): ("smlal", 0.6),
    ("arm-rpi5", "conv2d", 16, 4): ("sdot", 0.82),
    ("arm-graviton2", "dense", 16, 4): ("sdot", 0.5),
    ("arm-graviton2", "depthwise", 16, 4): ("sdot", 0.16),
    ("arm-graviton2", "depthwise-s2", 16, 4): ("sdot", 0.13),
    ("arm-graviton2", "stem", 16, 4): ("sdot", 0.4),
    ("arm-graviton3", "conv2d", 8, 8): ("smmla", 0.62),
    ("arm-graviton3", "depthwise", 8, 4): ("sdot", 0.17),
}


@pytest.mark.parametrize(("machine", "kind", "lanes", "depth"), BYTE_LOOPS)
def test_hot_loops_over_bytes(machine: str, kind: str, lanes: int, depth: int) -> None:
    spec = target.resolve(machine)
    case = odd_kernels.over_bytes(kind, lanes, "int8", depth, offset=-128)
    mod = by_default(case.func(), spec.tvm_target())
    loop = loops.hot_loop(lower(mod, spec.tvm_target()).inspect_source("asm"), "aarch64")
    instruction, share = BYTE_LOOPS[machine, kind, lanes, depth]
    found = loop.dot_products_into("v")
    assert found[instruction] >= 8
    assert loop.dot_products >= share * len(loop.instructions)
    if instruction == "sdot" and kind in ("conv2d", "dense"):
        assert not loop.matching(SPREAD), "activations come as vectors, by lane"
    assert not loop.calls and not loop.branches
    spills = [line for line in loop.stack_accesses if line.startswith("st")]
    assert not (spills if (machine, kind) in TAPS_ON_STACK else loop.stack_accesses)


PRODUCTS, ADDITIONS = re.compile(r"^sm(?:ull|lal)2?\b"), re.compile(r"^sadalp\b")


@pytest.mark.parametrize(("together", "table"), [(2, False), (4, False), (2, True)])
def test_steps_share_an_addition(together: int, *, table: bool) -> None:
    spec = target.resolve("arm-rpi4")
    case = odd_kernels.over_bytes(
        "conv2d", 16, "int8", 16, offset=-128, together=together, table=table
    )
    assembly = lower(by_default(case.func(), spec.tvm_target()), spec.tvm_target())
    found = [
        (len(one.matching(PRODUCTS)), len(one.matching(ADDITIONS)), one)
        for one in loops.innermost_loops(assembly.inspect_source("asm"), "aarch64")
    ]
    products, additions, loop = max(found[::-1], key=lambda one: one[0] / max(one[1], 1))
    assert products == 2 * together * additions >= 64
    assert products + additions >= (0.79 if table else 0.83) * len(loop.instructions)
    assert not loop.stack_accesses


SPREAD = re.compile(r"^(?:dup|ld1r)\b")
# LLVM copies taps that find no register to the stack, once for a row, and loads them from there
TAPS_ON_STACK = {("arm-rpi4", "stem"), ("arm-graviton2", "stem")}


@pytest.mark.parametrize("machine", TARGETS)
def test_pooling_hot_loop(machine: str) -> None:
    assembly = assembly_of("pool-7x7x1024", machine)
    loop = max(loops.innermost_loops(assembly, "aarch64"), key=lambda one: one.vector_adds)
    assert loop.vector_adds >= 7 and not loop.stack_accesses and not loop.calls
    assert not loop.scalar_loads
    # an addition takes its input from memory
    assert len(loop.instructions) < 2.5 * loop.vector_adds


# The model


ARM = [name for name in target.known() if name.startswith("arm-")]


def core_of(name: str) -> cores.Core:
    return cores.core_of(target.resolve(name).tvm_target())


@pytest.mark.parametrize("name", ARM)
def test_the_core_is_what_its_target_says(name: str) -> None:
    spec, core = target.resolve(name), core_of(name)
    assert {fact: getattr(core, fact) for fact in cores.FACTS} == {
        fact: spec.facts[fact] for fact in cores.FACTS
    }
    assert core.registers == (16 if spec.target["mtriple"].startswith("armv7") else 32)


def test_a_target_without_facts_has_no_core() -> None:
    with pytest.raises(ValueError, match=r"does not say fmas, .*l2_bytes, in its feature\.facts"):
        cores.core_of(Target({"kind": "llvm", "keys": ["arm_cpu", "cpu"]}))


@pytest.mark.parametrize("name", ARM)
def test_tiles_fit_the_registers(name: str) -> None:
    core = core_of(name)
    for panel in (1, 2, 3):
        sizes = [1, 2, 3, 4, 6, 7, 8, 14]
        rows, columns, vectors = cores.best_gemm_tile(core, sizes, sizes, sizes, panel)
        pixels = rows * columns
        assert pixels * vectors + pixels + vectors < core.registers
        if core.registers == 32:
            assert pixels * vectors >= core.fmas * core.fma_latency


def test_the_tiles_of_a_72() -> None:
    core = core_of("arm-rpi4")
    assert cores.best_gemm_tile(core, [1, 2, 4], [1, 2, 4, 7, 8], [1, 2, 4, 8], 2) == (1, 8, 2)
    assert cores.best_gemm_tile(core, [1], [1, 7], [1, 2, 4, 8], 2) == (1, 7, 2)
