"""Quantized ONNX files in one form: float operators between QuantizeLinear and DequantizeLinear.

Quantizers write the same network in many ways. Here it gets the one that the compiler reads:
activations are uint8; what dequantizes them stands right before each operator that reads them,
one for each; nothing stands between that and the operator but arithmetic.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from tvm_mobilenet.network import integer_operators, known_values
from tvm_mobilenet.network.known_values import DEQUANTIZE, QUANTIZE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import onnx

BETWEEN = 128  # an int8 and the uint8 that stands for the same value
# operators that only move elements: they move integers as well
MOVES = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
# and those that take them apart, or join them
ALL_MOVES = MOVES | {"Concat", "Slice", "Split"}


def is_quantized(model: onnx.ModelProto) -> bool:
    """Whether anything in it is quantized."""
    kinds = {node.op_type for node in model.graph.node}
    return bool(kinds & {QUANTIZE, DEQUANTIZE, *integer_operators.SPELLED})


def to_one_form(model: onnx.ModelProto) -> None:
    """Rewrite ``model`` in place."""
    integer_operators.spell_out(model)
    known_values.compute(model)
    constants = {one.name for one in model.graph.initializer}
    constants |= {node.output[0] for node in model.graph.node if node.op_type == "Constant"}
    _make_unsigned(model, constants)
    while (
        _sink_dequantize(model, constants)
        or _raise_quantize(model)
        or _drop_pairs(model, constants)
    ):
        pass
    _give_each_its_own(model, constants)
    del model.graph.value_info[:]


def nudge(model: onnx.ModelProto, by: float) -> onnx.ModelProto:
    """The network with every scale that activations are quantized with 1 + ``by`` times as large.

    They are dequantized as before: only what lies next to the middle of two integers changes.
    """
    copy = type(model)()
    copy.CopyFrom(model)
    to_one_form(copy)
    for node in copy.graph.node:
        scale = _value(copy, node.input[1]) if node.op_type == QUANTIZE else None
        if scale is not None:
            moved = (scale * (1 + by)).astype(scale.dtype)
            node.input[1] = _constant(copy, f"{node.output[0]}_nudged", moved)
    return copy


def _make_unsigned(model: onnx.ModelProto, constants: set[str]) -> None:
    """Activations that are int8 as uint8: a zero point 128 higher says the same values."""
    graph = model.graph
    kept = {value.name for value in (*graph.input, *graph.output)}
    readers = _readers(graph.node)
    signed = []
    for node in graph.node:
        if node.op_type != QUANTIZE or node.output[0] in kept | constants:
            continue
        zero = _zero_point(model, node)
        tensors = _moved(node.output[0], readers)
        last = [reader for name in tensors for reader in readers.get(name, [])]
        through = all(one.op_type == DEQUANTIZE or one.output[0] in tensors for one in last)
        if zero is not None and zero.dtype == np.int8 and through and not tensors & kept:
            signed.append(node)
            signed.extend(one for one in last if one.op_type == DEQUANTIZE)
    for node in signed:
        zero = _zero_point(model, node)
        assert zero is not None
        higher = (zero.astype(np.int16) + BETWEEN).astype(np.uint8)
        node.input[2] = _constant(model, f"{node.output[0]}_uint8_zero", higher)
        for attribute in node.attribute:
            if attribute.name == "output_dtype":
                node.attribute.remove(attribute)


def _moved(name: str, readers: dict[str, list[onnx.NodeProto]]) -> set[str]:
    """A tensor, and those that are the same elements moved."""
    found, waiting = {name}, [name]
    while waiting:
        for reader in readers.get(waiting.pop(), []):
            if reader.op_type in MOVES or reader.op_type == "MaxPool":
                waiting += [one for one in reader.output if one not in found]
                found.update(reader.output)
    return found


def _sink_dequantize(model: onnx.ModelProto, constants: set[str]) -> bool:
    """Move elements as integers: what dequantizes them goes behind the first that moves them."""
    graph = model.graph
    by_output = {name: node for node in graph.node for name in node.output}
    outputs = {value.name for value in graph.output}
    for place, node in enumerate(graph.node):
        if node.op_type not in ALL_MOVES or outputs & set(node.output):
            continue
        count = len(node.input) if node.op_type == "Concat" else 1
        before = [by_output.get(name) for name in node.input[:count]]
        known = [one for one in before if one is not None and _is_activation(one, constants)]
        if len(known) < count or not _same_parameters(model, known):
            continue
        after = []
        for index, name in enumerate(node.output):
            dequantize = type(node)()
            dequantize.CopyFrom(known[0])
            dequantize.name = f"{known[0].name}_{name}"
            dequantize.input[0], dequantize.output[0] = f"{name}_integers", name
            node.output[index] = f"{name}_integers"
            after.append(dequantize)
        for index, one in enumerate(known):
            node.input[index] = one.input[0]
        nodes = list(graph.node)
        nodes[place + 1 : place + 1] = after
        _set_nodes(model, _without_unread(nodes, known, outputs))
        return True
    return False


def _is_activation(node: onnx.NodeProto, constants: set[str]) -> bool:
    """Whether it dequantizes what is not known before the network runs."""
    return node.op_type == DEQUANTIZE and node.input[0] not in constants


def _same_parameters(model: onnx.ModelProto, nodes: Sequence[onnx.NodeProto]) -> bool:
    """Whether all quantize, or dequantize, by one scale and zero point for all of a tensor."""
    found = {_parameters(model, node) for node in nodes}
    return len(found) == 1 and None not in found


def _parameters(model: onnx.ModelProto, node: onnx.NodeProto) -> tuple[float, int, str] | None:
    """The scale, the zero point and its type; None where there are several."""
    scale, zero = _value(model, node.input[1]), _zero_point(model, node)
    if scale is None or scale.size != 1:
        return None
    if zero is None:
        return float(scale.reshape(())), 0, "uint8"
    return float(scale.reshape(())), int(zero.reshape(())), str(zero.dtype)


def _without_unread(
    nodes: Sequence[onnx.NodeProto], some: Sequence[onnx.NodeProto], outputs: set[str]
) -> list[onnx.NodeProto]:
    """``nodes`` but those of ``some`` whose result nobody reads."""
    read = {name for node in nodes for name in node.input} | outputs
    unread = [id(node) for node in some if not read & set(node.output)]
    return [node for node in nodes if id(node) not in unread]


def _drop_pairs(model: onnx.ModelProto, constants: set[str]) -> bool:
    """Integers that are dequantized and quantized again by the same numbers stay what they are."""
    graph = model.graph
    by_output = {name: node for node in graph.node for name in node.output}
    outputs = {value.name for value in graph.output}
    for node in graph.node:
        before = by_output.get(node.input[0]) if node.op_type == QUANTIZE else None
        if before is None or not _is_activation(before, constants) or node.output[0] in outputs:
            continue
        if not _same_parameters(model, [before, node]):
            continue
        for reader in graph.node:
            names = [before.input[0] if one == node.output[0] else one for one in reader.input]
            reader.input[:] = names
        nodes = [one for one in graph.node if one is not node]
        _set_nodes(model, _without_unread(nodes, [before], outputs))
        return True
    return False


def _raise_quantize(model: onnx.ModelProto) -> bool:
    """Move elements as integers: what quantizes them goes before what moves them."""
    graph = model.graph
    by_output = {name: node for node in graph.node for name in node.output}
    outputs = {value.name for value in graph.output}
    reads = Counter(name for node in graph.node for name in node.input)
    for place, node in enumerate(graph.node):
        before = by_output.get(node.input[0]) if node.op_type == QUANTIZE else None
        if before is None or before.op_type not in MOVES or _parameters(model, node) is None:
            continue
        middle = node.input[0]
        if reads[middle] != 1 or middle in outputs or before.input[0] not in by_output:
            continue
        integers = f"{middle}_integers"
        node.input[0], before.input[0] = before.input[0], integers
        before.output[0], node.output[0] = node.output[0], integers
        nodes = list(graph.node)
        nodes.pop(place)
        nodes.insert(nodes.index(before), node)
        _set_nodes(model, nodes)
        return True
    return False


def _give_each_its_own(model: onnx.ModelProto, constants: set[str]) -> None:
    """One DequantizeLinear for each operator that reads an activation's real values."""
    nodes: list[onnx.NodeProto] = []
    made: dict[str, onnx.NodeProto] = {}
    for node in model.graph.node:
        copies = []
        for place, name in enumerate(node.input):
            if name in made:
                copy = type(node)()
                copy.CopyFrom(made[name])
                copy.output[0] = f"{name}_for_{node.output[0]}_{place}"
                copy.name = copy.output[0]
                node.input[place] = copy.output[0]
                copies.append(copy)
        if node.op_type == DEQUANTIZE and node.input[0] not in constants:
            made[node.output[0]] = node
        nodes += [*copies, node]
    outputs = {value.name for value in model.graph.output}
    _set_nodes(
        model, [node for node in nodes if node.output[0] not in made or node.output[0] in outputs]
    )


def _set_nodes(model: onnx.ModelProto, nodes: Iterable[onnx.NodeProto]) -> None:
    kept = list(nodes)
    del model.graph.node[:]
    model.graph.node.extend(kept)


def _readers(nodes: Iterable[onnx.NodeProto]) -> dict[str, list[onnx.NodeProto]]:
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in nodes:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    return readers


def _zero_point(model: onnx.ModelProto, node: onnx.NodeProto) -> np.ndarray | None:
    return _value(model, node.input[2]) if len(node.input) > 2 else None


def _value(model: onnx.ModelProto, name: str) -> np.ndarray | None:
    from onnx import numpy_helper

    for one in model.graph.initializer:
        if one.name == name:
            return numpy_helper.to_array(one)
    for node in model.graph.node:
        if node.op_type == "Constant" and node.output[0] == name:
            return numpy_helper.to_array(node.attribute[0].t)
    return None


def _constant(model: onnx.ModelProto, name: str, array: np.ndarray) -> str:
    from onnx import numpy_helper

    model.graph.initializer.append(numpy_helper.from_array(array, name))
    return name
