"""Variables of TensorFlow: a frozen graph (``.pb``), a checkpoint (``.index``), or a ``.npz``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tvm_mobilenet import arrays
from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.weights import checkpoints, graphs
from tvm_mobilenet.weights.tensors import Array, Tensors

# The last part of the names of what a layer learns, of all that is in a graph or a checkpoint.
VARIABLES = (
    *("weights", "depthwise_weights", "biases"),
    *("gamma", "beta", "moving_mean", "moving_variance"),
)

EPSILON_DIGITS = 9  # of a float32, written as a person would


def read_graph(path: Path) -> Tensors:
    """A frozen graph: its constants by name, and what its nodes say of the network.

    Raises BadInput for what is no GraphDef, and for padding that no network of ours has.
    """
    nodes = graphs.parse(path)
    found = {
        node.name: _constant(path, node)
        for node in nodes
        if node.op == "Const" and _is_variable(node.name)
    }
    for node in nodes:
        padding = node.attr["padding"].s if "padding" in node.attr else b"SAME"
        if node.op in ("Conv2D", "DepthwiseConv2dNative") and padding != b"SAME":
            raise BadInput(
                f"weights {path}: {node.name}: expected padding SAME, got {padding.decode()}"
            )
    return Tensors("tensorflow", found, dict(_said(path, nodes)))


def read_checkpoint(path: Path) -> Tensors:
    """A checkpoint of two files or more, of which ``path`` is the ``.index``.

    Raises BadInput where one of them is missing or damaged.
    """
    return Tensors("tensorflow", checkpoints.read(path, _is_variable))


def read_npz(path: Path) -> Tensors:
    """A NumPy archive with one array a variable, by its name. Raises BadInput for what is none."""
    found = arrays.read_named(path, f"weights {path}")
    variables = {name.partition(":")[0]: array for name, array in found.items()}
    return Tensors(
        "tensorflow", {name: variables[name] for name in variables if _is_variable(name)}
    )


def _is_variable(name: str) -> bool:
    return name.rpartition("/")[2] in VARIABLES


def _constant(path: Path, node: graphs.Node) -> Array:
    try:
        return graphs.array_of(node.attr["value"].tensor)
    except (ValueError, KeyError, IndexError):
        raise BadInput(
            f"weights {path}: {node.name}: expected as many values as its shape has"
        ) from None


def _said(path: Path, nodes: Sequence[graphs.Node]) -> Iterator[tuple[str, Any]]:
    """Fields of the configuration that a graph states."""
    operators = {node.op for node in nodes}
    if "Relu6" in operators or "Relu" in operators:
        yield "activation", "relu6" if "Relu6" in operators else "relu"
    epsilons = (_epsilon(path, node) for node in nodes)
    epsilon = next((one for one in epsilons if one is not None), None)
    if epsilon is not None:
        yield "batch_norm_epsilon", round(epsilon, EPSILON_DIGITS)
    for node in nodes:
        if node.op == "Placeholder" and "shape" in node.attr:
            sizes = [dim.size for dim in node.attr["shape"].shape.dim]
            if len(sizes) == 4 and sizes[1] == sizes[2] > 0:
                yield "resolution", sizes[1]
            break


def _epsilon(path: Path, node: graphs.Node) -> float | None:
    """What a batch norm's node, as one operator or spelled as several, adds to the variance."""
    if node.op.startswith("FusedBatchNorm") and "epsilon" in node.attr:
        return float(node.attr["epsilon"].f)
    if node.op == "Const" and node.name.endswith("/batchnorm/add/y"):
        values = _constant(path, node)
        return float(values.flat[0]) if values.size else None
    return None
