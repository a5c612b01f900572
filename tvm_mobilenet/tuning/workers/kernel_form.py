"""The form of a kernel, read off its unscheduled function: extents, taps, origins, epilogue.

So NumPy can compute what the kernel must without anything of TVM that makes candidates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import tvm_ffi
from tvm import ir, s_tir, sym, tirx

from schedules.cpu.image_tiles import RUN
from tvm_mobilenet.kernels.cpu.attributes import IN_FIXED_POINT
from tvm_mobilenet.tuning.workers.blocked_arrays import Array, rows_outermost
from tvm_mobilenet.tuning.workers.case import is_float
from tvm_mobilenet.tuning.workers.interpreter import each_element, index_values, write_block

# Places of the loops over rows, and of those over columns: one each, or over tiles and inside one.
# Where tiles are runs of pixels, the loops over tiles and inside one make both.
ImageAxes: TypeAlias = tuple[tuple[int, ...], tuple[int, ...]]

PRODUCT_AXES = (3, 4)  # of the products of a convolution, the loops over their rows and columns
REDUCTION = tirx.IterVar.CommReduce
# the block that adds up the parts of each sum, of kernels that have such, and the loop over them
TOTAL, PART = "total", "vp"
# what reading a function of another form ends in
FORM_ERRORS = (AttributeError, IndexError, KeyError, StopIteration, TypeError, ValueError)


class NoReference(Exception):
    """The kernel is no layer that is known here."""


class KernelForm:
    """The numbers of a layer, read off its unscheduled function."""

    def __init__(self, func: tirx.PrimFunc, inputs: Sequence[Array] = ()) -> None:
        self._params = list(func.params)
        self.inputs = [one.astype(np.float64) if is_value(one) else one for one in inputs]
        places = func.attrs.get(IN_FIXED_POINT) if func.attrs else None
        self._fixed_point = None if places is None else int(places[0])
        self.buffers = list(zip(self._params, self.inputs, strict=False))
        self.blocks: dict[str, s_tir.SBlock] = {}
        self.rule = ""

        def collect(block: s_tir.SBlock) -> None:
            self.blocks[block.name_hint] = block
            self.rule = str(block.annotations.get("schedule_rule", self.rule))

        tvm_ffi.structural_walk(func.body, (s_tir.SBlock, collect))

    def extents(self, block: str) -> list[int]:
        return [int(one.dom.extent) for one in self.blocks[block].iter_vars]

    def image_axes(self, block: str) -> ImageAxes:
        """Of a convolution's sum, whose loops are image, channel block, rows, columns, lane."""
        plain = [place for place, one in enumerate(self._variables(block)) if not is_sum(one)]
        if TOTAL in self.blocks:  # whose sums are over the parts of a sum, if not fewer
            plain = plain[: len([one for one in self._variables(TOTAL) if not is_sum(one)])]
        image = plain[2:-1]
        if self.in_runs(block):
            return tuple(image), tuple(image)
        rows = 2 if len(image) == 4 else 1  # the columns alone may be in tiles
        return tuple(image[:rows]), tuple(image[rows:])

    def taps(
        self,
        image: Array,
        window: tuple[int, int],
        axes: ImageAxes | None = None,
        block: str = "conv",
    ) -> list[Any]:
        """For each place in the window: the pixels (N, oh, ow, C) it sees of an (N, H, W, C).

        The result's rows and columns are those of ``block``, the sum, as its loops have them; where
        tiles overlap some are there twice.
        """
        rows, columns = self.starts(block, axes or self.image_axes(block))
        if self.in_runs(block):
            tiles = self.extents(block)[2:4]
            return [
                (kh, kw, image[:, rows[:, kh], columns[:, kw]].reshape(len(image), *tiles, -1))
                for kh in range(window[0])
                for kw in range(window[1])
            ]
        return [
            (kh, kw, image[:, rows[:, kh, None], columns[None, :, kw]])
            for kh in range(window[0])
            for kw in range(window[1])
        ]

    def in_runs(self, block: str) -> bool:
        """Whether a block goes over runs of pixels, in tiles."""
        return RUN in self.blocks[block].annotations

    def products(self, plain: Array) -> Array:
        """Products (P, N, blocks, rows, columns, lanes) as the block of that name has them."""
        if not self.in_runs("products"):
            return plain
        rows, columns = self.starts("products", (PRODUCT_AXES, PRODUCT_AXES))
        found = plain[:, :, :, rows[:, 0], columns[:, 0]]
        tiles = [self.extents("products")[place] for place in PRODUCT_AXES]
        return found.reshape(*plain.shape[:3], *tiles, plain.shape[-1])

    def starts(self, block: str, axes: ImageAxes | tuple[int, int]) -> list[Array]:
        """The rows, and the columns, that a block reads: (one of the result, one of the window)."""
        found = []
        groups = [one if isinstance(one, tuple) else (one,) for one in axes]
        variables = self._variables(block)
        for index, group in zip(self._image_indices(groups, block), groups, strict=True):
            # a sum in parts may have its window's rows among them
            window = [
                place
                for place, one in enumerate(variables)
                if (is_sum(one) or self.is_part(one)) and _depends(index, one.var)
            ]
            values = index_values(self.blocks[block], index)
            kept = (*group, *window)
            others = tuple(0 if place not in kept else slice(None) for place in range(values.ndim))
            length = math.prod(values.shape[place] for place in group)
            starts = values[others].reshape(length, -1)
            # parts of the same row read it at the same places
            _, first = np.unique(starts[0], return_index=True)
            found.append(starts[:, np.sort(first)])
        return found

    def is_part(self, axis: tirx.IterVar) -> bool:
        """Whether it counts the parts of sums, which another block adds up."""
        return TOTAL in self.blocks and bool(axis.var.name == PART)

    def first_channels(self) -> list[int]:
        """The first input channel that each output vector of a dense convolution reads."""
        block = self.blocks["conv"]
        source = self._params[0]
        indices = next(i for one, i in self._loads("conv") if one.same_as(source))
        vector = source.shape[-1]
        place = 2 if rows_outermost(tuple(map(int, source.shape))) else 1
        channel = indices[place] * vector + indices[-1]
        values: Array = index_values(block, channel)
        firsts: list[int] = values.transpose()[(0,) * (values.ndim - 2)][:, 0].tolist()
        return firsts

    def finish(self, summed: Array, shape: tuple[int, ...]) -> Array:
        """What the epilogue makes of a convolution's sums (N, oh, ow, O), blocked, halo zero."""
        batch, height, width, _ = summed.shape
        lanes = summed.reshape(batch, height, width, -1, shape[-1]).transpose(0, 3, 1, 2, 4)
        rows, columns = self.image_axes("conv")
        extents = self.extents("conv")
        image = [extents[place] for place in sorted({*rows, *columns})]
        last = TOTAL if TOTAL in self.blocks else "conv"
        return self.write(last, lanes.reshape(*lanes.shape[:2], *image, shape[-1]), shape)

    def write(self, block: str, sums: Array, shape: tuple[int, ...]) -> Array:
        """What the epilogue makes of the sums of ``block``, as that block has them."""
        buffers = [
            *self.buffers,
            (self.blocks[block].body.buffer, sums + self.start(block, sums.ndim)),
        ]
        halo = [name for name in self.blocks if name.startswith("halo")]
        return self.written(["epilogue", *halo], buffers, shape)

    def start(self, block: str, dimensions: int) -> Array | int:
        """What the sums of each channel start at, along their second and their last dimension."""
        starts = self.starting_values(block)
        if starts is None:
            return 0
        blocks, v = starts.shape
        value: Array = starts.reshape(1, blocks, *[1] * (dimensions - 3), v).astype(np.float64)
        return value

    def starting_values(self, block: str) -> Array | None:
        """Of the parameter that the sums of ``block`` start at; None where they start at zero."""
        if self._fixed_point is not None:
            starts: Array = self.inputs[self._fixed_point][:, 0]
            return starts
        init = self.blocks[block].init
        if init is None or not isinstance(init.value, ir.TensorLoad):
            return None
        source = init.value.source
        return next(array for buffer, array in self.buffers if buffer.same_as(source))

    def pixels(self) -> Array:
        """What a stem makes of its image before it is summed, padded."""
        return self.written(["pad"], self.buffers, tuple(self.extents("pad")))

    def sums_signed(self) -> bool:
        """Whether the bytes of a stem's pixels have a sign, for which they are shifted."""
        return "<<" in str(self.blocks["conv"].body.value)

    def written(
        self, blocks: Sequence[str], buffers: list[tuple[Any, Array]], shape: tuple[int, ...]
    ) -> Array:
        """What blocks write into a tensor of this shape."""
        result = np.zeros(shape)
        for name in blocks:
            write_block(self.blocks[name], buffers, result)
        return result

    def summand(self, block: str, data: Array) -> Array:
        """What a block sums of each element of ``data``."""
        return each_element(self.blocks[block].body.value.b, data)

    def clamp(self, value: Array, epilogue: str = "epilogue") -> Array:
        """The activation of a layer that another reads: what its value is limited to.

        Raises ValueError where the epilogue is anything else.
        """
        node = self.blocks[epilogue].body.value
        while isinstance(node, tirx.Cast):
            node = node.value
        low, high = -np.inf, np.inf
        while isinstance(node, tirx.Max | tirx.Min):
            bound = float(node.b.value)
            if isinstance(node, tirx.Max):
                low = max(low, bound)
            else:
                high = min(high, bound)
            node = node.a
        if not isinstance(node, tirx.Add):
            raise ValueError("expected a sum and its bias")
        limited: Array = np.clip(value, low, high)
        return limited

    def origin(self, block: str, places: tuple[int, int]) -> tuple[int, int]:
        """The row and column at which a block begins to read the image, its first parameter.

        ``places`` are those of the loops over rows and columns.
        """
        variables = [self.blocks[block].iter_vars[place].var for place in places]
        indices = next(i for source, i in self._loads(block) if source.same_as(self._params[0]))
        first, second = (
            _constant(index)
            for index in indices
            if any(_coefficient(index, variable) for variable in variables)
        )
        return first, second

    def padding(self) -> tuple[int, int]:
        """The rows above and the columns left of the stem's image."""
        top, left = self.origin("pad", (2, 3))
        return -top, -left

    def padded_shape(self) -> list[int]:
        return self.extents("pad")

    def _variables(self, block: str) -> list[tirx.IterVar]:
        return list(self.blocks[block].iter_vars)

    def _image_indices(self, axes: Sequence[tuple[int, ...]], name: str) -> list[Any]:
        """The row and the column that a block reads, of the data or of its padded copy."""
        block = self.blocks[name]
        variables = [block.iter_vars[place].var for group in axes for place in group]
        others = [*self._params[1:], block.body.buffer]
        for source, indices in self._loads(name):
            if not any(source.same_as(one) for one in others):
                return [i for i in indices if any(_depends(i, one) for one in variables)]
        raise NoReference("the sum reads no image")

    def _loads(self, block: str) -> list[tuple[Any, list[Any]]]:
        """What a block reads, each buffer with the indices."""
        found: list[tuple[Any, list[Any]]] = []

        def visit(load: ir.TensorLoad) -> None:
            found.append((load.source, list(load.indices)))

        tvm_ffi.structural_walk(self.blocks[block].body, (ir.TensorLoad, visit))
        return found


def is_sum(axis: tirx.IterVar) -> bool:
    """Whether a block sums over it."""
    return bool(axis.iter_type == REDUCTION)


def is_value(array: Array) -> bool:
    """Whether it holds values that are computed with, not places of such."""
    return is_float(array.dtype) or array.dtype.itemsize == 1


def _depends(index: Any, variable: Any) -> bool:
    """Whether an index moves with a variable."""
    found: list[Any] = []
    tvm_ffi.structural_walk(index, (tirx.Var, found.append))
    return any(one.same_as(variable) for one in found)


def _coefficient(index: Any, variable: Any) -> int:
    """By how much an index moves with a variable; 0 where it does not, or not linearly."""
    found = sym.detect_linear_equation(index, [variable])
    return int(found[0]) if len(found) == 2 and isinstance(found[0], tirx.IntImm) else 0


def _constant(index: Any) -> int:
    """What an index is where every variable is 0."""
    at_zero = tvm_ffi.structural_map(index, (tirx.Var, lambda one: tirx.IntImm(one.ty.dtype, 0)))
    return int(sym.Analyzer().simplify(at_zero))
