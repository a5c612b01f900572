"""What is quantized or dequantized in a file before anything comes in, computed.

Whoever trains with fake quantization leaves weights real, behind a QuantizeLinear: they become the
integers. Weights that no kernel here multiplies as integers, of 4 or 16 bits or with a scale for
each block of them, become the real numbers that they stand for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
# what dequantizes others of a constant stays, for kernels over integers
KEPT = ("int8", "uint8", "int32")


def compute(model: onnx.ModelProto) -> None:
    """In place: nodes that quantize constants, and those that dequantize what is no weight here."""
    from onnx import numpy_helper

    constants = constants_of(model)
    kept = []
    for node in model.graph.node:
        known = all(name in constants for name in node.input if name)
        if (
            node.op_type not in (QUANTIZE, DEQUANTIZE)
            or not known
            or _is_of_integers(node, constants)
        ):
            kept.append(node)
            continue
        value = _value_of(node, model, constants)
        constants[node.output[0]] = value
        model.graph.initializer.append(numpy_helper.from_array(value, node.output[0]))
    del model.graph.node[:]
    model.graph.node.extend(kept)
    _drop_unread(model)


def _drop_unread(model: onnx.ModelProto) -> None:
    """TVM's importer reads every initializer, and knows no numbers of 4 bits."""
    read = {name for node in model.graph.node for name in node.input}
    read |= {one.name for one in model.graph.output}
    kept = [one for one in model.graph.initializer if one.name in read]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


def constants_of(model: onnx.ModelProto) -> dict[str, NDArray[Any]]:
    """Initializers, and what Constant nodes hold as tensors, by name."""
    from onnx import numpy_helper

    found = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            found[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    return found


def _is_of_integers(node: onnx.NodeProto, constants: dict[str, NDArray[Any]]) -> bool:
    """Whether it dequantizes integers by one scale, or one for each index of an axis."""
    by_block = any(one.name == "block_size" and one.i for one in node.attribute)
    dtype = str(constants[node.input[0]].dtype)
    return node.op_type == DEQUANTIZE and dtype in KEPT and not by_block


def _value_of(
    node: onnx.NodeProto, model: onnx.ModelProto, constants: dict[str, NDArray[Any]]
) -> NDArray[Any]:
    """What the node makes, as ONNX defines it."""
    from onnx import helper, numpy_helper
    from onnx.reference import ReferenceEvaluator

    inner = type(node)()
    inner.CopyFrom(node)
    inner.domain = ""
    graph = helper.make_graph(
        [inner],
        "known",
        [],
        [helper.make_empty_tensor_value_info(node.output[0])],
        [numpy_helper.from_array(constants[name], name) for name in node.input if name],
    )
    alone = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    (value,) = ReferenceEvaluator(alone).run(None, {})
    return np.asarray(value)
