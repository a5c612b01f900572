"""Tiles of schedules/x86/tile_products.py → registers and instructions of AMX.

Each tile of a kernel gets a register of its own, once loops are unrolled: where it lies in its
buffer is a constant then. A register's shape is part of the thread's configuration, which
``ldtilecfg`` loads. Each thread does so once for a kernel, before its first product, and releases
the registers after its last: what they hold is 8 KB that the system saves and restores with a
thread until then, and keeps a core that waits from its deeper sleep.
"""

from __future__ import annotations

import struct

import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir import Call, Expr, GlobalVar, StringImm, Var
from tvm.runtime import DataType
from tvm.script import tirx as T
from tvm.sym import Analyzer
from tvm.tirx.transform import prim_func_pass

from schedules.x86.tile_products import LOAD, MULTIPLY, REGISTERS, STORE, TILES, ZERO
from tvm_mobilenet.compiler.cpu.sharing import LAUNCH
from tvm_mobilenet.compiler.cpu.stack import STACK_BYTES

SHAPES = "tvm_mobilenet.tiles"  # an attribute of kernels: each register's rows and bytes of a row
MEMORY = {LOAD: "llvm.x86.tileloadd64", STORE: "llvm.x86.tilestored64"}
PRODUCTS = {
    MULTIPLY["uint8"]: "llvm.x86.tdpbusd",
    MULTIPLY["bfloat16"]: "llvm.x86.tdpbf16ps",
}
CONFIGURATION_BYTES = 64
LINE_BYTES = 64
MASK = "llvm.ptrmask"


class _Registers:
    """Of one kernel: a number for each tile, and its shape."""

    def __init__(self) -> None:
        self.numbers: dict[tuple[Var, int], int] = {}
        self.shapes: dict[int, tuple[int, int]] = {}
        self.in_memory: set[Var] = set()  # buffers that tiles are loaded from, or stored into

    def number(self, address: Expr) -> tirx.IntImm:
        """The register of the tile at an address. Raises ValueError where it is not constant."""
        load = address.args[0]
        (index,) = load.indices
        place = Analyzer().simplify(index)
        if not isinstance(place, tirx.IntImm):
            raise ValueError(f"expected tiles at constant places, got {place}")
        key = (load.source, int(place))
        number = self.numbers.setdefault(key, len(self.numbers))
        if number >= TILES:
            raise ValueError(f"expected at most {TILES} tiles, got {len(self.numbers)}")
        return tirx.IntImm("int8", number)

    def shape(self, number: tirx.IntImm, rows: Expr, row_bytes: Expr) -> None:
        found = int(rows), int(row_bytes)
        if self.shapes.setdefault(int(number), found) != found:
            raise ValueError(f"tile {int(number)} is {self.shapes[int(number)]} and {found}")


@prim_func_pass(opt_level=0, name="NameTiles")
def name_tiles(
    func: tirx.PrimFunc, _mod: tvm.IRModule, _ctx: tvm.transform.PassContext
) -> tirx.PrimFunc:
    """Instructions for each call that names tiles; runs after loops are unrolled."""
    registers = _Registers()

    def instruction(call: Call) -> Expr:
        name = call.args[0].value if len(call.args) and isinstance(call.args[0], StringImm) else ""
        if name == ZERO:
            tile = registers.number(call.args[1])
            registers.shape(tile, *call.args[2:])
            return intrinsic("llvm.x86.tilezero", tile)
        if name in MEMORY:
            tile = registers.number(call.args[1])
            registers.shape(tile, *call.args[2:4])
            registers.in_memory.add(call.args[4].args[0].source)
            stride = T.cast(Analyzer().simplify(call.args[5]), "int64")
            return intrinsic(MEMORY[name], tile, call.args[4], stride)
        if name in PRODUCTS:
            return intrinsic(PRODUCTS[name], *map(registers.number, call.args[1:]))
        return call

    def allocations(sequence: tirx.SeqStmt) -> tirx.Stmt:
        kept = [
            one
            for statement in sequence.seq
            if not is_tiles(statement)
            for one in aligned(statement, registers.in_memory)
        ]
        return kept[0] if len(kept) == 1 else tirx.SeqStmt(kept)

    body = tvm_ffi.structural_map(func.body, (Call, instruction))
    if not registers.shapes:
        return func
    body = tvm_ffi.structural_map(body, (tirx.SeqStmt, allocations))
    shapes = [value for tile in sorted(registers.shapes) for value in registers.shapes[tile]]
    return func.with_body(body).with_attr(SHAPES, shapes)


@prim_func_pass(opt_level=0, name="DelayEpilogues")
def delay_epilogues(
    func: tirx.PrimFunc, _mod: tvm.IRModule, _ctx: tvm.transform.PassContext
) -> tirx.PrimFunc:
    """What follows the stores of a block of tiles, beside the products of the next block.

    A product takes some 50 cycles until its sums can be stored. What reads them at once leaves the
    tiles idle: it fills the queues of the core before the next products are there.
    """
    if SHAPES not in func.attrs:
        return func
    return func.with_body(tvm_ffi.structural_map(func.body, (tirx.For, delayed)))


def delayed(loop: tirx.For) -> tirx.Stmt:
    """A loop over blocks; any other as it is."""
    statements = flat(loop.body)
    stores = [place for place, one in enumerate(statements) if is_store(one)]
    if loop.kind != tirx.ForKind.SERIAL or not stores:
        return loop
    first, end = stores[0], stores[-1] + 1
    products, stored, epilogue = statements[:first], statements[first:end], statements[end:]
    if not epilogue or len(stored) != len(stores):
        return loop

    def of(block: Expr) -> tirx.Stmt:
        body = epilogue[0] if len(epilogue) == 1 else tirx.SeqStmt(epilogue)

        def value(var: Var) -> Expr:
            return block if var.same_as(loop.loop_var) else var

        return tvm_ffi.structural_map(body, (Var, value))

    before = tirx.IfThenElse(loop.loop_var > loop.min, of(loop.loop_var - 1), None)
    body = tirx.SeqStmt([*products, before, *stored])
    again = tirx.For(loop.loop_var, loop.min, loop.extent, loop.kind, body, None, loop.annotations)
    return tirx.SeqStmt([again, of(loop.min + loop.extent - 1)])


def flat(statement: tirx.Stmt) -> list[tirx.Stmt]:
    if not isinstance(statement, tirx.SeqStmt):
        return [statement]
    return [one for part in statement.seq for one in flat(part)]


def is_store(statement: tirx.Stmt) -> bool:
    """Whether it stores a tile."""
    call = statement.value if isinstance(statement, tirx.Evaluate) else None
    number = T.llvm_lookup_intrinsic_id(MEMORY[STORE])
    first = call.args[0] if isinstance(call, Call) and len(call.args) else None
    return isinstance(first, tirx.IntImm) and int(first) == int(number)


def intrinsic(name: str, *args: Expr) -> Expr:
    return T.call_llvm_intrin(T.llvm_lookup_intrinsic_id(name), *args, dtype="void")


def is_tiles(statement: tirx.Stmt) -> bool:
    """Whether it allocates what is in registers."""
    return isinstance(statement, tirx.AllocBuffer) and statement.buffer.scope() == REGISTERS


def aligned(statement: tirx.Stmt, in_memory: set[Var]) -> list[tirx.Stmt]:
    """An allocation of one of these, so that a tile's row lies in one line of the cache.

    On its stack TVM aligns a buffer to 16 bytes; the larger ones, in a workspace, are aligned.
    """
    if not isinstance(statement, tirx.AllocBuffer) or statement.buffer not in in_memory:
        return [statement]
    buffer = statement.buffer
    size = DataType(buffer.dtype).itemsize
    more = LINE_BYTES // size
    (length,) = buffer.shape
    if (int(length) + more) * size > STACK_BYTES:
        return [statement]
    around = tirx.decl_buffer((int(length) + more,), buffer.dtype, f"{buffer.name}_around")
    up = T.handle_add_byte_offset(around.data, LINE_BYTES - 1)
    mask = tirx.IntImm("int64", -LINE_BYTES)
    start = T.call_llvm_pure_intrin(MASK, up, mask, dtype="handle")
    return [tirx.AllocBuffer(around), tirx.DeclBuffer(buffer, data=start)]


@tvm.transform.module_pass(opt_level=0, name="ConfigureTiles")
def configure_tiles(mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
    """Every thread that runs a kernel over tiles configures them first, and releases them."""
    found: dict[GlobalVar, tirx.PrimFunc] = {}
    for gvar, func in mod.functions.items():
        if isinstance(func, tirx.PrimFunc) and SHAPES in func.attrs:
            values = [int(value) for value in func.attrs[SHAPES]]
            shapes = list(zip(values[::2], values[1::2], strict=True))
            found[gvar] = configured(func.without_attr(SHAPES), shapes)
    for gvar, func in found.items():
        mod.update_func(gvar, func)
    return mod


def configured(func: tirx.PrimFunc, shapes: list[tuple[int, int]]) -> tirx.PrimFunc:
    """``func``, whose threads are those of its parallel loops, or the one that calls it."""
    found: list[tirx.For] = []

    def around(loop: tirx.For) -> tirx.Stmt:
        if loop.kind != tirx.ForKind.PARALLEL or not has_products(loop):
            return loop
        found.append(loop)
        one = tirx.IntImm("int32", 1)
        return tirx.AttrStmt(one, LAUNCH, one, between(loop, shapes))

    body = tvm_ffi.structural_map(func.body, (tirx.For, around))
    return func.with_body(body if found else within(func.body, shapes))


def within(body: tirx.Stmt, shapes: list[tuple[int, int]]) -> tirx.Stmt:
    """As ``between``, inside the attributes around a function's body and before it returns."""
    if isinstance(body, tirx.AttrStmt):
        inner = within(body.body, shapes)
        return tirx.AttrStmt(body.node, body.attr_key, body.value, inner)
    if isinstance(body, tirx.SeqStmt) and isinstance(body.seq[-1], tirx.Return):
        *before, done = body.seq
        return tirx.SeqStmt([between(tirx.SeqStmt(before), shapes), done])
    return between(body, shapes)


def between(body: tirx.Stmt, shapes: list[tuple[int, int]]) -> tirx.Stmt:
    """``body``, with its tiles configured before it, and released after it."""
    configuration = tirx.decl_buffer((CONFIGURATION_BYTES // 8,), "int64", "tile_configuration")
    quarters = struct.unpack("<8q", configuration_of(shapes))
    stores = [
        tirx.BufferStore(configuration, tirx.IntImm("int64", value), [tirx.IntImm("int32", place)])
        for place, value in enumerate(quarters)
    ]
    address = tirx.address_of(tirx.BufferLoad(configuration, [tirx.IntImm("int32", 0)]))
    return tirx.SeqStmt(
        [
            tirx.AllocBuffer(configuration),
            *stores,
            tirx.Evaluate(intrinsic("llvm.x86.ldtilecfg", address)),
            body,
            tirx.Evaluate(intrinsic("llvm.x86.tilerelease")),
        ]
    )


def configuration_of(shapes: list[tuple[int, int]]) -> bytes:
    """What ``ldtilecfg`` reads: palette 1, the bytes of each tile's rows, and the rows."""
    missing = TILES - len(shapes)
    row_bytes = [size for _, size in shapes] + [0] * missing
    rows = [count for count, _ in shapes] + [0] * missing
    return struct.pack("<BB14x8H16x8B8x", 1, 0, *row_bytes, *rows)


def has_products(statement: tirx.Stmt) -> bool:
    """Whether there are products of tiles in it."""
    names = [T.llvm_lookup_intrinsic_id(name) for name in PRODUCTS.values()]
    numbers = {int(name) for name in names}
    found: list[Call] = []

    def visit(call: Call) -> None:
        first = call.args[0] if len(call.args) else None
        if isinstance(first, tirx.IntImm) and int(first) in numbers and len(call.args) == 4:
            found.append(call)

    tvm_ffi.structural_walk(statement, (Call, visit))
    return bool(found)
