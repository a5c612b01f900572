"""The arguments a kernel is measured with: random, its weights as often as cold caches want."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tvm_mobilenet.hardware.cores import usable_cores
from tvm_mobilenet.kernels.cpu.attributes import (
    COUNTS,
    IN_FIXED_POINT,
    IN_WORDS,
    ORDERED,
    TAPS_IN_WORDS,
    WEIGHTS_PLACE,
    WORD_PRODUCTS,
)
from tvm_mobilenet.tuning.workers import case
from tvm_mobilenet.tuning.workers.bfloat16_tensors import lent
from tvm_mobilenet.tuning.workers.messages import Argument, RunTask

if TYPE_CHECKING:
    import tvm
    from tvm import tirx

L2_OF_CORE = "/sys/devices/system/cpu/cpu{}/cache/index2/size"
L2_DEFAULT = 2 << 20  # bytes, where the system does not tell
MAX_COPIES = 2048  # of one kernel's weights
MAX_COPIES_BYTES = 128 << 20
GUARD = 64  # bytes after each argument that a kernel must leave alone
GUARD_BYTE = 0xA5
LARGEST_SUM = 255  # of weights' magnitudes whose products with bytes 16 bits hold


def arguments_of(mod: tvm.IRModule) -> tuple[Argument, ...]:
    """The parameters of ``main``: what it writes is an output, what it only reads is its input
    where it comes first, else a constant. A function attribute ``constant_params`` (places) says
    otherwise; another, ``integer_limits``, below what the integers of each parameter are.
    """
    import tvm_ffi
    from tvm import tirx

    func = mod["main"]
    written: list[Any] = []
    tvm_ffi.structural_walk(func.body, (tirx.BufferStore, lambda one: written.append(one.buffer)))
    named = func.attrs.get("constant_params") if func.attrs else None
    limits = func.attrs.get("integer_limits") if func.attrs else None
    bias, scale = fixed_point_places(func)
    scales = scales_of(func)
    order = func.attrs.get(ORDERED) if func.attrs else None
    products = products_in_words(func) if order is None else 0
    arguments = []
    for place, param in enumerate(func.params):
        constant = place > 0 if named is None else place in [int(one) for one in named]
        role: Literal["input", "constant", "output"] = "constant" if constant else "input"
        if any(buffer.same_as(param) for buffer in written):
            role = "output"
        shape = tuple(int(dim) for dim in param.shape)
        more: dict[str, Any] = {} if limits is None else {"limit": int(limits[place])}
        more["bits_by"] = scale if place == bias else None
        more["order"] = COUNTS if order is not None and place == int(order) else 0
        if products and place == WEIGHTS_PLACE:
            more["most"] = LARGEST_SUM // products
        more["scales"] = next((n for one, n in scales if one.same_as(param)), 0)
        arguments.append(Argument(shape, str(param.dtype), role, **more))
    return tuple(arguments)


def products_in_words(func: tirx.PrimFunc) -> int:
    """How many products of bytes a kernel takes to fit 16 bits, 0 for no more than any two."""
    if not func.attrs:
        return 0
    products = WORD_PRODUCTS * int(func.attrs.get(IN_WORDS, 1))
    products = max(products, int(func.attrs.get(TAPS_IN_WORDS, 0)))
    return products if products > WORD_PRODUCTS else 0


def fixed_point_places(func: tirx.PrimFunc) -> tuple[int, int] | tuple[None, None]:
    """Of a bias that holds scales in fixed point, and of these scales as floats."""
    places = func.attrs.get(IN_FIXED_POINT) if func.attrs else None
    if places is None:
        return None, None
    bias, scale = map(int, places)
    return bias, scale


def scales_of(func: tirx.PrimFunc) -> list[tuple[tirx.Buffer, int]]:
    """The buffers by which sums of integers are multiplied, and how many products each sum has."""
    import tvm_ffi
    from tvm import ir, s_tir, tirx

    sums: list[tuple[Any, int]] = []
    found: list[tuple[Any, int]] = []
    bias, place = fixed_point_places(func)
    fixed = None if bias is None else func.params[bias]

    def collect(block: s_tir.SBlock) -> None:
        summed = [one for one in block.iter_vars if one.iter_type == tirx.IterVar.CommReduce]
        store = block.body
        if not isinstance(store, tirx.BufferStore) or store.buffer.dtype != "int32":
            return
        if summed:
            sums.append((store.buffer, math.prod(int(one.dom.extent) for one in summed)))
            return
        # what adds up the parts of a sum
        parts = [n for one, n in sums for read in block.reads if read.source.same_as(one)]
        if parts:
            elements = math.prod(int(one.extent) for one in block.reads[0].region)
            sums.append((store.buffer, parts[0] * elements))

    def visit(product: tirx.Mul) -> None:
        number, scale = product.a, product.b
        if isinstance(scale, tirx.Mul) and isinstance(scale.a, tirx.Cast):  # in fixed point
            scale = scale.a.value
        if not isinstance(scale, ir.TensorLoad):
            return
        source = getattr(getattr(number, "value", None), "source", None)
        by = func.params[place] if scale.source.same_as(fixed) else scale.source
        found.extend((by, n) for one, n in sums if one.same_as(source))

    tvm_ffi.structural_walk(func.body, (s_tir.SBlock, collect))
    tvm_ffi.structural_walk(func.body, (tirx.Mul, visit))
    return found


class Arguments:
    """A kernel's arguments in one arena on huge pages, as in the network, and the right outputs.

    ``rotation`` holds one tuple of tensors for each copy of the constants: going through it brings
    every weight from beyond L2, while the activations stay where the last call left them.
    """

    def __init__(self, task: RunTask, *, cold: bool) -> None:
        from tvm_mobilenet import tvm_runtime
        from tvm_mobilenet.runtime import arena

        arguments, right = task.arguments, case.load(task.case)
        values = case.cast(right, arguments)
        copies = copies_of(values, arguments, l2_bytes()) if cold else 1
        order = [
            (place, copy)
            for copy in range(copies)
            for place, one in enumerate(arguments)
            if one.role == "constant" or copy == 0
        ]
        blocks = arena.allocate([values[place].nbytes + GUARD for place, _ in order])
        views: dict[tuple[int, int], Any] = {}
        self._guards = []
        for (place, copy), block in zip(order, blocks, strict=True):
            value = values[place]
            view = block[: value.nbytes].view(value.dtype).reshape(value.shape)
            view[...] = value
            views[place, copy] = view
            self._guards.append(block[value.nbytes :])
            self._guards[-1][:] = GUARD_BYTE
        written = [place for place, one in enumerate(arguments) if one.role == "output"]
        self._outputs = [views[place, 0] for place in written]
        self._expected = [right[place] for place in written]
        from_dlpack = tvm_runtime.ffi().from_dlpack
        tensors = {key: from_dlpack(lent(view)) for key, view in views.items()}
        self.rotation = [
            tuple(
                tensors[place, copy if one.role == "constant" else 0]
                for place, one in enumerate(arguments)
            )
            for copy in range(copies)
        ]

    def poison_outputs(self) -> None:
        """Make an output that the kernel does not write a wrong one."""
        for output in self._outputs:
            output.fill(case.poison(str(output.dtype)))

    def check(self, tolerance: float) -> tuple[str, float]:
        """What is wrong with the outputs (empty: nothing), and their relative error."""
        if any((guard != GUARD_BYTE).any() for guard in self._guards):
            return "it wrote outside its arguments", 0.0
        return case.wrong(self._outputs, self._expected, tolerance)


def copies_of(values: Sequence[Any], arguments: Sequence[Argument], l2: int) -> int:
    """How many copies of the weights, taken in turn, never meet one still in L2."""
    constant_bytes: int = sum(
        value.nbytes for value, one in zip(values, arguments, strict=True) if one.role == "constant"
    )
    if constant_bytes == 0:
        return 1
    enough = -(-2 * l2 // constant_bytes)
    return max(1, min(enough + 1, MAX_COPIES, MAX_COPIES_BYTES // constant_bytes))


def l2_bytes() -> int:
    try:
        return parse_size(Path(L2_OF_CORE.format(usable_cores()[0])).read_text())
    except (OSError, ValueError):
        return L2_DEFAULT


def parse_size(text: str) -> int:
    """Bytes, of a cache size as Linux writes it: ``1024K``. Raises ValueError."""
    text = text.strip()
    return int(text.rstrip("KM")) * (1 << 20 if text.endswith("M") else 1 << 10)
