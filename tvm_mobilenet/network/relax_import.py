"""ONNX to Relax: one function ``main``, one static NCHW float32 input, parameters as constants."""

from __future__ import annotations

import contextlib
import io
import math
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tvm_mobilenet.errors import BadInput, last_line

if TYPE_CHECKING:
    import onnx
    import tvm
    from tvm import relax


def import_onnx(model: onnx.ModelProto) -> tvm.IRModule:
    """The Relax module of a (checked) ONNX model.

    Every Clip with constant bounds, ReLU6 among them, arrives as one ``relax.clip``. Several
    outputs arrive as a tuple. Raises BadInput for anything but one float32 input (N, C, H, W) of
    static shape, and for operators that TVM cannot import, naming them.
    """
    import tvm
    from tvm.relax.frontend.onnx import from_onnx

    _check_input(model)
    talk = io.StringIO()
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(talk),
            _clips_as_operators(),
        ):
            # "input.1" is no Relax identifier; nobody asked for the name
            warnings.filterwarnings("ignore", "Renaming name", UserWarning)
            module: tvm.IRModule = from_onnx(model, keep_params_in_input=False)
    except tvm.error.OpNotImplemented as error:
        raise BadInput(f"ONNX model not supported: {last_line(error)}") from error
    except Exception as error:
        # the importer prints which operator it failed on, and raises all kinds of exceptions
        where = last_line(talk.getvalue())
        reason = "; ".join(part for part in (where, last_line(error)) if part)
        raise BadInput(f"ONNX model cannot be imported: {reason}") from error
    return module


def _check_input(model: onnx.ModelProto) -> None:
    import onnx

    graph = model.graph
    given = {initializer.name for initializer in graph.initializer}
    inputs = [value for value in graph.input if value.name not in given]
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs) or "none"
        raise BadInput(f"ONNX model must have one input, it has {len(inputs)} ({names})")
    name, tensor = inputs[0].name, inputs[0].type.tensor_type
    if tensor.elem_type != onnx.TensorProto.FLOAT:
        got = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
        raise BadInput(f"ONNX input {name} must be float32, it is {got}")
    if not tensor.HasField("shape"):
        raise BadInput(f"ONNX input {name} has no shape; export the model with a static one")
    sizes = [size.dim_value or size.dim_param or "?" for size in tensor.shape.dim]
    shape = "x".join(map(str, sizes))
    if not all(isinstance(size, int) and size > 0 for size in sizes):
        raise BadInput(
            f"ONNX input {name} has the dynamic shape {shape}; export the model with a static one"
        )
    if len(sizes) != 4:
        raise BadInput(f"ONNX input {name} must be images (N, C, H, W), its shape is {shape}")


@contextlib.contextmanager
def _clips_as_operators() -> Iterator[None]:
    """Meanwhile TVM's importer makes a ``relax.clip`` of an ONNX Clip with constant bounds.

    By itself it makes opaque TIR calls, which no later pass can see through to fuse or legalize.
    """
    from tvm.relax.frontend.onnx.onnx_frontend import Clip

    kept = {name: Clip.__dict__[name] for name in ("_impl_v1", "_impl_v13")}

    def from_attributes(
        cls: type, bb: relax.BlockBuilder, inputs: Any, attr: dict[str, Any], params: Any
    ) -> relax.Expr:
        return _clip(inputs[0], attr.get("min"), attr.get("max"))

    def from_inputs(
        cls: type, bb: relax.BlockBuilder, inputs: Any, attr: dict[str, Any], params: Any
    ) -> relax.Expr:
        from tvm.ir import Constant

        value, low, high = inputs[0], inputs[1], inputs[2]
        if all(bound is None or isinstance(bound, Constant) for bound in (low, high)):
            return _clip(value, *(_number(bound) for bound in (low, high)))
        return kept["_impl_v13"].__get__(None, cls)(bb, inputs, attr, params)

    # opset 11 and 12 go through _impl_v13 as well
    Clip._impl_v1, Clip._impl_v13 = classmethod(from_attributes), classmethod(from_inputs)
    try:
        yield
    finally:
        Clip._impl_v1, Clip._impl_v13 = kept["_impl_v1"], kept["_impl_v13"]


def _clip(value: relax.Expr, low: float | None, high: float | None) -> relax.Expr:
    """``value`` between the bounds; None where there is none on that side, as is NaN in ONNX."""
    from tvm import relax

    least = -math.inf if low is None or math.isnan(low) else low
    most = math.inf if high is None or math.isnan(high) else high
    return relax.op.clip(
        value, *(relax.prim_value(float(bound), "float32") for bound in (least, most))
    )


def _number(bound: relax.Expr | None) -> float | None:
    return None if bound is None else float(bound.value.numpy())
