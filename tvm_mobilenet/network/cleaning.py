"""A foreign ONNX file as TVM's importer takes it: nothing but operators on float32 and weights.

What exporters, training and old versions leave in a file goes here, by ONNX's and ONNX Script's own
tools: functions are inlined, operator sets raised, constants and shape arithmetic computed, what
does nothing is dropped. Our own passes do what those do not. The network is compiled from the
result; the reference that it is checked against is the file as it came.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tvm_mobilenet import chatter
from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.network import quantized_form
from tvm_mobilenet.network.signature import forget_shapes, real_inputs
from tvm_mobilenet.network.spelling import cast_exponents, expand_functions

if TYPE_CHECKING:
    import onnx

# Older files are raised to this: before it Upsample, Slice, Resize, Clip and others were other
# operators, which TVM's importer gets wrong or not at all. Newer ones stay as they are.
OPSET = 17
IR_VERSION = 8  # at least: from 4 on weights need not be listed as inputs

# Constants are computed whatever their size: weights are stored as fp16, scaled, transposed.
ANY_SIZE = 2**40

# Operands that are weights, in which infinity is as wrong as NaN. (What is added may be a mask.)
WEIGHED = frozenset(
    ("BatchNormalization", "Conv", "ConvTranspose", "Gemm", "MatMul", "Mul", "PRelu")
)


@dataclass(frozen=True)
class Cleaned:
    """A network to import; ``half`` says that the file computes in float16."""

    model: onnx.ModelProto
    half: bool


def clean(model: onnx.ModelProto) -> Cleaned:
    """The same network, of static input shapes, for ``relax_import``; ``model`` is left alone.

    Whatever a tool cannot do to a file is left as it is: the importer says what it cannot take.
    """
    cleaned = type(model)()
    cleaned.CopyFrom(model)
    _unlist_weights(cleaned)
    cleaned = raise_opset(expand_functions(_inline_functions(cleaned)))
    cast_exponents(cleaned)
    cleaned = _fold(cleaned)
    _spell_out_constants(cleaned)
    if quantized_form.is_quantized(cleaned):
        quantized_form.to_one_form(cleaned)
    if not is_half(cleaned):
        return Cleaned(cleaned, half=False)
    to_float32(cleaned)
    return Cleaned(_fold(cleaned), half=True)


def is_half(model: onnx.ModelProto) -> bool:
    """Whether anything in it is computed in float16, or comes or goes as that."""
    import onnx

    half = onnx.TensorProto.FLOAT16
    graph = model.graph
    return (
        any(one.data_type == half for one in graph.initializer)
        or any(one.type.tensor_type.elem_type == half for one in (*graph.input, *graph.output))
        or any(_casts_to(node, half) for node in graph.node)
    )


def to_float32(model: onnx.ModelProto) -> None:
    """Compute in float32 what is computed in float16; inputs and outputs stay as they are.

    No CPU of ours computes in float16, and float32 is only more exact.
    """
    import onnx
    from onnx import helper

    half, single = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT
    graph = model.graph
    for initializer in graph.initializer:
        _widen(initializer)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.name in ("to", "dtype") and attribute.i == half:
                attribute.i = single
            if attribute.HasField("t"):
                _widen(attribute.t)
    nodes = list(graph.node)
    before, after = [], []
    for value in graph.input:
        if value.type.tensor_type.elem_type == half:
            wide = f"{value.name}_float32"
            for node in nodes:
                node.input[:] = [wide if name == value.name else name for name in node.input]
            before.append(helper.make_node("Cast", [value.name], [wide], to=single))
    for value in graph.output:
        if value.type.tensor_type.elem_type == half:
            wide = f"{value.name}_float32"
            for node in nodes:
                node.input[:] = [wide if name == value.name else name for name in node.input]
                node.output[:] = [wide if name == value.name else name for name in node.output]
            after.append(helper.make_node("Cast", [wide], [value.name], to=half))
    del graph.node[:]
    graph.node.extend([*before, *nodes, *after])
    del graph.value_info[:]


def check_weights(model: onnx.ModelProto, title: str) -> None:
    """Raise BadInput for weights that are NaN or infinite, naming the tensor and its node."""
    from onnx import numpy_helper

    weights = {one.name: one for one in model.graph.initializer}
    for node in model.graph.node:
        infinite_too = node.op_type in WEIGHED
        for name in node.input:
            if name not in weights or not (infinite_too or node.op_type in ("Add", "Sub", "Div")):
                continue
            array = numpy_helper.to_array(weights[name])
            if array.dtype.kind != "f":
                continue
            bad = ~np.isfinite(array) if infinite_too else np.isnan(array)
            if bad.any():
                raise BadInput(
                    f"{title}: {np.count_nonzero(bad)} of the {array.size} weights {name} of "
                    f"{describe_node(node)} are nan or infinite; train or export it again"
                )


def describe_node(node: onnx.NodeProto) -> str:
    """The operator, and which one it is: by its name, or by what it makes."""
    return f"{node.op_type} ({f'node {node.name}' if node.name else f'output {node.output[0]}'})"


def _unlist_weights(model: onnx.ModelProto) -> None:
    inputs = real_inputs(model)
    if len(inputs) < len(model.graph.input):
        del model.graph.input[:]
        model.graph.input.extend(inputs)
    model.ir_version = max(model.ir_version, IR_VERSION)


def _inline_functions(model: onnx.ModelProto) -> onnx.ModelProto:
    from onnx import inliner

    if not model.functions:
        return model
    inlined: onnx.ModelProto = inliner.inline_local_functions(model, convert_version=True)
    return inlined


def raise_opset(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model in OPSET, itself where it is as new as that or cannot be said in it."""
    from onnx import version_converter

    versions = {one.domain: one.version for one in model.opset_import}
    if versions.get("", versions.get("ai.onnx", OPSET)) >= OPSET:
        return model
    try:
        raised: onnx.ModelProto = version_converter.convert_version(model, OPSET)
    except Exception:  # a node that it has no adapter for, or that is not ONNX's
        return model
    forget_shapes(raised)
    return raised


def _fold(model: onnx.ModelProto) -> onnx.ModelProto:
    from onnxscript import optimizer

    names = {node.name for node in model.graph.node}
    with chatter.kept_back(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of numpy, about constants that overflow
        try:
            folded: onnx.ModelProto = optimizer.optimize(
                model, input_size_limit=ANY_SIZE, output_size_limit=ANY_SIZE
            )
        except Exception:  # whatever it meets in a file that the importer may still take
            return model
    for node in folded.graph.node:
        if node.name not in names:  # made up there: nobody finds it in the file
            node.name = ""
    return folded


def _spell_out_constants(model: onnx.ModelProto) -> None:
    """Every Constant with a tensor as its value, the one form that TVM's importer reads."""
    from onnx import helper, numpy_helper

    kinds = {"value_float": ("f", np.float32), "value_int": ("i", np.int64)}
    kinds |= {"value_floats": ("floats", np.float32), "value_ints": ("ints", np.int64)}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name in kinds:
            attribute = node.attribute[0]
            field, dtype = kinds[attribute.name]
            array = np.array(getattr(attribute, field), dtype)
            tensor = numpy_helper.from_array(array)
            node.attribute[0].CopyFrom(helper.make_attribute("value", tensor))


def _casts_to(node: onnx.NodeProto, kind: int) -> bool:
    return node.op_type == "Cast" and any(
        one.name == "to" and one.i == kind for one in node.attribute
    )


def _widen(tensor: onnx.TensorProto) -> None:
    import onnx
    from onnx import numpy_helper

    if tensor.data_type == onnx.TensorProto.FLOAT16:
        wide = numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(wide, tensor.name))
