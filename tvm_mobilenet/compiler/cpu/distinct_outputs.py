"""Every output of a network in memory of its own.

A network may give out its input, a constant, or one tensor twice. Each output is a buffer of the
caller's, which the kernel that computes it writes to; what no kernel computes there, one copies.
"""

from __future__ import annotations

import math

import tvm
from tvm import relax, s_tir, te, tirx
from tvm.ir import Expr, GlobalVar, Var

from tvm_mobilenet.compiler.memory_plan import LoweredGraph

COPY = "copy_output"


def give_out_apart(mod: tvm.IRModule, vector_width: int) -> tvm.IRModule:
    """The module, with a copy for each output that has no kernel to itself.

    ``vector_width`` is the target's, in floats.
    """
    graph = LoweredGraph(mod)
    taken = set(graph.main.params)
    outputs: list[Expr] = []
    copies: list[relax.VarBinding] = []
    functions = dict(mod.functions.items())
    for value in graph.outputs():
        root = graph.root(value)
        if isinstance(root, Var) and root not in taken:
            taken.add(root)
        else:
            kernel = GlobalVar(f"{COPY}{len(copies)}")
            functions[kernel] = copy_kernel(value, vector_width)
            copied = relax.Var(str(kernel.name_hint), value.ty)
            copies.append(relax.VarBinding(copied, relax.call_tir(kernel, [value], value.ty)))
            value = copied
        outputs.append(value)
    if not copies:
        return mod
    body = graph.main.body
    result = outputs[0] if len(outputs) == 1 else relax.Tuple(outputs)
    blocks = [*body.blocks, relax.BindingBlock(copies)]
    main = relax.Function(graph.main.params, relax.SeqExpr(blocks, result), result.ty)
    return tvm.IRModule({**functions, mod.get_global_var("main"): main}, attrs=mod.attrs)


def copy_kernel(value: Expr, vector_width: int) -> tirx.PrimFunc:
    """A kernel that copies a tensor like ``value``, shared among threads, by vectors."""
    shape = [int(dim) for dim in value.ty.shape]
    source = te.placeholder(shape, str(value.ty.dtype), "source")
    target = te.compute(shape, lambda *at: source(*at), "target")
    schedule = s_tir.Schedule(te.create_prim_func([source, target]))
    block = schedule.get_sblock("target")
    loop = schedule.fuse(*schedule.get_loops(block))
    width = math.gcd(math.prod(shape), vector_width)
    outer, inner = schedule.split(loop, [None, width])
    schedule.parallel(outer)
    schedule.vectorize(inner)
    return schedule.mod["main"].without_attr("global_symbol")
