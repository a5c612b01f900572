"""Prefetch of weights, one panel ahead of the tile that computes.

A network's weights outgrow the caches of a core, so each inference reads them from afar; between
two inferences other work has the shared cache. A schedule marks the reduction loop whose weights
are worth it with `prefetch: <buffer>`. Each of its steps then asks for its share of the next
panel, spread evenly over all the tiles that use this panel, so that the memory works while the
arithmetic does. The last panel's steps ask for what follows the buffer: the parameters lie in
order of use, so that is the next layer's. A prefetch of an address that is not mapped does nothing.
"""

from __future__ import annotations

import math

import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir import Expr, TensorLoad, Var
from tvm.runtime import DataType
from tvm.sym import Analyzer
from tvm.tirx.transform import prim_func_pass

PREFETCH = "prefetch"
CACHE_LINE = 64  # bytes
READ, TO_L2, DATA = 0, 2, 1  # llvm.prefetch: rw, locality, cache


@prim_func_pass(opt_level=0, name="PrefetchPanels")
def prefetch_panels(
    func: tirx.PrimFunc, _mod: tvm.IRModule, _ctx: tvm.transform.PassContext
) -> tirx.PrimFunc:
    """Insert the prefetches into every marked loop; runs on flat buffers, before unrolling."""
    enclosing: list[tirx.For] = []

    def visit(loop: tirx.For, mutator: tvm_ffi.StructuralMutator) -> tirx.For:
        enclosing.append(loop)
        mutated: tirx.For = mutator.default_mutate(loop)
        enclosing.pop()
        if PREFETCH not in loop.annotations:
            return mutated
        return with_prefetch(mutated, str(loop.annotations[PREFETCH]), enclosing)

    return func.with_body(tvm_ffi.structural_mutate(func.body, (tirx.For, visit)))


def with_prefetch(loop: tirx.For, name: str, enclosing: list[tirx.For]) -> tirx.For:
    """`loop`, its body preceded by this step's share of the next panel of buffer `name`."""
    load, inner = first_load(loop.body, name)
    index = load.indices[0]
    panel = substitute(index, [loop, *inner])
    steps = int(loop.extent)
    step: Expr = loop.loop_var
    for outer in reversed(enclosing):
        if depends_on(panel, outer.loop_var):
            break
        step = step + outer.loop_var * steps
        steps *= int(outer.extent)
    # all that a step reads, also where a tile takes its weights from several streams
    per_step = math.prod(int(one.extent) for one in inner if depends_on(index, one.loop_var))
    panel_elements = per_step * int(loop.extent)
    line = CACHE_LINE // DataType(load.source.dtype).itemsize
    tiles = steps // int(loop.extent)
    # rounded up: a little of the panel after the next costs less than a division in the loop
    share = -(-per_step // tiles)
    ahead = panel + panel_elements + step * share
    lines = -(-share // line)
    hints = [prefetch(load.source, ahead + i * line) for i in range(lines)]
    body = tirx.SeqStmt([*hints, loop.body])
    annotations = {key: value for key, value in loop.annotations.items() if key != PREFETCH}
    return tirx.For(loop.loop_var, loop.min, loop.extent, loop.kind, body, None, annotations)


def first_load(body: tirx.Stmt, name: str) -> tuple[TensorLoad, list[tirx.For]]:
    """The first load from buffer `name`, and the loops inside `body`."""
    loads: list[TensorLoad] = []
    inner: list[tirx.For] = []

    def visit(load: TensorLoad) -> None:
        if load.source.name == name:
            loads.append(load)

    tvm_ffi.structural_walk(body, ((TensorLoad, visit), (tirx.For, inner.append)))
    return loads[0], inner


def substitute(index: Expr, loops: list[tirx.For]) -> Expr:
    """`index` in the first iteration of `loops`."""

    def value(var: Var) -> Expr:
        inside = any(var.same_as(loop.loop_var) for loop in loops)
        return tirx.IntImm(var.ty.dtype, 0) if inside else var

    return Analyzer().simplify(tvm_ffi.structural_map(index, (Var, value)))


def depends_on(expr: Expr, var: Var) -> bool:
    found: list[Var] = []
    tvm_ffi.structural_walk(expr, (Var, lambda v: found.append(v) if v.same_as(var) else None))
    return bool(found)


def prefetch(buffer: tirx.Buffer, index: Expr) -> tirx.Stmt:
    address = tirx.address_of(tirx.BufferLoad(buffer, [index]))
    return tirx.Evaluate(tirx.call_llvm_intrin("void", "llvm.prefetch", address, READ, TO_L2, DATA))
