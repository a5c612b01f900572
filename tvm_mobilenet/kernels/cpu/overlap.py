"""Images that no tile divides: tiles of one size, of which the last overlaps the one before it.

A schedule splits rows and columns into tiles that stay in registers. A prime number of columns has
no such tiles but of one column, and a guard at the row's end would cost every tile a branch. So the
kernel itself says which tiles there are: the last one starts where it still fits, and computes some
columns a second time, to the same values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import tvm_ffi
from tvm import s_tir, tirx
from tvm.ir import Expr, Range, TensorLoad, TensorRegion, Var

TILED = ("conv", "epilogue")  # the blocks of a convolution that go over its result
ROWS, COLUMNS = 2, 3  # the places of the image's axes in those blocks
SUM = "acc"  # the buffer between the two


@dataclass(frozen=True)
class Tiles:
    """Tiles of ``size`` that cover so many rows or columns."""

    length: int
    size: int

    @property
    def extents(self) -> tuple[int, int]:
        """How many tiles there are, and how much is in one."""
        return -(-self.length // self.size), self.size

    def at(self, tile: Expr, inside: Expr) -> Expr:
        """Where in the image a row or column of a tile lies."""
        if self.length % self.size == 0:
            return tile * self.size + inside
        return tirx.min(tile * self.size, self.length - self.size) + inside


def overlap(
    func: tirx.PrimFunc, image: tuple[int, int], tile: tuple[int | None, int]
) -> tirx.PrimFunc:
    """``func``, a convolution as ``kernels.cpu.conv2d`` has them, over tiles of its result.

    ``image`` is the result's height and width, ``tile`` the rows and columns of a tile: rows None
    where they are no tiles. Each loop over rows or columns becomes two, over tiles and inside one,
    and so do the axis of the block and the dimension of the sums.
    """
    sizes = zip((ROWS, COLUMNS), image, tile, strict=True)
    tiles = {place: Tiles(length, size) for place, length, size in sizes if size is not None}
    return func.with_body(_Overlapped(tiles).statement(func.body))


@dataclass(frozen=True)
class Axis:
    """An axis of a block: the loops and the block's variables that it has, and what it is by them.

    An axis in tiles has two of each, any other one.
    """

    loops: list[tirx.For]
    variables: list[tirx.IterVar]
    value: Expr


@dataclass
class _Overlapped:
    tiles: dict[int, Tiles]  # by the axis' place
    sums: dict[Var, tirx.Buffer] = field(default_factory=dict)  # in tiles, by what they were

    def statement(self, stmt: tirx.Stmt) -> tirx.Stmt:
        if isinstance(stmt, tirx.SeqStmt):
            return tirx.SeqStmt([self.statement(one) for one in stmt.seq])
        if isinstance(stmt, s_tir.SBlockRealize):  # the root
            return s_tir.SBlockRealize(stmt.iter_values, stmt.predicate, self.root(stmt.block))
        loops, realize = nest(stmt)
        block = realize.block
        if block.name_hint not in TILED:
            return stmt
        pairs = zip(loops, block.iter_vars, strict=True)
        axes = [self.axis(place, loop, variable) for place, (loop, variable) in enumerate(pairs)]
        loops = [loop for axis in axes for loop in axis.loops]
        tiled = self.block(block, axes)
        body = s_tir.SBlockRealize([loop.loop_var for loop in loops], realize.predicate, tiled)
        for loop in reversed(loops):
            body = tirx.For(loop.loop_var, loop.min, loop.extent, loop.kind, body)
        return body

    def root(self, block: s_tir.SBlock) -> s_tir.SBlock:
        buffers = [self.sum_of(buffer) for buffer in block.alloc_buffers]
        body = self.statement(block.body)
        return s_tir.SBlock(
            block.iter_vars, block.reads, block.writes, block.name_hint, body, None, buffers
        )

    def sum_of(self, buffer: tirx.Buffer) -> tirx.Buffer:
        """The buffer of the sums with its image in tiles; any other as it is."""
        if buffer.name != SUM:
            return buffer
        shape = [
            extent
            for place, dim in enumerate(buffer.shape)
            for extent in (self.tiles[place].extents if place in self.tiles else [int(dim)])
        ]
        self.sums[buffer] = tirx.decl_buffer(shape, buffer.dtype, SUM)
        return self.sums[buffer]

    def axis(self, place: int, loop: tirx.For, variable: tirx.IterVar) -> Axis:
        if place not in self.tiles:
            return Axis([loop], [variable], variable.var)
        tiles = self.tiles[place]
        name = variable.var.name
        variables = [
            tirx.IterVar(Range(0, extent), tirx.Var(name + suffix, "int32"), variable.iter_type)
            for suffix, extent in zip(("_tile", ""), tiles.extents, strict=True)
        ]
        loops = [
            tirx.For(
                tirx.Var(one.var.name, "int32"), loop.min, one.dom.extent, loop.kind, loop.body
            )
            for one in variables
        ]
        return Axis(loops, variables, tiles.at(*(one.var for one in variables)))

    def block(self, block: s_tir.SBlock, axes: Sequence[Axis]) -> s_tir.SBlock:
        now = list(zip((one.var for one in block.iter_vars), axes, strict=True))

        def axis_of(var: Expr) -> Axis | None:
            return next((axis for old, axis in now if var.same_as(old)), None)

        def value(var: Var) -> Expr:
            axis = axis_of(var)
            return var if axis is None else axis.value

        def place(buffer: tirx.Buffer, indices: Sequence[Expr]) -> tuple[tirx.Buffer, list[Expr]]:
            """The same element; the sums have one index for each variable."""
            if buffer not in self.sums:
                return buffer, [tvm_ffi.structural_map(index, (Var, value)) for index in indices]
            found = [axis_of(index) for index in indices]
            return self.sums[buffer], [one.var for axis in found if axis for one in axis.variables]

        def load(load: TensorLoad) -> TensorLoad:
            return tirx.BufferLoad(*place(load.source, load.indices))

        def store(store: tirx.BufferStore) -> tirx.BufferStore:
            buffer, indices = place(store.buffer, store.indices)
            stored = tvm_ffi.structural_map(store.value, (TensorLoad, load), order="pre")
            return tirx.BufferStore(buffer, stored, indices)

        body = store(block.body)
        return s_tir.SBlock(
            [variable for axis in axes for variable in axis.variables],
            reads_of(body),
            [region(body.buffer, body.indices)],
            block.name_hint,
            body,
            None if block.init is None else store(block.init),
            annotations=block.annotations,
        )


def nest(loop: tirx.For) -> tuple[list[tirx.For], s_tir.SBlockRealize]:
    """Loops around one block, from the outside, and the block."""
    loops = [loop]
    while isinstance(loops[-1].body, tirx.For):
        loops.append(loops[-1].body)
    return loops, loops[-1].body


def reads_of(store: tirx.BufferStore) -> list[TensorRegion]:
    """The elements that a block of one store reads; a sum itself is not among them."""
    found: list[TensorRegion] = []

    def visit(load: TensorLoad) -> None:
        if not load.source.same_as(store.buffer):
            found.append(region(load.source, load.indices))

    tvm_ffi.structural_walk(store.value, (TensorLoad, visit))
    return found


def region(buffer: tirx.Buffer, indices: Sequence[Expr]) -> TensorRegion:
    return tirx.BufferRegion(buffer, [Range.from_min_extent(index, 1) for index in indices])
