"""Functions of one byte: what a kernel does to a layer's result, made a table by rounding that too.

A sigmoid, a tanh or an error function over real numbers costs a kernel more than the layer's
products. Where the layer's result is rounded to 256 numbers of its own first, what follows is one
of 256 numbers as well, and a kernel looks it up. ReLU and its like are no work to begin with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tvm_mobilenet.quantization.graph import Graph
from tvm_mobilenet.quantization.groups import Group
from tvm_mobilenet.quantization.ranges import SHARES, Histogram
from tvm_mobilenet.quantization.running import Runner
from tvm_mobilenet.quantization.scales import Scale, rounded, scale_of

if TYPE_CHECKING:
    import onnx

    from tvm_mobilenet.quantization.graph import Constants

EXPONENTIAL = frozenset(("Elu", "Erf", "Gelu", "Mish", "Selu", "Sigmoid", "Softplus", "Tanh"))
# Of the lower end, where most of these functions have become constant, far more may be cut off.
LOW_SHARES = np.geomspace(1 / 64, 1, 64)


@dataclass(frozen=True)
class Function:
    """What ``nodes`` make of the tensor ``argument`` alone, element by element: ``result``."""

    argument: str
    nodes: tuple[onnx.NodeProto, ...]

    @property
    def exponential(self) -> bool:
        """Whether it takes more than products and sums, as hard-swish does not."""
        return any(node.op_type in EXPONENTIAL for node in self.nodes)

    @property
    def result(self) -> str:
        return str(self.nodes[-1].output[0])


def function_in(group: Group, graph: Graph) -> Function | None:
    """The longest function at the end of a group that is worth a table; None for none."""
    if group.kind == "float":
        return None
    for start in range(1, len(group.nodes)):
        found = Function(group.nodes[start - 1].output[0], group.nodes[start:])
        if _is_of_one(found, graph):
            return found if _is_work(found, graph.constants) else None
    return None


def _is_of_one(function: Function, graph: Graph) -> bool:
    """Whether nothing but the argument and single numbers goes in."""
    known = {function.argument}
    for node in function.nodes:
        for name in node.input:
            number = name in graph.constants and graph.constants[name].size == 1
            if name and name not in known and not number:
                return False
        known.update(node.output)
    return True


def _is_work(function: Function, constants: Constants) -> bool:
    """Whether it is more than scaling and cutting off: hard-swish may come in pieces."""
    return function.exponential or any(
        node.op_type == "HardSwish"
        or (node.op_type == "Mul" and not any(name in constants for name in node.input))
        for node in function.nodes
    )


def argument_scale(function: Function, graph: Graph, histogram: Histogram, result: Scale) -> Scale:
    """The scale for the argument that least changes what the function gives, in ``result``'s.

    By the mean squared error for values spread as in ``histogram``, whatever the method for other
    tensors: what lies where the function is constant needs no numbers.
    """
    used = histogram.counts > 0
    middles, counts = histogram.middles[used], histogram.counts[used]
    runner = Runner(model_of(function, graph), [function.result])

    def values(of: NDArray[np.float64]) -> NDArray[np.float64]:
        return runner.run(of.astype(np.float32))[0].astype(np.float64)

    exact = values(middles)

    def error(scale: Scale) -> float:
        found = rounded(values(rounded(middles, scale)), result)
        return float(counts @ np.square(found - exact))

    def best(ends: list[tuple[float, float]]) -> tuple[float, float]:
        return min(ends, key=lambda one: error(scale_of(*one)))

    low, high = best([(histogram.low * share, histogram.high) for share in LOW_SHARES])
    low, high = best([(low, high * share) for share in SHARES])
    return scale_of(low, high)


def model_of(function: Function, graph: Graph) -> onnx.ModelProto:
    """A network of the function alone."""
    from onnx import TensorProto, helper, numpy_helper

    read = {name for node in function.nodes for name in node.input}
    like = graph.model
    made = helper.make_graph(
        list(function.nodes),
        "function",
        [helper.make_tensor_value_info(function.argument, TensorProto.FLOAT, None)],
        [helper.make_empty_tensor_value_info(function.result)],
        [
            numpy_helper.from_array(value, name)
            for name, value in graph.constants.items()
            if name in read
        ],
    )
    return helper.make_model(made, opset_imports=like.opset_import, ir_version=like.ir_version)
