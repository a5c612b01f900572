"""How the threads of one region share the kernels: by work stealing, with a wait after each.

TVM gives each thread its run of a parallel loop's iterations, and the slowest thread's time is the
loop's. Cores are not equally fast: a phone has big and little ones, a cloud machine's virtual CPU
runs beside whatever its hyper-thread's sibling does, and the system takes a core away for a while.
So a thread that has done its run takes from the end of another's, chunk by chunk, once that one is
clearly behind.

Where a loop says how many of its iterations are the rows of an image, a thread's run is its part of
the rows, for all iterations around them. It has the same rows in every kernel, so what it reads is
in its own cache, but for a row of its neighbour's; between cores that share no cache a line takes
hundreds of nanoseconds. That is also why a thread does not take from another at every turn.

After a kernel all wait for each other, spinning: a kernel takes microseconds. TVM's own barrier
asks the system for another thread at every turn.

The state is counters in the workspace (``Counters``), cleared before each run. Each thread's lie in
a cache line of their own, so two threads touch the same line only where one steals. On one thread,
and on more than there are counters for, each does its own run at once.

After Blumofe and Leiserson's work stealing (1999), as pthreadpool has it for loops.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir import Call, Expr, GlobalVar, PrimType, StringImm
from tvm.script import tirx as T
from tvm.target import Target
from tvm.tirx import Var

from schedules.primitives import KEPT, LAST_THREAD, OWNER, ROWS
from tvm_mobilenet.hardware import cpu

ALONE = "tvm_mobilenet.alone"  # marks a function that one thread calls, with pointers
KERNEL = "tvm_mobilenet.kernel"  # around a kernel's call; its value points to all counters
LAUNCH = "pragma_parallel_launch_point"
LINE = 16  # int32 in a cache line
TAKEN, STOLEN = 0, 1  # a thread's counters: claims of its chunks, by anyone; claims by others
# a thread's cursor: its own chunks done, runs that it found empty, and what it claimed: iterations
# first to end of so many rounds over the rows; and in between the chunk that it looks at
DONE, LOOKED_AT, FIRST, END, ROUNDS, CHUNK = range(6)
CURSOR = 6
NONE = -1  # no chunk
INT32 = PrimType("int32")
CHUNKS = 8  # of a thread's run: more cost more claims, fewer leave more to wait for
BEHIND = 2  # chunks that a thread has not begun when another has done its own: it needs help
# A parallel loop over nothing tells a thread which one it is, of how many, by its share. LLVM knows
# how such a loop ends without running it; so long, the division rounds right for 800 threads, which
# is the most that the library takes (TMN_MOST_THREADS in library/native/internal.h).
MANY = 1 << 30
LAST, COUNT = 0, 1

# TensorIR has no atomic instruction for CPUs.
FETCH_ADD, LOAD = "tvm_mobilenet_fetch_add", "tvm_mobilenet_load"
WAIT = "tvm_mobilenet_wait"
SPINS = 1 << 10  # then the system may have the core: who is waited for may be waiting for it
ATOMICS = f"""
declare i32 @sched_yield()

; Which iterations a thread gets is all that these counters say: what is written meanwhile is
; published by the wait after the kernel.
define i32 @{FETCH_ADD}(ptr %counter, i32 %by) {{
  %before = atomicrmw add ptr %counter, i32 %by monotonic, align 4
  ret i32 %before
}}

define i32 @{LOAD}(ptr %counter) {{
  %value = load atomic i32, ptr %counter monotonic, align 4
  ret i32 %value
}}

; Until as many have come as are wanted.
define void @{WAIT}(ptr %arrived, i32 %wanted) {{
start:
  %before = atomicrmw add ptr %arrived, i32 1 acq_rel, align 4
  %now = add i32 %before, 1
  %last = icmp sge i32 %now, %wanted
  br i1 %last, label %done, label %spin
spin:
  %spins = phi i32 [ 1, %start ], [ %more, %again ]
  %seen = load atomic i32, ptr %arrived acquire, align 4
  %all = icmp sge i32 %seen, %wanted
  br i1 %all, label %done, label %rest
rest:
  call void asm sideeffect "PAUSE", ""()
  %masked = and i32 %spins, {SPINS - 1}
  %long = icmp eq i32 %masked, 0
  br i1 %long, label %yield, label %again
yield:
  %ignored = call i32 @sched_yield()
  br label %again
again:
  %more = add i32 %spins, 1
  br label %spin
done:
  ret void
}}
"""
# What tells the core that a loop waits; aarch64's ``yield`` does nothing on most cores.
PAUSES = {"x86_64": "pause", "aarch64": "isb"}
OTHER_PAUSE = "yield"  # armv7


@dataclass(frozen=True)
class Counters:
    """Where the counters of kernels for so many threads lie: ``offset`` bytes into a buffer.

    A line for the waits, then a line for each thread of each kernel.
    """

    offset: int
    kernels: int
    threads: int

    @property
    def elements(self) -> int:
        """How many int32 they are."""
        return LINE * (1 + self.kernels * self.threads)

    @property
    def end(self) -> int:
        """The byte after the last."""
        return self.offset + 4 * self.elements

    def mark(self, call: tirx.Stmt, kernel: int, pointer: Expr) -> tirx.Stmt:
        """The call of a kernel in a region, for ``share_kernels``; ``pointer`` is the counters'."""
        return tirx.AttrStmt([number(kernel), number(self.threads)], KERNEL, pointer, call)


@tvm.transform.module_pass(opt_level=0, name="ShareKernels")
def share_kernels(mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
    """Rewrite the regions and the kernels that they call, which all threads then call together.

    A kernel stays a function: layers of one shape share its code.
    """
    kernels: dict[GlobalVar, int] = {}

    def rewrite(attr: tirx.AttrStmt) -> tirx.Stmt:
        return shared_region(attr, kernels) if attr.attr_key == LAUNCH else attr

    functions = {
        gvar: func.with_body(tvm_ffi.structural_map(func.body, (tirx.AttrStmt, rewrite)))
        for gvar, func in mod.functions.items()
    }
    for gvar, func in mod.functions.items():
        if ALONE in func.attrs:
            functions[gvar] = pointer_function(func)
    if not kernels:
        return tvm.IRModule(functions)
    claim = GlobalVar("claim")
    for gvar, most in kernels.items():
        functions[gvar] = shared_kernel(mod[gvar], claim, most)
    target = next(iter(functions.values())).attrs["target"]
    functions[claim] = claim_function(target).with_attr("target", target)
    return tvm.IRModule(functions)


def shared_region(region: tirx.AttrStmt, kernels: dict[GlobalVar, int]) -> tirx.Stmt:
    """``region``, in which each thread knows which one it is and takes its part of every kernel.

    Puts into ``kernels`` those it calls, with the most threads that share them by stealing.
    """
    statements, thread, threads = number_threads()

    def rewrite(marked: tirx.AttrStmt) -> tirx.Stmt:
        if marked.attr_key != KERNEL:
            return marked
        index, most = (int(value) for value in marked.node)

        def counter(line: int) -> Expr:
            return T.handle_add_byte_offset(marked.value, 4 * LINE * line)

        call = marked.body.value
        kernels[call.op] = most
        arguments = [*call.args, counter(1 + index * most), thread, threads]
        return tirx.SeqStmt(
            [
                tirx.Evaluate(Call(call.op, arguments, ret_ty=INT32)),
                tirx.Evaluate(tirx.call_extern("void", WAIT, counter(0), threads * (index + 1))),
            ]
        )

    body = tvm_ffi.structural_map(region.body, (tirx.AttrStmt, rewrite))
    return tirx.AttrStmt(region.node, LAUNCH, region.value, tirx.SeqStmt([*statements, body]))


def number_threads() -> tuple[list[tirx.Stmt], Var, Var]:
    """Statements after which two variables hold a thread's number and how many there are."""
    share = tirx.decl_buffer((2,), "int32", "share", scope="local")
    index, thread, threads = (Var(name, "int32") for name in ("index", "thread", "threads"))
    last, count = (tirx.BufferLoad(share, [number(i)]) for i in (LAST, COUNT))
    body = [
        tirx.BufferStore(share, index, [number(LAST)]),
        tirx.BufferStore(share, count + 1, [number(COUNT)]),
    ]
    half = tirx.truncdiv(count, 2)
    statements = [
        tirx.AllocBuffer(share),
        tirx.BufferStore(share, number(0), [number(COUNT)]),
        tirx.For(index, number(0), number(MANY), tirx.ForKind.PARALLEL, tirx.SeqStmt(body)),
        tirx.Bind(thread, tirx.truncdiv(last + 1 - count + half, count)),
        tirx.Bind(threads, tirx.truncdiv(number(MANY) + half, count)),
    ]
    return statements, thread, threads


def shared_kernel(func: tirx.PrimFunc, claim: GlobalVar, most: int) -> tirx.PrimFunc:
    """``func`` as each thread calls it: pointers to its tensors, its counters, thread, threads.

    Its last parallel loop is claimed chunk by chunk. The loops before that clear an image's border,
    which no iteration reads: each thread does its part of them. Anything else is one thread's.
    """
    counters = Var("counters", tirx.decl_buffer((1,), "int32").data.ty)
    thread, threads = Var("thread", "int32"), Var("threads", "int32")
    pointers = [Var(f"{buffer.name}_pointer", buffer.data.ty) for buffer in func.params]
    views = [
        tirx.DeclBuffer(buffer, data=pointer)
        for buffer, pointer in zip(func.params, pointers, strict=True)
    ]
    parts = list(func.body.seq) if isinstance(func.body, tirx.SeqStmt) else [func.body]
    shared: list[tirx.Stmt]
    if any(isinstance(part, tirx.AllocBuffer) for part in parts):
        # what is allocated is all threads' or one's
        whole = tvm_ffi.structural_map(func.body, (tirx.For, serial))
        shared = [tirx.IfThenElse(thread == 0, whole, None)]
    else:
        loops = [part for part in parts if is_parallel(part)]
        shared = []
        for part in parts:
            if isinstance(part, tirx.DeclBuffer):
                shared.append(part)
            elif not is_parallel(part) or int(part.extent) == 1 or OWNER in part.annotations:
                owner = owner_of(part, threads)
                shared.append(tirx.IfThenElse(tirx.EQ(thread, owner), serial(part), None))
            elif part.same_as(loops[-1]):
                shared += claim_chunks(part, claim, [counters, thread, threads, number(most)])
            else:
                shared.append(split_by_rows(part, thread, threads))
    done = tirx.Return(number(0))
    parameters = [*pointers, counters, thread, threads]
    body = on_cpu([*views, *shared, done])
    return tirx.PrimFunc(parameters, body, INT32).with_attr(dict(func.attrs))


def pointer_function(func: tirx.PrimFunc) -> tirx.PrimFunc:
    """``func`` as one thread calls it, with pointers to its tensors; it returns 0."""
    pointers = [Var(f"{buffer.name}_pointer", buffer.data.ty) for buffer in func.params]
    views = [
        tirx.DeclBuffer(buffer, data=pointer)
        for buffer, pointer in zip(func.params, pointers, strict=True)
    ]
    body = on_cpu([*views, func.body, tirx.Return(number(0))])
    return tirx.PrimFunc(pointers, body, INT32).with_attr(dict(func.attrs))


def on_cpu(body: list[tirx.Stmt]) -> tirx.Stmt:
    """Say what device allocations are on, as TVM does itself in an exported function."""
    device = {"device_type": tvm.cpu().dlpack_device_type(), "device_id": 0}
    statement = tirx.SeqStmt(body)
    for name, value in device.items():
        statement = tirx.AttrStmt(StringImm("default"), name, number(value), statement)
    return statement


def is_parallel(statement: tirx.Stmt) -> bool:
    return isinstance(statement, tirx.For) and statement.kind == tirx.ForKind.PARALLEL


def serial(
    statement: tirx.Stmt, first: Expr | None = None, extent: Expr | None = None
) -> tirx.Stmt:
    """A parallel loop as a serial one, over all its iterations or so many from ``first`` on."""
    if not is_parallel(statement):
        return statement
    loop = statement
    kind = str(loop.loop_var.ty.dtype)
    return tirx.For(
        loop.loop_var,
        loop.min if first is None else as_kind(first, kind),
        loop.extent if extent is None else as_kind(extent, kind),
        tirx.ForKind.SERIAL,
        loop.body,
        None,
        loop.annotations,
    )


def as_kind(value: Expr | int, kind: str) -> Expr:
    """An integer of this type; a few of TVM's own kernels count in 64 bits."""
    if isinstance(value, int):
        return tirx.IntImm(kind, value)
    return value if str(value.ty.dtype) == kind else tirx.Cast(kind, value)


def split_by_rows(loop: tirx.For, thread: Var, threads: Var) -> tirx.Stmt:
    """``loop``, of which each thread does its run, in every round over the rows."""
    rows = tirx.Select(rows_of(loop) < threads, loop.extent, rows_of(loop))
    first, end = (tirx.truncdiv(one * rows, threads) for one in (thread, thread + 1))
    return in_rounds(loop, tirx.truncdiv(loop.extent, rows), rows, first, end)


def owner_of(part: tirx.Stmt, threads: Var) -> Expr:
    """The thread that does all of a part."""
    whose = part.annotations.get(OWNER) if isinstance(part, tirx.For) else None
    return threads - 1 if whose == LAST_THREAD else number(0)


def rows_of(loop: tirx.For) -> Expr:
    """How many iterations of a parallel loop are one image's rows: all, where it does not say."""
    return loop.annotations.get(ROWS, loop.extent)


def in_rounds(loop: tirx.For, rounds: Expr, rows: Expr, first: Expr, end: Expr) -> tirx.Stmt:
    """Iterations ``first`` to ``end`` of ``loop``; in later rounds those ``rows`` further on."""
    if ROWS not in loop.annotations:
        return serial(loop, first, end - first)
    turn = Var("turn", "int32")
    inner = serial(loop, first + turn * rows, end - first)
    return tirx.For(turn, number(0), rounds, tirx.ForKind.SERIAL, inner)


def claim_chunks(loop: tirx.For, claim: GlobalVar, arguments: list[Expr]) -> list[tirx.Stmt]:
    """``loop``, of which each thread does what it claims."""
    cursor = tirx.decl_buffer((CURSOR,), "int32", "cursor", scope="local")
    field = [tirx.BufferLoad(cursor, [number(i)]) for i in range(CURSOR)]
    start = {DONE: 0, LOOKED_AT: 0, ROUNDS: 1}
    behind = number(MANY if KEPT in loop.annotations else BEHIND)
    sizes = [as_kind(size, "int32") for size in (loop.extent, rows_of(loop))]
    call = Call(claim, [cursor.data, *arguments, *sizes, behind], ret_ty=INT32)
    chunk = in_rounds(loop, field[ROUNDS], rows_of(loop), field[FIRST], field[END])
    return [
        tirx.AllocBuffer(cursor),
        *(tirx.BufferStore(cursor, number(value), [number(i)]) for i, value in start.items()),
        tirx.While(field[ROUNDS] > 0, tirx.SeqStmt([tirx.Evaluate(call), chunk])),
    ]


def claim_function(target: Target) -> tirx.PrimFunc:
    """claim(cursor, counters, thread, threads, most, extent, rows, behind): what to do next.

    Iterations FIRST to END of its cursor, of a loop of ``extent``, and in ROUNDS rounds those so
    many ``rows`` on; no rounds where all are claimed. ``counters`` are the kernel's, for at most
    ``most`` threads. One that has not begun ``behind`` of its chunks gets help.
    """
    claim = shared_claim()
    code = StringImm(atomics(target))
    return claim.with_body(tirx.AttrStmt(code, "pragma_import_llvm", code, claim.body))


@cache
def shared_claim() -> tirx.PrimFunc:
    @T.prim_func(private=True)
    def claim(
        cursor_pointer: T.handle("int32"),  # type: ignore[valid-type]
        counters_pointer: T.handle("int32"),  # type: ignore[valid-type]
        thread: T.int32,
        threads: T.int32,
        most: T.int32,
        extent: T.int32,
        rows: T.int32,
        behind: T.int32,
    ) -> T.int32:
        counters = T.decl_buffer((MANY,), "int32", data=counters_pointer)
        cursor = T.decl_buffer((CURSOR,), "int32", data=cursor_pointer)
        alone: T.let[T.bool] = T.Or(threads == 1, threads > most)
        # rows that are fewer than the threads are no way to share
        run: T.let[T.int32] = T.Select(rows < threads, extent, rows)
        rounds: T.let[T.int32] = T.truncdiv(extent, run)
        # rounds of a chunk, and into how many chunks a thread's rows of a round go
        group: T.let[T.int32] = T.Select(alone, rounds, T.max(T.truncdiv(rounds, CHUNKS), 1))
        wanted: T.let[T.int32] = T.truncdiv(CHUNKS + rounds - 1, rounds)
        most_pieces: T.let[T.int32] = T.max(T.truncdiv(run, threads), 1)
        pieces: T.let[T.int32] = T.Select(alone, 1, T.min(wanted, most_pieces))
        chunks: T.let[T.int32] = T.truncdiv(rounds + group - 1, group) * pieces
        cursor[FIRST] = 0
        cursor[END] = 0
        cursor[ROUNDS] = 0
        while cursor[ROUNDS] == 0 and cursor[LOOKED_AT] < threads:
            owner: T.let[T.int32] = T.truncmod(thread + cursor[LOOKED_AT], threads)
            if alone:
                cursor[CHUNK] = 0
                cursor[LOOKED_AT] = threads
            elif cursor[LOOKED_AT] > 0 and keeps_up(counters, owner, chunks, behind):
                cursor[CHUNK] = NONE
                cursor[LOOKED_AT] = cursor[LOOKED_AT] + 1
            elif fetch_add(counters, owner * LINE + TAKEN) >= chunks:
                cursor[CHUNK] = NONE
                cursor[LOOKED_AT] = cursor[LOOKED_AT] + 1
            elif cursor[LOOKED_AT] == 0:
                cursor[CHUNK] = cursor[DONE]
                cursor[DONE] = cursor[DONE] + 1
            else:
                cursor[CHUNK] = chunks - 1 - fetch_add(counters, owner * LINE + STOLEN)
            if cursor[CHUNK] != NONE:
                turn: T.let[T.int32] = T.truncdiv(cursor[CHUNK], pieces)
                piece: T.let[T.int32] = T.truncmod(cursor[CHUNK], pieces)
                # rows that are left over go to another thread in each group of rounds
                extra: T.let[T.int32] = T.truncmod(turn, threads)
                first: T.let[T.int32] = T.truncdiv(owner * run + extra, threads)
                mine: T.let[T.int32] = T.truncdiv((owner + 1) * run + extra, threads) - first
                origin: T.let[T.int32] = turn * group * run + first
                cursor[FIRST] = origin + T.truncdiv(mine * piece, pieces)
                cursor[END] = origin + T.truncdiv(mine * (piece + 1), pieces)
                cursor[ROUNDS] = T.min(group, rounds - turn * group)
        return 0

    return claim


def keeps_up(counters: tirx.Buffer, owner: Expr, chunks: Expr, behind: Expr) -> Expr:
    """Whether a thread has begun nearly all its chunks, and nobody has had to help it."""
    taken, stolen = (
        T.call_extern("int32", LOAD, T.address_of(counters[owner * LINE + which]))
        for which in (TAKEN, STOLEN)
    )
    return T.And(chunks - taken < behind, tirx.EQ(stolen, 0))


def fetch_add(counters: tirx.Buffer, index: Expr) -> Expr:
    """What the counter was before this call, which adds 1 to it."""
    return T.call_extern("int32", FETCH_ADD, T.address_of(counters[index]), 1)


def atomics(target: Target) -> str:
    """LLVM IR of the functions that TensorIR lacks."""
    architecture = cpu.architecture_of(str(target.attrs.get("mtriple", "x86_64")))
    return ATOMICS.replace("PAUSE", PAUSES.get(architecture, OTHER_PAUSE))


def number(value: int) -> tirx.IntImm:
    return tirx.IntImm("int32", value)
