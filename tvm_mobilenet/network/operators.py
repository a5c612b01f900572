"""Which operators of a network cannot be compiled, said all at once and before any work."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.network.cleaning import describe_node
from tvm_mobilenet.network.spelling import importable

if TYPE_CHECKING:
    import onnx

# How much these give out depends on the values that come in, and a bundle's shapes are fixed.
OF_ANY_SIZE = frozenset(
    ("AllClassNMS", "EfficientNMS_TRT", "Loop", "NonMaxSuppression", "NonZero", "Scan", "Unique")
)
STANDARD_DOMAINS = ("", "ai.onnx")
MOST_NODES = 3  # named of each operator


def check_operators(model: onnx.ModelProto) -> None:
    """Raise BadInput, naming every operator that cannot be compiled and nodes of it."""
    importers = importable()
    missing: dict[str, list[onnx.NodeProto]] = {}
    unsized: dict[str, list[onnx.NodeProto]] = {}
    places: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        if node.op_type in OF_ANY_SIZE:
            unsized.setdefault(node.op_type, []).append(node)
        elif node.op_type not in importers or not _is_ours_to_read(node):
            missing.setdefault(node.op_type, []).append(node)
        elif node.op_type == "MaxPool" and len(node.output) > 1 and node.output[1]:
            places.setdefault(node.op_type, []).append(node)
    faults = []
    if missing:
        faults.append(
            f"TVM has no importer for {_name(missing)}; export the network with other operators, "
            "or end it before them"
        )
    if unsized:
        faults.append(
            f"the size of what {_name(unsized)} gives depends on the image, and a bundle's "
            "shapes are fixed; end the network before it, and do that part in the program that "
            "runs the bundle"
        )
    if places:
        faults.append(
            f"the indices that {_name(places)} gives have no importer in TVM; export the network "
            "without what reads them"
        )
    if faults:
        raise BadInput(f"ONNX model not supported: {'; and '.join(faults)}")


def _is_ours_to_read(node: onnx.NodeProto) -> bool:
    """False for another domain's operator that only shares its name with one of ONNX's."""
    import onnx

    return node.domain in STANDARD_DOMAINS or not onnx.defs.has(node.op_type)


def _name(nodes: dict[str, list[onnx.NodeProto]]) -> str:
    return ", ".join(
        describe_node(found[0])
        if len(found) == 1
        else f"{', '.join(map(describe_node, found[:MOST_NODES]))}"
        + (f" and {len(found) - MOST_NODES} more {kind}" if len(found) > MOST_NODES else "")
        for kind, found in nodes.items()
    )
