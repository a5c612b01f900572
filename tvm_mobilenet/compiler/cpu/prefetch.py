"""Prefetch of what the next tiles read, while the arithmetic of this one goes on.

*Weights, one panel ahead.* A network's weights outgrow the caches of a core, so each inference
reads them from afar; between two inferences other work has the shared cache. A schedule marks the
reduction loop whose weights are worth it with ``prefetch: <buffer>``. Each of its steps then asks
for its share of the next panel, spread evenly over all the tiles of one core that use this panel,
so that the memory works while the arithmetic does. Where a panel's weights are read by several
reductions in turn, the loop over those is marked ``prefetch_within: <buffer>``. The last panel's
steps ask for what follows the buffer: the parameters lie in order of use, so that is the next
layer's.

*The image, one band ahead.* A tile loop marked ``prefetch_next_band: <buffer>`` asks, tile by tile,
for what the next iteration of the parallel loop around it copies from that buffer.

A prefetch of an address that is not mapped does nothing.
"""

from __future__ import annotations

import math

import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir import Call, Expr, StringImm, TensorLoad, Var
from tvm.runtime import DataType
from tvm.sym import Analyzer, detect_linear_equation
from tvm.tirx.transform import prim_func_pass

from schedules.cpu.sharing import num_cores
from schedules.primitives import ROWS
from schedules.x86.tile_products import LOAD as TILE

PREFETCH = "prefetch"
WITHIN = "prefetch_within"
NEXT_BAND = "prefetch_next_band"
CACHE_LINE = 64  # bytes
READ, TO_L2, DATA = 0, 2, 1  # llvm.prefetch: rw, locality, cache


@prim_func_pass(opt_level=0, name="InsertPrefetches")
def insert_prefetches(
    func: tirx.PrimFunc, _mod: tvm.IRModule, _ctx: tvm.transform.PassContext
) -> tirx.PrimFunc:
    """Insert the prefetches into every marked loop; runs on flat buffers, before unrolling."""
    enclosing: list[tirx.For] = []
    cores = num_cores(func.attrs.get("target"))

    def visit(loop: tirx.For, mutator: tvm_ffi.StructuralMutator) -> tirx.For:
        enclosing.append(loop)
        mutated: tirx.For = mutator.default_mutate(loop)
        enclosing.pop()
        if NEXT_BAND in loop.annotations:
            mutated = with_band_prefetch(mutated, str(loop.annotations[NEXT_BAND]), enclosing)
        if PREFETCH in loop.annotations:
            name = str(loop.annotations[PREFETCH])
            mutated = with_panel_prefetch(mutated, name, enclosing, cores)
        return mutated

    return func.with_body(tvm_ffi.structural_mutate(func.body, (tirx.For, visit)))


def with_panel_prefetch(
    loop: tirx.For, name: str, enclosing: list[tirx.For], cores: int
) -> tirx.For:
    """``loop``, its body preceded by this step's share of the next panel of buffer ``name``."""
    load, inner = first_load(loop.body, name)
    index = first_of(load.indices[0])
    within = [outer for outer in enclosing if outer.annotations.get(WITHIN) == name]
    panel = start_of(index, [loop, *within, *inner])
    steps = int(loop.extent)
    step: Expr = loop.loop_var
    for outer in reversed(enclosing):
        if depends_on(panel, outer.loop_var):
            # a core has some rows of a panel, and asks for all of the next panel with those
            rows = int(outer.annotations.get(ROWS, 1))
            share = -(-rows // cores)
            step = step + outer.loop_var % rows % share * steps
            steps *= share
            break
        step = step + outer.loop_var * steps
        steps *= int(outer.extent)
    # all that a step reads, also where a tile takes its weights from several streams
    per_step = math.prod(int(one.extent) for one in inner if depends_on(index, one.loop_var))
    per_step *= elements_at(loop.body, load)
    panel_steps = int(loop.extent) * math.prod(int(outer.extent) for outer in within)
    panel_elements = per_step * panel_steps
    line = CACHE_LINE // DataType(load.source.dtype).itemsize
    tiles = steps // panel_steps
    # rounded up: a little of the panel after the next costs less than a division in the loop
    share = -(-per_step // tiles)
    ahead = panel + panel_elements + step * share
    lines = -(-share // line)
    hints = [prefetch(load.source, ahead + i * line) for i in range(lines)]
    return put_before(loop, hints, PREFETCH)


def with_band_prefetch(loop: tirx.For, name: str, enclosing: list[tirx.For]) -> tirx.For:
    """``loop``, a tile of a band, its body preceded by its share of what the next band reads."""
    depths = [i for i, outer in enumerate(enclosing) if outer.kind == tirx.ForKind.PARALLEL]
    if not depths:  # the band is the whole image, its loop of one iteration gone
        return put_before(loop, [], NEXT_BAND)
    band, tiles = enclosing[depths[-1]], [*enclosing[depths[-1] + 1 :], loop]
    try:
        load, inner = first_load(band.body, name)
        offsets, length = runs(load.indices[0], inner)
    except LookupError:  # a band of padding alone, or rows that no linear index gives
        return put_before(loop, [], NEXT_BAND)
    following = {band.loop_var: band.loop_var + 1}
    start = substitute(start_of(load.indices[0], inner), following)
    step: Expr = tirx.IntImm("int32", 0)
    for tile in tiles:
        step = step * int(tile.extent) + tile.loop_var
    steps = math.prod(int(tile.extent) for tile in tiles)
    line = CACHE_LINE // DataType(load.source.dtype).itemsize
    lines = -(-length // (line * steps))
    hints = [
        prefetch(load.source, start + offset + (step * lines + i) * line)
        for offset in offsets
        for i in range(lines)
    ]
    return put_before(loop, hints, NEXT_BAND)


def put_before(loop: tirx.For, hints: list[tirx.Stmt], mark: str) -> tirx.For:
    """``loop``, its body preceded by the hints, without the mark that asked for them."""
    # TVM refuses a sequence of one statement
    body = tirx.SeqStmt([*hints, loop.body]) if hints else loop.body
    annotations = {key: value for key, value in loop.annotations.items() if key != mark}
    return tirx.For(loop.loop_var, loop.min, loop.extent, loop.kind, body, None, annotations)


def runs(index: Expr, loops: list[tirx.For]) -> tuple[list[int], int]:
    """Offsets at which the loops' accesses lie without gaps, and the length of each such run.

    Raises LookupError where the index is not linear in the loops.
    """
    *factors, _ = detect_linear_equation(index, [loop.loop_var for loop in loops]) or [None]
    if len(factors) != len(loops):
        raise LookupError("the index is not linear")
    offsets, length = [0], 1
    for factor, loop in sorted(
        zip(map(int, factors), loops, strict=True), key=lambda pair: pair[0]
    ):
        extent = int(loop.extent)
        if factor <= length:
            length += factor * (extent - 1)
        else:
            offsets = [offset + factor * i for i in range(extent) for offset in offsets]
    return offsets, length


def first_load(body: tirx.Stmt, name: str) -> tuple[TensorLoad, list[tirx.For]]:
    """The first load from buffer ``name``, and the loops inside ``body``."""
    loads: list[TensorLoad] = []
    inner: list[tirx.For] = []

    def visit(load: TensorLoad) -> None:
        if load.source.name == name:
            loads.append(load)

    tvm_ffi.structural_walk(body, ((TensorLoad, visit), (tirx.For, inner.append)))
    return loads[0], inner


def first_of(index: Expr) -> Expr:
    """Of a vector's elements the first one's index."""
    return index.base if isinstance(index, tirx.Ramp) else index


def elements_at(body: tirx.Stmt, load: TensorLoad) -> int:
    """What is read at a load's place: one element, those of a vector, or those of a tile."""
    (index,) = load.indices
    found = [int(index.lanes) if isinstance(index, tirx.Ramp) else 1]

    def visit(call: Call) -> None:
        name = call.args[0] if len(call.args) else None
        if isinstance(name, StringImm) and name.value == TILE:
            _, _, rows, row_bytes, address, _ = call.args
            if address.args[0].same_as(load):
                size = DataType(load.source.dtype).itemsize
                found.append(int(rows) * int(row_bytes) // size)

    tvm_ffi.structural_walk(body, (Call, visit))
    return found[-1]


def start_of(index: Expr, loops: list[tirx.For]) -> Expr:
    """``index`` in the first iteration of ``loops``."""

    zeros = {loop.loop_var: tirx.IntImm(loop.loop_var.ty.dtype, 0) for loop in loops}
    return substitute(index, zeros)


def substitute(expr: Expr, values: dict[Var, Expr]) -> Expr:
    """``expr`` with other values for some variables."""

    def value(var: Var) -> Expr:
        return next((new for old, new in values.items() if var.same_as(old)), var)

    return Analyzer().simplify(tvm_ffi.structural_map(expr, (Var, value)))


def depends_on(expr: Expr, var: Var) -> bool:
    found: list[Var] = []
    tvm_ffi.structural_walk(expr, (Var, lambda v: found.append(v) if v.same_as(var) else None))
    return bool(found)


def prefetch(buffer: tirx.Buffer, index: Expr) -> tirx.Stmt:
    address = tirx.address_of(tirx.BufferLoad(buffer, [index]))
    return tirx.Evaluate(tirx.call_llvm_intrin("void", "llvm.prefetch", address, READ, TO_L2, DATA))
