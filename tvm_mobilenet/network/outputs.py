"""What the numbers of a network's output are, by the operators that its graph ends with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import onnx

Scores = Literal["logits", "softmax", "sigmoid"]

# operators that move or rename values and leave each as it is
MOVES = frozenset(
    ("Cast", "Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
)
# operators whose result is on no scale of its own: any number may come out
LINEAR = frozenset(
    ("Add", "BatchNormalization", "Conv", "Gemm", "GlobalAveragePool", "MatMul", "ReduceMean")
)


def scores_of(model: onnx.ModelProto) -> tuple[Scores | None, ...]:
    """For each output what its values are, as scores of classes.

    ``softmax``: probabilities that sum to 1 over the classes. ``sigmoid``: the probability of each
    class by itself. ``logits``: what softmax is still to be taken of; LogSoftmax's are such too.
    None where the last operator does not tell.
    """
    maker = {name: node for node in model.graph.node for name in node.output}
    shapes = _shapes(model)
    return tuple(_scores(output.name, maker, shapes) for output in model.graph.output)


def _scores(
    name: str, maker: dict[str, onnx.NodeProto], shapes: dict[str, list[int]]
) -> Scores | None:
    classes = shapes.get(name, [])[-1:]
    node = maker.get(name)
    while node is not None and node.op_type in MOVES:
        node = maker.get(node.input[0])
    if node is None:
        return None
    if node.op_type in LINEAR:
        return "logits"
    if node.op_type in ("Softmax", "LogSoftmax"):
        # over anything but the classes it says nothing about them
        if _softmax_size(node, shapes.get(node.output[0], [])) != classes:
            return None
        return "softmax" if node.op_type == "Softmax" else "logits"
    return "sigmoid" if node.op_type == "Sigmoid" else None


def _softmax_size(node: onnx.NodeProto, shape: list[int]) -> list[int]:
    """The size of the axis it sums over, as a list of one; none where that is not known.

    The axis left out is the last one, or before opset 13 the second and all that follow: the same
    for scores, which have one axis of classes.
    """
    axis = next((int(one.i) for one in node.attribute if one.name == "axis"), None)
    if axis is None:
        axis = -1 if len(shape) < 3 else 1
    return [shape[axis]] if -len(shape) <= axis < len(shape) else []


def _shapes(model: onnx.ModelProto) -> dict[str, list[int]]:
    """The static shape of every tensor that has one, by ONNX's own inference."""
    import onnx

    graph = onnx.shape_inference.infer_shapes(model).graph
    shapes = {}
    for value in (*graph.value_info, *graph.output):
        dims = value.type.tensor_type.shape.dim
        if dims and all(dim.dim_value > 0 for dim in dims):
            shapes[value.name] = [dim.dim_value for dim in dims]
    return shapes
