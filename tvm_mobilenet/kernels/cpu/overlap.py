"""Images that no tile divides: tiles of one size, of which the last overlaps the one before it.

A schedule splits rows and columns into tiles that stay in registers. A prime number of columns has
no such tiles but of one column, and a guard at the row's end would cost every tile a branch. So the
kernel itself says which tiles there are: the last one starts where it still fits, and computes some
columns a second time, to the same values.

Where a tile is a run of pixels, the last of a row and the first of the next may lie in one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import tvm_ffi
from tvm import s_tir, tirx
from tvm.ir import Expr, Range, TensorLoad, TensorRegion, Var
from tvm.script import tirx as T

from schedules.cpu.image_tiles import RUN, PixelRun, Tile

TILED = ("conv", "products", "epilogue")  # the blocks of a convolution that go over its result
ROW, COLUMN = "vh", "vw"  # the image's axes in those blocks
SUMS = ("acc", "products")  # the buffers between the two: rows, columns and lanes are their last


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


@dataclass(frozen=True)
class RunTiles:
    """Tiles of runs of pixels that cover an image of (height, width)."""

    image: tuple[int, int]
    run: PixelRun

    @property
    def extents(self) -> tuple[int, int]:
        """How many tiles there are, and how much is in one."""
        return self.run.count, self.run.pixels

    def at(self, tile: Expr, inside: Expr) -> tuple[Expr, Expr]:
        """The row and the column of a tile's pixel."""
        height, width = self.image
        first = T.min(tile * self.run.pixels, height * width - self.run.pixels)
        row, column = first // width, first % width + inside
        if self.run.pixels > width:
            return row + column // width, column % width
        # one division for a tile, not one for each of its pixels
        next_row = T.Select(column >= width, 1, 0)
        return row + next_row, column - next_row * width


def overlap(func: tirx.PrimFunc, image: tuple[int, int], tile: Tile) -> tirx.PrimFunc:
    """``func``, a convolution as ``kernels.cpu.conv2d`` has them, over tiles of its result.

    ``image`` is the result's height and width. Of a ``tile`` of rows and columns each loop over
    rows or columns becomes two, over tiles and inside one, and so do the axis of the block and the
    dimension of the sums. Where the tile is a run of pixels, the loops over rows and columns become
    those two.
    """
    if isinstance(tile, PixelRun):
        return func.with_body(_Overlapped(run=RunTiles(image, tile)).statement(func.body))
    sizes = zip((ROW, COLUMN), image, tile, strict=True)
    tiles = {axis: Tiles(length, size) for axis, length, size in sizes if size is not None}
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
    tiles: dict[str, Tiles] = field(default_factory=dict)  # by the axis' name
    run: RunTiles | None = None
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
        axes = [self.axis(loop, variable) for loop, variable in pairs]
        if self.run is not None:
            row = [variable.var.name for variable in block.iter_vars].index(ROW)
            axes[row : row + 2] = in_run(axes[row], axes[row + 1], self.run)
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
        if buffer.name not in SUMS:
            return buffer
        *before, rows, columns, lanes = map(int, buffer.shape)
        image = [
            extent
            for axis, length in ((ROW, rows), (COLUMN, columns))
            for extent in (self.tiles[axis].extents if axis in self.tiles else [length])
        ]
        if self.run is not None:
            image = [*self.run.extents]
        shape = [*before, *image, lanes]
        self.sums[buffer] = tirx.decl_buffer(shape, buffer.dtype, buffer.name)
        return self.sums[buffer]

    def axis(self, loop: tirx.For, variable: tirx.IterVar) -> Axis:
        name = variable.var.name
        if name not in self.tiles:
            return Axis([loop], [variable], variable.var)
        tiles = self.tiles[name]
        both = zip((name + "_tile", name), tiles.extents, strict=True)
        variables, loops = zip(*(renewed(loop, variable, *one) for one in both), strict=True)
        return Axis(list(loops), list(variables), tiles.at(*(one.var for one in variables)))

    def block(self, block: s_tir.SBlock, axes: Sequence[Axis]) -> s_tir.SBlock:
        now = list(zip((one.var for one in block.iter_vars), axes, strict=True))

        def axis_of(index: Expr) -> Axis | None:
            return next((axis for old, axis in now if index.same_as(old)), None)

        def value(var: Var) -> Expr:
            axis = axis_of(var)
            return var if axis is None else axis.value

        def place(buffer: tirx.Buffer, indices: Sequence[Expr]) -> tuple[tirx.Buffer, list[Expr]]:
            """The same element; the sums have one index for each variable."""
            if buffer not in self.sums:
                return buffer, [tvm_ffi.structural_map(index, (Var, value)) for index in indices]
            inside: list[Expr] = []
            for index in indices:
                axis = axis_of(index)
                inside += [index] if axis is None else [one.var for one in axis.variables]
            return self.sums[buffer], inside

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
            annotations={**block.annotations, **({RUN: 1} if self.run else {})},
        )


def in_run(rows: Axis, columns: Axis, run: RunTiles) -> list[Axis]:
    """The axes over rows and columns as those over tiles and the pixels in one."""
    tiles, inside = run.extents
    tile, tile_loop = renewed(rows.loops[0], rows.variables[0], "tile", tiles)
    pixel, pixel_loop = renewed(columns.loops[0], columns.variables[0], "pixel", inside)
    row, column = run.at(tile.var, pixel.var)
    return [Axis([tile_loop], [tile], row), Axis([pixel_loop], [pixel], column)]


def renewed(
    loop: tirx.For, variable: tirx.IterVar, name: str, extent: int
) -> tuple[tirx.IterVar, tirx.For]:
    """A block's variable of that name and extent, and its loop, in the place of these."""
    one = tirx.IterVar(Range(0, extent), tirx.Var(name, "int32"), variable.iter_type)
    return one, tirx.For(tirx.Var(name, "int32"), loop.min, one.dom.extent, loop.kind, loop.body)


def nest(loop: tirx.For) -> tuple[list[tirx.For], s_tir.SBlockRealize]:
    """Loops around one block, from the outside, and the block."""
    loops = [loop]
    while isinstance(loops[-1].body, tirx.For):
        loops.append(loops[-1].body)
    return loops, loops[-1].body


def reads_of(store: tirx.BufferStore) -> list[TensorRegion]:
    """What a block of one store reads, of each buffer; a sum itself is not among it."""
    found: dict[Var, list[TensorLoad]] = {}

    def visit(load: TensorLoad) -> None:
        if not load.source.same_as(store.buffer):
            found.setdefault(load.source, []).append(load)

    tvm_ffi.structural_walk(store.value, (TensorLoad, visit))
    return [region(buffer, *(load.indices for load in loads)) for buffer, loads in found.items()]


def region(buffer: tirx.Buffer, *places: Sequence[Expr]) -> TensorRegion:
    """The part of a buffer with these elements, which differ by constants alone."""
    return tirx.BufferRegion(buffer, [spanned(indices) for indices in zip(*places, strict=True)])


def spanned(indices: Sequence[Expr]) -> Range:
    first = indices[0]
    if all(tvm_ffi.structural_equal(first, index) for index in indices):
        return Range.from_min_extent(first, 1)
    constants = [int(index) for index in indices]
    return Range(min(constants), max(constants) + 1)
