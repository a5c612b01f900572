"""The quantized network as QDQ ONNX: QuantizeLinear and DequantizeLinear between kernels.

Only what lies in memory between two kernels is quantized, and only where one that computes in int8
reads it; and what a function takes that becomes a table by that. Outputs of the network stay float.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tvm_mobilenet.quantization import scales as arithmetic
from tvm_mobilenet.quantization.graph import Graph, make_model
from tvm_mobilenet.quantization.groups import Group
from tvm_mobilenet.quantization.prepare import channel_axis
from tvm_mobilenet.quantization.scales import Scale

if TYPE_CHECKING:
    import onnx

PRODUCER = "tvm-mobilenet"


@dataclass(frozen=True)
class Plan:
    """What becomes of a float ``graph``: everything that ``write`` needs.

    ``scales`` has one for each tensor that may be quantized. ``biases`` are those that differ from
    the float network's, and ``floats`` the groups that are not computed in int8, both by the first
    output of the group. With ``bf16`` those multiply numbers of bfloat16. ``arguments`` are the
    scales of what a function inside a group takes, by that tensor: it becomes a table. Weights have
    7 bits where their range is reduced.
    """

    graph: Graph
    groups: tuple[Group, ...]
    scales: Mapping[str, Scale]
    biases: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    floats: frozenset[str] = frozenset()
    bf16: bool = False
    arguments: Mapping[str, Scale] = field(default_factory=dict)
    reduce_range: bool = False

    def in_bf16(self) -> Plan:
        """With what its float layers multiply rounded to bfloat16."""
        return replace(self, bf16=True)

    def with_floats(self, floats: frozenset[str]) -> Plan:
        return replace(self, floats=floats)

    def with_biases(self, biases: Mapping[str, NDArray[np.float64]]) -> Plan:
        return replace(self, biases=biases)

    def with_arguments(self, arguments: Mapping[str, Scale]) -> Plan:
        return replace(self, arguments=arguments)

    @property
    def weighted(self) -> tuple[Group, ...]:
        """The groups whose weights are int8."""
        return tuple(
            one for one in self.groups if one.kind == "weighted" and key_of(one) not in self.floats
        )

    def bias_of(self, group: Group) -> NDArray[np.float64] | None:
        """The bias of a weighted group in float, None where it has none."""
        given = self.biases.get(key_of(group))
        if given is not None:
            return given
        if len(group.anchor.input) < 3:
            return None
        bias: NDArray[np.float64] = self.graph.constants[group.anchor.input[2]].astype(np.float64)
        return bias


@dataclass(frozen=True)
class Written:
    """A QDQ network. ``numbers`` and ``values`` name, by the float network's tensors, the uint8
    tensor of each that is quantized and what that stands for; ``scales`` are those used.
    ``tables`` are the tensors that a table makes.
    """

    model: onnx.ModelProto
    numbers: Mapping[str, str]
    values: Mapping[str, str]
    scales: Mapping[str, Scale]
    tables: frozenset[str]


def key_of(group: Group) -> str:
    """What is known of a group is kept by its first output: names of nodes may be missing."""
    return group.outputs[0]


def quantized_tensors(plan: Plan) -> set[str]:
    """The tensors that something computed in int8 reads.

    Weights make a group compute in int8; others do where their result is read so in turn.
    """
    found: set[str] = set()
    for group in reversed(plan.groups):
        if group.kind == "float" or key_of(group) in plan.floats:
            continue
        if group.kind == "weighted":
            found.add(group.anchor.input[0])
        read = any(name in found for name in group.outputs)
        if read and all(name in plan.scales for name in group.inputs):
            found.update(group.inputs)
    return {name for name in found if name in plan.scales}


def final_scales(plan: Plan, quantized: set[str]) -> dict[str, Scale]:
    """The scale of each quantized tensor: what only moves values keeps the one they had."""
    found = {name: plan.scales[name] for name in quantized}
    for group in plan.groups:
        if group.kind == "same" and key_of(group) not in plan.floats:
            (source,) = group.inputs
            found.update({name: found[source] for name in group.outputs if name in found})
    return found


def write(plan: Plan) -> Written:
    """The QDQ network of a plan."""
    quantized = quantized_tensors(plan)
    scales = final_scales(plan, quantized)
    writer = _Writer(plan, scales)
    for name in plan.graph.inputs:
        writer.quantize(name)
    for group in plan.groups:
        writer.add(group)
        for name in group.outputs:
            writer.quantize(name)
    model = make_model(plan.graph.model, writer.nodes, writer.constants)
    model.producer_name = PRODUCER
    return Written(model, writer.numbers, writer.values, scales, frozenset(writer.tables))


class _Writer:
    def __init__(self, plan: Plan, scales: Mapping[str, Scale]) -> None:
        self.plan, self.scales = plan, scales
        self.graph = Graph(plan.graph.model, plan.graph.nodes, dict(plan.graph.constants))
        self.nodes: list[onnx.NodeProto] = []
        self.numbers: dict[str, str] = {}
        self.values: dict[str, str] = {}
        self.tables: set[str] = set()
        self.in_int8 = {key_of(one) for one in plan.weighted}

    @property
    def constants(self) -> dict[str, NDArray[Any]]:
        return self.graph.constants

    def quantize(self, name: str) -> None:
        """Q and DQ after a tensor, where it has a scale; what follows reads the latter."""
        if name in self.scales:
            self.numbers[name], self.values[name] = self.rounded(name, self.scales[name])

    def rounded(self, name: str, scale: Scale) -> tuple[str, str]:
        """Q and DQ: the names of the numbers, and of what they stand for."""
        from onnx import helper

        step = self.constant(f"{name}_scale", np.array(scale.step, np.float32))
        zero = self.constant(f"{name}_zero_point", np.array(scale.zero, np.uint8))
        number, value = f"{name}_quantized", f"{name}_dequantized"
        self.nodes += [
            helper.make_node("QuantizeLinear", [name, step, zero], [number], number),
            helper.make_node("DequantizeLinear", [number, step, zero], [value], value),
        ]
        return number, value

    def add(self, group: Group) -> None:
        made = {name: name for node in group.nodes for name in node.output}
        whole = key_of(group) in self.scales and key_of(group) not in self.plan.floats
        for original in group.nodes:
            node = type(original)()
            node.CopyFrom(original)
            if original is group.anchor and key_of(group) in self.in_int8:
                self.quantize_constants(node, group)
            for place, name in enumerate(node.input):
                node.input[place] = made.get(name) or self.values.get(name, name)
            if original is group.anchor and self.plan.bf16 and key_of(group) in self.plan.floats:
                self.round_factors(node)
            self.nodes.append(node)
            argument = self.plan.arguments.get(node.output[0])
            if argument is not None and whole:
                self.tables.update(group.outputs)
                _, made[node.output[0]] = self.rounded(node.output[0], argument)

    def round_factors(self, node: onnx.NodeProto) -> None:
        """To bfloat16, and back: what a node multiplies."""
        from onnx import TensorProto, helper

        for place in (0, 1):
            name = node.input[place]
            narrow, wide = f"{name}_bf16_{node.output[0]}", f"{name}_rounded_{node.output[0]}"
            self.nodes += [
                helper.make_node("Cast", [name], [narrow], narrow, to=TensorProto.BFLOAT16),
                helper.make_node("Cast", [narrow], [wide], wide, to=TensorProto.FLOAT),
            ]
            node.input[place] = wide

    def quantize_constants(self, node: onnx.NodeProto, group: Group) -> None:
        """Weights and bias as int8 and int32 with their scales."""
        axis, step = channel_axis(node), self.scales[node.input[0]].step
        bias = self.plan.bias_of(group)
        stem = group.outputs[0]
        most = arithmetic.MOST_OF_REDUCED if self.plan.reduce_range else arithmetic.MOST_WEIGHT
        weights = arithmetic.quantize_weights(
            self.constants[node.input[1]], axis, bias, step, most=most
        )
        zeros = np.zeros(len(weights.steps), np.int8)
        node.input[1] = self.dequantized(
            f"{stem}_weight", weights.values, weights.steps, zeros, axis
        )
        if bias is not None:
            steps = arithmetic.bias_steps(step, weights)
            numbers = arithmetic.quantize_bias(bias, steps)
            zero = np.zeros(len(steps), np.int32)
            node.input[2] = self.dequantized(f"{stem}_bias", numbers, steps, zero, 0)

    def dequantized(
        self,
        stem: str,
        numbers: NDArray[Any],
        steps: NDArray[np.float32],
        zeros: NDArray[Any],
        axis: int,
    ) -> str:
        from onnx import helper

        names = [
            self.constant(f"{stem}_quantized", numbers),
            self.constant(f"{stem}_scale", steps),
            self.constant(f"{stem}_zero_point", zeros),
        ]
        value = f"{stem}_dequantized"
        self.nodes.append(helper.make_node("DequantizeLinear", names, [value], value, axis=axis))
        return value

    def constant(self, name: str, value: NDArray[Any]) -> str:
        self.constants[name] = value
        return name
