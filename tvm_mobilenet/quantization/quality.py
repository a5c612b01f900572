"""The quantized network beside the float one on held-out samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tvm_mobilenet.quantization.agreement import Agreement, Outputs, agreement_of
from tvm_mobilenet.quantization.qdq import Plan, Written, key_of, write
from tvm_mobilenet.quantization.ranges import Histogram, clipped_share
from tvm_mobilenet.quantization.report import TensorQuality
from tvm_mobilenet.quantization.running import Runner
from tvm_mobilenet.quantization.samples import Samples

if TYPE_CHECKING:
    import onnx


class Judge:
    """The float network's outputs on samples, and how near others come to them."""

    def __init__(self, model: onnx.ModelProto, samples: Samples, classes: int | None) -> None:
        self.samples, self.classes = samples, classes
        self.names = before_probabilities(model)
        runner = Runner(model, self.names, optimized=True)
        self.right: list[Outputs] = list(runner.over(samples.batches()))

    def judge(self, model: onnx.ModelProto) -> Agreement:
        found = Runner(model, self.names).over(self.samples.batches())
        return agreement_of(found, self.right, len(self.samples), self.classes)

    def judge_plan(self, plan: Plan) -> Agreement:
        return self.judge(write(plan).model)


def before_probabilities(model: onnx.ModelProto) -> list[str]:
    """The outputs, of probabilities the scores that they are made of.

    Those of a sure network are 0 and 1 whatever becomes of its scores. The best class is the same.
    """
    makers = {name: node for node in model.graph.node for name in node.output}
    names = [one.name for one in model.graph.output]
    ends = [makers.get(name) for name in names]
    return [
        name if node is None or node.op_type not in ("Softmax", "LogSoftmax") else node.input[0]
        for name, node in zip(names, ends, strict=True)
    ]


def qualities(
    plan: Plan, written: Written, histograms: dict[str, Histogram], samples: Samples
) -> tuple[TensorQuality, ...]:
    """Each tensor that is quantized, in the order they are made."""
    names = list(written.values)
    decibels = signal_to_noise(plan.graph.to_model(), written, samples)
    makers = {name: group for group in plan.groups for name in group.outputs}
    found = []
    for name, ratio in zip(names, decibels, strict=True):
        maker, scale = makers.get(name), written.scales[name]
        table = " (table)" if name in written.tables else ""
        found.append(
            TensorQuality(
                name if maker is None else maker.name,
                "input" if maker is None else maker.operators + table,
                ratio,
                scale.low,
                scale.high,
                clipped_share(histograms[name], scale),
            )
        )
    return tuple(found)


def signal_to_noise(model: onnx.ModelProto, written: Written, samples: Samples) -> list[float]:
    """Of each quantized tensor, in decibels."""
    exact = Runner(model, list(written.values), optimized=True).over(samples.batches())
    rough = Runner(written.model, list(written.values.values())).over(samples.batches())
    sums = np.zeros((len(written.values), 2))
    for values, others in zip(exact, rough, strict=True):
        for row, (one, other) in enumerate(zip(values, others, strict=True)):
            sums[row] += _energies(one, other)
    with np.errstate(divide="ignore"):
        ratios = [signal / noise if noise else np.inf for signal, noise in sums]
        return [float(10 * np.log10(ratio)) for ratio in ratios]


def _energies(exact: NDArray[Any], rough: NDArray[Any]) -> tuple[float, float]:
    """Of the signal and of the noise."""
    signal = exact.astype(np.float64)
    return float(np.square(signal).sum()), float(np.square(signal - rough).sum())


def least_loss(
    plan: Plan, judge: Judge, most: float, few: Samples, float_model: onnx.ModelProto
) -> tuple[Plan, tuple[str, ...]]:
    """The plan with as many layers in float as it takes to lose no more than ``most``.

    First no function is a table, as that rounds what it takes. Layers go in the order of what each
    saves by itself: the output's error on ``few`` samples with that layer alone in float. Returns
    the layers' names too. Corrected biases are kept as long as they help: they took back what
    layers before them got wrong, of which those that go got most.
    """
    names: list[str] = []
    for exact in (plan, plan.with_arguments({})):
        if judge.judge_plan(exact).loss <= most:
            return exact, ()
    corrected = plan.with_arguments({})
    plan = corrected.with_biases({})
    scout = Judge(float_model, few, None)
    saving = {
        key_of(group): scout.judge_plan(plan.with_floats(plan.floats | {key_of(group)})).error
        for group in plan.weighted
    }
    order: Sequence[Any] = sorted(plan.weighted, key=lambda group: saving[key_of(group)])
    for group in order:
        plan = plan.with_floats(plan.floats | {key_of(group)})
        names.append(group.name)
        for biases in (corrected.biases, {}):
            plan = plan.with_biases(biases)
            if judge.judge_plan(plan).loss <= most:
                return plan, tuple(names)
    return plan, tuple(names)
