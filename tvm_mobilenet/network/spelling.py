"""What TVM's importer does not take, said with operators that it does take."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

# handled by TVM's importer beside its table
BESIDE_THE_TABLE = frozenset(("Constant", "If"))


def importable() -> frozenset[str]:
    """The operators that TVM's importer takes."""
    from tvm.relax.frontend.onnx import onnx_frontend

    return frozenset({*onnx_frontend._get_convert_map(), *BESIDE_THE_TABLE})


def expand_functions(model: onnx.ModelProto) -> onnx.ModelProto:
    """Each operator without an importer that ONNX defines by others, such as Celu, as those."""
    from onnx import inliner

    kinds = {node.op_type for node in model.graph.node if node.domain in ("", "ai.onnx")}
    missing = [("", kind) for kind in sorted(kinds - importable())]
    if not missing:
        return model
    try:
        expanded: onnx.ModelProto = inliner.inline_selected_functions(
            model, missing, inline_schema_functions=True
        )
    except Exception:  # one that depends on types that the file does not tell
        return model
    return expanded


def order_topk(model: onnx.ModelProto) -> None:
    """In place: a TopK whose order the file leaves open gives the best first."""
    for node in model.graph.node:
        if node.op_type == "TopK":
            for one in node.attribute:
                if one.name == "sorted":
                    one.i = 1


def cast_exponents(model: onnx.ModelProto) -> None:
    """In place: an exponent gets the type of what it is the exponent of."""
    import onnx
    from onnx import helper

    if all(node.op_type != "Pow" for node in model.graph.node):
        return
    types = _types(onnx.shape_inference.infer_shapes(model).graph)
    nodes = []
    for node in model.graph.node:
        if node.op_type == "Pow":
            base, exponent = (types.get(name) for name in node.input)
            if base and exponent and base != exponent:
                cast = f"{node.output[0]}_exponent"
                nodes.append(helper.make_node("Cast", [node.input[1]], [cast], to=base))
                node.input[1] = cast
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _types(graph: onnx.GraphProto) -> dict[str, int]:
    """The element type of every tensor for which it is known."""
    values: Iterable[onnx.ValueInfoProto] = (*graph.input, *graph.value_info, *graph.output)
    types = {one.name: one.type.tensor_type.elem_type for one in values}
    return types | {one.name: one.data_type for one in graph.initializer}
