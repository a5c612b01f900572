"""Bias correction: rounding shifts the mean of each channel of a layer; its bias takes it back.

Layer by layer in the order they run, each on what the quantized layers before it, corrected
already, give: a channel's mean is then the float network's again, layer after layer (Nagel et al.,
Data-Free Quantization Through Weight Equalization and Bias Correction, 2019, section 4.2; here from
samples).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tvm_mobilenet.quantization.collecting import channel_means, means_of
from tvm_mobilenet.quantization.groups import Group
from tvm_mobilenet.quantization.qdq import Plan, Written, key_of, write
from tvm_mobilenet.quantization.running import Runner

if TYPE_CHECKING:
    import onnx

    from tvm_mobilenet.quantization.collecting import Batches

# The tensors between two layers are kept for every sample, as uint8: 0.8 MB each at most in
# MobileNetV1 1.0-224, and more samples than this hardly move a mean over all pixels.
MOST_SAMPLES = 64


def correct_biases(plan: Plan, batches: Sequence[Sequence[NDArray[Any]]]) -> Plan:
    """The plan with a corrected bias for each layer in int8 that has one."""
    layers = [one for one in plan.weighted if plan.bias_of(one) is not None]
    goals = channel_means(plan.graph.to_model(), [one.anchor.output[0] for one in layers], batches)
    written = write(plan)
    walk = _Walk(plan, written, batches)
    corrected = dict(plan.biases)
    for group in plan.groups:
        if group in layers:
            goal = goals[group.anchor.output[0]]
            bias = plan.bias_of(group)
            assert bias is not None
            corrected[key_of(group)] = bias + common_part(goal - walk.means_of(group))
            walk.written = write(replace(plan, biases=corrected))
        walk.step(group)
    return replace(plan, biases=corrected)


def common_part(shifts: NDArray[np.float64]) -> NDArray[np.float64]:
    """What all samples have in common of their shifts (samples, channels): one for each channel.

    The median, as a few samples that leave a tensor's range would pull the mean along; and less of
    it where it differs from sample to sample, of which a constant takes nothing back.
    """
    common = np.median(shifts, axis=0)
    spread = np.mean(np.square(shifts - common), axis=0)
    power = np.square(common)
    found: NDArray[np.float64] = common * power / np.maximum(power + spread, np.finfo(float).tiny)
    return found


class _Walk:
    """A quantized network group by group: what is read later is kept, for every batch."""

    def __init__(self, plan: Plan, written: Written, batches: Batches) -> None:
        self.written = written
        self.uses = {name: 0 for group in plan.groups for name in group.inputs}
        for group in plan.groups:
            for name in group.inputs:
                self.uses[name] += 1
        names = plan.graph.inputs
        self.kept: list[dict[str, NDArray[Any]]] = []
        for batch in batches:
            self.kept.append(dict(zip(names, batch, strict=True)))
        self.inputs = frozenset(names)

    def means_of(self, group: Group) -> NDArray[np.float64]:
        """The mean of each channel before the activation, (batches, channels)."""
        runner, given = self.part(group, [group.anchor.output[0]])
        return np.stack(
            [means_of(runner.run(*(kept[name] for name in given))[0]) for kept in self.kept]
        )

    def step(self, group: Group) -> None:
        """Compute the group's outputs; drop what nothing reads any more."""
        needed = [name for name in group.outputs if self.uses.get(name)]
        if needed:
            runner, given = self.part(group, [self.stored(name) for name in needed])
            for kept in self.kept:
                values = runner.run(*(kept[name] for name in given))
                kept.update(zip(needed, values, strict=True))
        for name in group.inputs:
            self.uses[name] -= 1
            if not self.uses[name]:
                for kept in self.kept:
                    kept.pop(name, None)

    def stored(self, name: str) -> str:
        """The tensor of the quantized network that is kept for one of the float network."""
        return name if name in self.inputs else self.written.numbers.get(name, name)

    def part(self, group: Group, outputs: Sequence[str]) -> tuple[Runner, list[str]]:
        """A runner for some outputs of a group, and what it takes by the float network's names."""
        names = {self.stored(name): name for name in group.inputs}
        dtypes = {stored: self.kept[0][name].dtype for stored, name in names.items()}
        model = cut_out(self.written.model, dtypes, outputs)
        runner = Runner(model, outputs)
        return runner, [names[one] for one in runner.inputs]


def cut_out(
    model: onnx.ModelProto, inputs: Mapping[str, np.dtype[Any]], outputs: Sequence[str]
) -> onnx.ModelProto:
    """The part of a network between some of its tensors; ``inputs`` are their types by name."""
    from onnx import helper

    makers = {name: node for node in model.graph.node for name in node.output}
    needed: set[int] = set()
    read: set[str] = set()
    waiting = list(outputs)
    while waiting:
        name = waiting.pop()
        if name in read:
            continue
        read.add(name)
        if name in inputs or name not in makers:
            continue
        needed.add(id(makers[name]))
        waiting += makers[name].input
    graph = helper.make_graph(
        [node for node in model.graph.node if id(node) in needed],
        "part",
        [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(dtype), None)
            for name, dtype in inputs.items()
            if name in read
        ],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        [one for one in model.graph.initializer if one.name in read],
    )
    return helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
