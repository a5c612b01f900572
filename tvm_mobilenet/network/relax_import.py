"""ONNX to Relax: one function ``main`` of static inputs, with the parameters as constants."""

from __future__ import annotations

import contextlib
import math
import traceback
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tvm_mobilenet import chatter, ending
from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.network import opaque_calls, operators, signature
from tvm_mobilenet.network.cleaning import describe_node

if TYPE_CHECKING:
    import onnx
    import tvm
    from tvm import relax


def import_onnx(model: onnx.ModelProto) -> tvm.IRModule:
    """The Relax module of a (checked) ONNX model.

    Every Clip with constant bounds, ReLU6 among them, arrives as one ``relax.clip``. Several
    outputs arrive as a tuple. Raises BadInput for inputs and outputs that ``network.signature``
    refuses, and for operators that TVM cannot import, naming them.
    """
    from tvm.relax.frontend.onnx import from_onnx

    from tvm_mobilenet.network import safe_indices

    signature.inputs_of(model)
    signature.check_outputs(model)
    operators.check_operators(model)
    with chatter.kept_back() as told:
        try:
            with warnings.catch_warnings(), _clips_as_operators(), opaque_calls.as_operators():
                # "input.1" is no Relax identifier; nobody asked for the name
                warnings.filterwarnings("ignore", "Renaming name", UserWarning)
                module: tvm.IRModule = from_onnx(model, keep_params_in_input=False)
        except Exception as error:  # the importer raises all kinds of exceptions
            reason = f"{_failed_node(error)}: {chatter.reason(error)}"
            chatter.let_go(error)
            raise BadInput(f"ONNX model cannot be imported: {reason}") from error
    ending.say_all(told.getvalue())  # warnings about what was imported are not ours to hide
    return safe_indices.bound_indices(module)


def _failed_node(error: Exception) -> str:
    """The node that the importer was at; the importer itself says at most its operator."""
    import onnx

    node = None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        local = frame.f_locals.get("node")
        node = local if isinstance(local, onnx.NodeProto) else node
    return "the graph as a whole" if node is None else describe_node(node)


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
