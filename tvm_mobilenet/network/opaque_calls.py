"""What TVM's ONNX importer writes as TensorIR of its own, or spells out, as single operators.

It makes an opaque call of every Pad, of those too that ``auto_pad`` means, and stacks the inputs of
Min and Max to reduce them. No later pass sees through that.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tvm import relax


@contextlib.contextmanager
def as_operators() -> Iterator[None]:
    """Meanwhile the importer makes ``relax.nn.pad`` of a Pad, binary operators of Min and Max."""
    from tvm import relax, topi
    from tvm.relax.frontend.onnx.onnx_frontend import MultiInputBase

    emit_te = relax.BlockBuilder.emit_te
    reduced = MultiInputBase.__dict__["_impl_v1"]

    def emitted(self: relax.BlockBuilder, func: Callable[..., Any], *args: Any, **kept: Any) -> Any:
        if func is topi.nn.pad and (operator := padding(*args)) is not None:
            return self.normalize(operator)
        return emit_te(self, func, *args, **kept)

    def pairwise(cls: type, bb: relax.BlockBuilder, inputs: Any, attr: Any, params: Any) -> Any:
        from tvm.ir import Constant

        known = all(isinstance(one, Constant) for one in inputs)
        if known or getattr(cls, "binary_op", None) is None:
            return reduced.__get__(None, cls)(bb, inputs, attr, params)
        return cls._impl_dynamic(bb, inputs)  # type: ignore[attr-defined]

    relax.BlockBuilder.emit_te, MultiInputBase._impl_v1 = emitted, classmethod(pairwise)
    try:
        yield
    finally:
        relax.BlockBuilder.emit_te, MultiInputBase._impl_v1 = emit_te, reduced


def padding(
    value: relax.Expr, before: Sequence[int], after: Sequence[int], constant: float = 0.0
) -> relax.Expr | None:
    """The operator; None where it cuts off instead, which is ONNX's way to crop."""
    from tvm import relax

    widths = [int(width) for pair in zip(before, after, strict=True) for width in pair]
    if min(widths, default=0) < 0:
        return None
    return relax.op.nn.pad(value, widths, "constant", float(constant))
