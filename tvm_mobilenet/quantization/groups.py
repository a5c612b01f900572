"""Which nodes of a network are one kernel: only what lies between kernels is quantized.

A convolution or a matrix product takes the arithmetic of each element after it along, and a
convolution the sum with another tensor; so does arithmetic that begins a group by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tvm_mobilenet.quantization.graph import Graph, attribute
from tvm_mobilenet.quantization.prepare import is_weighted

if TYPE_CHECKING:
    import onnx

    from tvm_mobilenet.quantization.graph import Constants

# weighted: by constant weights; own: any scale may follow; same: the scale it came with stays;
# float: no int8 in it
Kind = Literal["weighted", "own", "same", "float"]

ELEMENTWISE = frozenset(
    (
        "Abs",
        "Add",
        "BatchNormalization",
        "Clip",
        "Div",
        "Elu",
        "Erf",
        "Gelu",
        "HardSigmoid",
        "HardSwish",
        "LeakyRelu",
        "Max",
        "Min",
        "Mish",
        "Mul",
        "Neg",
        "PRelu",
        "Relu",
        "Selu",
        "Sigmoid",
        "Softplus",
        "Sub",
        "Tanh",
    )
)
JOINS = ("Add", "Mul")  # of two tensors: a sum beside a layer, squeeze-and-excite
MOVES = frozenset(
    (
        "DepthToSpace",
        "Flatten",
        "Gather",
        "Identity",
        "MaxPool",
        "Pad",
        "Reshape",
        "Slice",
        "SpaceToDepth",
        "Split",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
    )
)
POOLS = ("AveragePool", "GlobalAveragePool", "ReduceMean")


@dataclass(frozen=True)
class Group:
    """What one kernel computes: ``inputs`` are the tensors that it reads, constants aside.

    ``inner`` are tensors that never lie in memory.
    """

    kind: Kind
    nodes: tuple[onnx.NodeProto, ...]
    inputs: tuple[str, ...]

    @property
    def anchor(self) -> onnx.NodeProto:
        """The first node: of a weighted group the one with the weights."""
        return self.nodes[0]

    @property
    def outputs(self) -> tuple[str, ...]:
        return tuple(name for name in self.nodes[-1].output if name)

    @property
    def name(self) -> str:
        """That of the first node, or of what it makes."""
        return self.anchor.name or self.anchor.output[0]

    @property
    def operators(self) -> str:
        """As in Conv+Clip."""
        return "+".join(node.op_type for node in self.nodes)


def groups_of(graph: Graph, shapes: dict[str, tuple[int, ...]]) -> list[Group]:
    """Every node in one group, in the order they run; ``shapes`` of the float tensors."""
    readers = graph.readers()
    place = {id(node): index for index, node in enumerate(graph.nodes)}
    taken: set[int] = set()
    found = []
    for node in graph.nodes:
        if id(node) in taken:
            continue
        kind = _kind(node, graph, shapes)
        members = [node]
        if kind == "weighted" or node.op_type in ELEMENTWISE:
            first = _sum_of(node, graph, shapes, readers) if kind == "weighted" else None
            members = _grown([node] if first is None else [node, first], graph, readers, place)
        taken |= {id(one) for one in members}
        made = {name for one in members for name in one.output}
        inputs = dict.fromkeys(
            name
            for one in members
            for name in one.input
            if name and name not in made and name not in graph.constants
        )
        found.append(Group(kind, tuple(members), tuple(inputs)))
    # a group runs where its last node does: by then all that it reads is there
    return sorted(found, key=lambda group: place[id(group.nodes[-1])])


def _kind(node: onnx.NodeProto, graph: Graph, shapes: dict[str, tuple[int, ...]]) -> Kind:
    tensors = [name for name in node.input if name and name not in graph.constants]
    if any(name not in shapes for name in (*tensors, *filter(None, node.output))) or not tensors:
        return "float"
    if is_weighted(node, graph):
        return "weighted"
    if node.op_type in MOVES:
        alone = len(tensors) == 1 and node.input[0] in tensors
        return "same" if alone and _moves_only(node, graph.constants) else "float"
    if node.op_type == "Resize":
        nearest = attribute(node, "mode", "nearest") == "nearest"
        return "float" if len(tensors) > 1 else "same" if nearest else "own"
    if node.op_type in POOLS:
        image = len(shapes[tensors[0]]) == 4
        return "own" if image and _over_image(node, graph.constants) else "float"
    if node.op_type == "Concat":
        return "own" if len(tensors) == len(node.input) else "float"
    if node.op_type in ELEMENTWISE:
        joined = len(tensors) == 2 and node.op_type in JOINS
        return "own" if len(tensors) == 1 or joined else "float"
    return "float"


def _moves_only(node: onnx.NodeProto, constants: Constants) -> bool:
    """Whether no value is made up: MaxPool without indices, Pad by zeros."""
    if node.op_type == "MaxPool":
        return len(node.output) == 1
    if node.op_type != "Pad":
        return True
    fill = node.input[2] if len(node.input) > 2 else ""
    zero = not fill or (fill in constants and not constants[fill].any())
    return attribute(node, "mode", "constant") != "constant" or zero


def _over_image(node: onnx.NodeProto, constants: Constants) -> bool:
    """Whether it is a mean over rows and columns only."""
    if node.op_type != "ReduceMean":
        return True
    axes = attribute(node, "axes")
    if axes is None and len(node.input) > 1 and node.input[1] in constants:
        axes = constants[node.input[1]].tolist()
    return axes is not None and {axis % 4 for axis in axes} == {2, 3}


def _sum_of(
    node: onnx.NodeProto,
    graph: Graph,
    shapes: dict[str, tuple[int, ...]],
    readers: dict[str, list[onnx.NodeProto]],
) -> onnx.NodeProto | None:
    """The sum with a tensor that alone reads a convolution.

    Of two convolutions that are summed the second takes it, as the first is there by then.
    """
    result = node.output[0]
    if node.op_type != "Conv" or result in graph.outputs or len(readers.get(result, [])) != 1:
        return None
    (add,) = readers[result]
    others = [name for name in add.input if name != result]
    if add.op_type != "Add" or len(others) != 1 or others[0] in graph.constants:
        return None
    (other,) = others
    if shapes.get(other) != shapes[result] or shapes.get(add.output[0]) != shapes[result]:
        return None
    order = [id(one) for one in graph.nodes]
    maker = graph.makers().get(other)
    takes_it_too = (
        maker is not None
        and maker.op_type == "Conv"
        and is_weighted(maker, graph)
        and len(readers[other]) == 1
        and other not in graph.outputs
    )
    if maker is not None and takes_it_too and order.index(id(maker)) > order.index(id(node)):
        return None
    return add


def _grown(
    members: list[onnx.NodeProto],
    graph: Graph,
    readers: dict[str, list[onnx.NodeProto]],
    place: dict[int, int],
) -> list[onnx.NodeProto]:
    """The members and the arithmetic after them, up to the last point where one tensor is left."""
    whole = len(members)
    members = list(members)
    while True:
        made = {name for one in members for name in one.output if name}
        inside = {id(one) for one in members}
        live = {
            name
            for name in made
            if name in graph.outputs or any(id(one) not in inside for one in readers.get(name, []))
        }
        if live == {members[-1].output[0]}:
            whole = len(members)
        following = [
            one
            for name in live
            for one in readers.get(name, [])
            if id(one) not in inside
            and one.op_type in ELEMENTWISE
            and all(i in made or i in graph.constants for i in one.input if i)
        ]
        if not following or live & set(graph.outputs):
            return members[:whole]
        members.append(min(following, key=lambda one: place[id(one)]))
