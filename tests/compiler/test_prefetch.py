"""Each step's share of the next panel: together all of it, once, and nothing far beyond it."""

from __future__ import annotations

import itertools

import pytest
import tvm
import tvm_ffi
from support.kernel_cases import Convolution
from tvm import s_tir, tirx
from tvm.ir import Call, Expr, Var
from tvm.sym import Analyzer
from tvm.target import Target

from schedules.filter_window import Window
from schedules.primitives import ROWS
from tvm_mobilenet.compiler.cpu import lowering
from tvm_mobilenet.compiler.cpu.prefetch import PREFETCH, insert_prefetches
from tvm_mobilenet.hardware import target
from tvm_mobilenet.kernels.cpu.bfloat16 import bf16_conv2d
from tvm_mobilenet.kernels.cpu.conv2d import Activation, conv2d
from tvm_mobilenet.kernels.cpu.layout import BF16, Blocked
from tvm_mobilenet.kernels.cpu.strassen import PRODUCTS
from tvm_mobilenet.scheduling.rules import default_schedule

LINE = 16  # floats
LINE_OF_HALVES = 32  # numbers in bfloat16

FLAT_PASSES = lowering.CPU_PASSES[: lowering.CPU_PASSES.index(insert_prefetches)]


def scheduled(channels: int, size: int, blocks: int, panel: int, cores: int = 1) -> tvm.IRModule:
    """A pointwise kernel whose weights outweigh its image, scheduled by default for AVX-512."""
    x = Blocked(1, channels, size, size, 16)
    out = Blocked(1, blocks * 16, size, size, 16)
    func = conv2d(x, out, Window(), Activation(), panel).with_attr("global_symbol", "main")
    return default_schedule(func, avx512(cores)).mod


def scheduled_in_bf16(channels: int, size: int, blocks: int, panel: int) -> tvm.IRModule:
    """As ``scheduled``; what it multiplies are vectors of pairs."""
    x = Blocked(1, channels, size, size, 16, dtype=BF16)
    out = Blocked(1, blocks * 16, size, size, 16)
    func = bf16_conv2d(x, out, Window(), Activation(), panel).with_attr("global_symbol", "main")
    return default_schedule(func, target.resolve("x86-znver4").with_cores(1).tvm_target()).mod


def avx512(cores: int) -> Target:
    return target.resolve("x86-skylake-avx512").with_cores(cores).tvm_target()


def hints_and_loops(mod: tvm.IRModule, cores: int = 1) -> tuple[list[Expr], list[tirx.For]]:
    """The indices of all prefetched elements, and all loops around them, outermost first."""
    bound = tvm.tirx.transform.BindTarget(avx512(cores))
    flat = tvm.transform.Sequential([bound, *FLAT_PASSES, insert_prefetches])(mod)["main"]
    indices: list[Expr] = []
    loops: list[tirx.For] = []

    def visit(loop: tirx.For, mutator: tvm_ffi.StructuralMutator) -> tirx.For:
        before = len(indices)
        mutated: tirx.For = mutator.default_mutate(loop)
        if len(indices) > before:
            loops.insert(0, loop)
        return mutated

    def call(value: Call, mutator: tvm_ffi.StructuralMutator) -> Call:
        if getattr(value.op, "name", "") == "tirx.address_of":
            indices.append(value.args[0].indices[0])
        mutated: Call = mutator.default_mutate(value)
        return mutated

    tvm_ffi.structural_mutate(flat.body, ((tirx.For, visit), (Call, call)))
    return indices, loops


def lines_asked(
    indices: list[Expr], loops: list[tirx.For], iterations: range, line: int = LINE
) -> set[int]:
    """The cache lines that some iterations of the outermost of the loops ask for."""
    outermost, *inner = loops
    asked: set[int] = set()
    for values in itertools.product(iterations, *(range(int(loop.extent)) for loop in inner)):
        at = {loop.loop_var: v for loop, v in zip([outermost, *inner], values, strict=True)}
        asked |= {evaluate(index, at) // line for index in indices}
    return asked


@pytest.mark.parametrize("cores", [1, 2])
@pytest.mark.parametrize(
    ("channels", "size", "blocks", "panel"),
    [(32, 4, 8, 2), (16, 2, 8, 2), (48, 3, 6, 3), (24, 5, 6, 1)],
    ids=lambda value: str(value),
)
def test_steps_of_a_panel_cover_the_next(
    channels: int, size: int, blocks: int, panel: int, cores: int
) -> None:
    """Whichever rows of it a core has."""
    indices, loops = hints_and_loops(scheduled(channels, size, blocks, panel, cores), cores)
    assert indices
    rows = int(loops[0].annotations[ROWS])
    elements = channels * blocks * 16 * rows // int(loops[0].extent)
    following = set(range(elements // LINE, 2 * elements // LINE))
    share = -(-rows // cores)
    for first in range(rows - share + 1):
        asked = lines_asked(indices, loops, range(first, first + share))
        assert following <= asked
        assert max(asked) < max(following) + len(following) + len(indices), "not far beyond it"


@pytest.mark.parametrize(
    ("channels", "size", "blocks", "panel"), [(32, 4, 8, 2), (48, 3, 6, 3)], ids=lambda v: str(v)
)
def test_steps_over_vectors_of_pairs_cover_the_next(
    channels: int, size: int, blocks: int, panel: int
) -> None:
    indices, loops = hints_and_loops(scheduled_in_bf16(channels, size, blocks, panel))
    rows = int(loops[0].annotations[ROWS])
    lines = channels * blocks * 16 * rows // int(loops[0].extent) // LINE_OF_HALVES
    asked = lines_asked(indices, loops, range(rows), LINE_OF_HALVES)
    assert set(range(lines, 2 * lines)) <= asked
    assert max(asked) < 3 * lines + len(indices), "not far beyond it"


def evaluate(index: Expr, values: dict[Var, int]) -> int:
    def value(var: Var) -> Expr:
        found = next((v for known, v in values.items() if known.same_as(var)), None)
        return var if found is None else tirx.IntImm("int32", found)

    return int(Analyzer().simplify(tvm_ffi.structural_map(index, (Var, value))))


def test_only_marked_loops_prefetch() -> None:
    mod = scheduled(32, 4, 8, 2)
    x86 = target.resolve("x86-skylake-avx512").tvm_target()
    assert "prefetch" in lowering.lower(mod, x86).inspect_source("asm")

    def unmark(loop: tirx.For) -> tirx.For:
        kept = {k: v for k, v in loop.annotations.items() if k != PREFETCH}
        return tirx.For(loop.loop_var, loop.min, loop.extent, loop.kind, loop.body, None, kept)

    func = mod["main"]
    plain = func.with_body(tvm_ffi.structural_map(func.body, (tirx.For, unmark)))
    assert "prefetch" not in lowering.lower(tvm.IRModule({"main": plain}), x86).inspect_source(
        "asm"
    )


def test_a_large_image_is_not_worth_it() -> None:
    """Where the image outweighs the weights, they stay in the cache by themselves."""
    func = conv2d(
        Blocked(1, 16, 56, 56, 16), Blocked(1, 32, 56, 56, 16), Window(), Activation(), 2
    ).with_attr("global_symbol", "main")
    x86 = target.resolve("x86-skylake-avx512").tvm_target()
    assert PREFETCH not in s_tir.Schedule(default_schedule(func, x86).mod).mod.script()


@pytest.mark.parametrize("cores", [1, 2, 4])
def test_reductions_in_turn_share_one_panel(cores: int) -> None:
    """The seven products of a tile read one panel together, and each step asks for its share."""
    case = Convolution("strassen", (64, 128), (8, 4), panel=2)
    func = case.func().with_attr("global_symbol", "main")
    mod = default_schedule(func, avx512(cores)).mod
    indices, loops = hints_and_loops(mod, cores)
    rows = int(loops[0].annotations[ROWS])
    panels = int(loops[0].extent) // rows
    elements = PRODUCTS * (64 // 2) * (128 // 2) // panels
    asked = lines_asked(indices, loops, range(-(-rows // cores)))
    assert set(range(elements // LINE, 2 * elements // LINE)) <= asked


def test_tiles_of_a_band_cover_the_next_one() -> None:
    """The rows that the next band of the stem copies, of all three colours."""
    case = Convolution(
        "stem", (3, 16), (32, 48), kernel=(3, 3), stride=(2, 2), padding=(1, 1, 1, 1)
    )
    func = case.func().with_attr("global_symbol", "main")
    indices, loops = hints_and_loops(default_schedule(func, avx512(1)).mod)
    rows = 2 * 16 // int(loops[0].extent)  # of the image, for each band
    asked = lines_asked(indices, loops, range(1))
    for colour in range(3):
        # from the padding's row above the band to its last one
        first, last = (colour * 32 + rows - 1) * 48, (colour * 32 + 2 * rows) * 48
        assert set(range(first // LINE, last // LINE)) <= asked
