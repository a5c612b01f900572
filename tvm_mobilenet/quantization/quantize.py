"""The way from a float network and samples to a QDQ network and its report, step by step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.models.quantization import Quantization
from tvm_mobilenet.quantization import collecting
from tvm_mobilenet.quantization.bias import MOST_SAMPLES, correct_biases
from tvm_mobilenet.quantization.calibration import DEFAULT_METHOD, INT8_ALONE, Abilities
from tvm_mobilenet.quantization.equalize import equalize
from tvm_mobilenet.quantization.functions import Function, argument_scale, function_in
from tvm_mobilenet.quantization.graph import Graph, shapes_of
from tvm_mobilenet.quantization.groups import Group, groups_of
from tvm_mobilenet.quantization.prepare import prepare
from tvm_mobilenet.quantization.qdq import Plan, write
from tvm_mobilenet.quantization.quality import Judge, least_loss, qualities
from tvm_mobilenet.quantization.ranges import Extent, Histogram, Method, scales_of
from tvm_mobilenet.quantization.report import Report
from tvm_mobilenet.quantization.samples import Samples

if TYPE_CHECKING:
    import onnx

SCOUTS = 16  # samples that alternatives are compared on
# Hard-swish is a few instructions, and a table of it spares a tenth of a network's time: it is one
# where the outputs' relative error stays this small, or grows by no more than this share.
LITTLE_ERROR, LITTLE_MORE = 0.02, 0.1


@dataclass(frozen=True)
class How:
    """``max_loss`` is the most that ``Agreement.loss`` may be, None for whatever it is.

    ``has`` says of the target's kernels what else may become of layers: those that stay out of int8
    are in bfloat16 where that is enough, and functions of one byte are tables. Weights have 7 bits
    where their range is reduced.
    """

    method: Method = DEFAULT_METHOD
    max_loss: float | None = None
    correct_biases: bool = True
    equalize: bool = True
    has: Abilities = INT8_ALONE
    reduce_range: bool = False


@dataclass(frozen=True)
class Quantized:
    """A QDQ network, in which layers in bfloat16 are float ones, and how good it is."""

    model: onnx.ModelProto
    report: Report


@dataclass(frozen=True)
class Measured:
    """A plan, and how the values of the tensors that it has scales for are spread.

    ``functions`` are those that it makes tables.
    """

    plan: Plan
    extents: dict[str, Extent]
    histograms: dict[str, Histogram]
    functions: tuple[Function, ...]


def quantize(
    model: onnx.ModelProto, samples: Samples, how: How, classes: int | None = None
) -> Quantized:
    """The network in int8; ``model`` is a clean one of float32 (``network.cleaning``).

    ``classes`` is the number of the output whose largest value is the answer, None for no such
    output. Raises BadInput for samples that give NaN or infinity inside of the network, and for
    one without weights.
    """
    used, held = samples.kept()
    judge = Judge(model, held, classes)
    measured, equalized = _best_equalized(model, used, how)
    plan = _with_tables(measured, model, used)
    if not plan.weighted:
        raise BadInput(
            "the network has no convolution of images and no matrix product with constant weights, "
            "so nothing of it is computed in int8"
        )
    if how.correct_biases:
        plan = _corrected(plan, judge, used)
    floats: tuple[str, ...] = ()
    if how.max_loss is not None:
        plan, floats = least_loss(plan, judge, how.max_loss, held.few(SCOUTS), model)
        if how.correct_biases and floats:  # layers before are others than they were
            again = _corrected(plan.with_biases({}), judge, used)
            found = judge.judge_plan(again)
            if found.loss <= how.max_loss and found.error < judge.judge_plan(plan).error:
                plan = again
    written = write(plan)
    agreement = judge.judge(written.model)
    in_bf16: tuple[str, ...] = ()
    if how.has.bf16 and how.max_loss is not None and floats:
        rounded = judge.judge_plan(plan.in_bf16())
        if rounded.loss <= how.max_loss:
            agreement, in_bf16, floats = rounded, floats, ()
    summary = Quantization(
        how.method,
        len(used),
        len(held),
        agreement.top1,
        agreement.cosine,
        agreement.error,
        bool(plan.biases),
        equalized,
        floats,
        in_bf16,
    )
    tensors = qualities(plan, written, measured.histograms, held)
    return Quantized(written.model, Report(tensors, agreement, summary))


def _corrected(plan: Plan, judge: Judge, used: Samples) -> Plan:
    """The plan with corrected biases, where they lower the outputs' error on held-out samples.

    A mean over few samples may be off by more than it takes back.
    """
    better = correct_biases(plan, list(used.few(MOST_SAMPLES).batches()))
    return min(better, plan, key=lambda one: judge.judge_plan(one).error)


def _best_equalized(model: onnx.ModelProto, used: Samples, how: How) -> tuple[Measured, int]:
    """The plan for the network, its channels made alike where that lowers the error.

    The number says of how many tensors; 0 for as it came.
    """
    graph = prepare(model)
    measured = _measure(graph, used, how)
    if not how.equalize:
        return measured, 0
    even = prepare(model)
    groups = groups_of(even, shapes_of(even.to_model()))
    changed = equalize(even, groups, measured.extents)
    if not changed:
        return measured, 0
    other = _measure(even, used, how)
    scout = Judge(model, used.few(SCOUTS), None)
    if scout.judge_plan(other.plan).error < scout.judge_plan(measured.plan).error:
        return other, len(changed)
    return measured, 0


def _with_tables(measured: Measured, model: onnx.ModelProto, used: Samples) -> Plan:
    """The plan, cheap functions no tables where that would cost more than it spares."""
    plan = measured.plan
    costly = {
        one.argument: plan.arguments[one.argument] for one in measured.functions if one.exponential
    }
    if len(costly) == len(plan.arguments):
        return plan
    scout = Judge(model, used.few(SCOUTS), None)
    exact = plan.with_arguments(costly)
    most = max(LITTLE_ERROR, scout.judge_plan(exact).error * (1 + LITTLE_MORE))
    return plan if scout.judge_plan(plan).error <= most else exact


def _measure(graph: Graph, used: Samples, how: How) -> Measured:
    """The plan of a float network by the ranges of its tensors over the samples."""
    model = graph.to_model()
    shapes = shapes_of(model)
    groups = groups_of(graph, shapes)
    names = _names(graph, groups, shapes)
    found = (function_in(one, graph) for one in groups if how.has.tables)
    functions = tuple(one for one in found if one is not None and one.result in names)
    names += [one.argument for one in functions]
    extents = collecting.extents(model, names, used.batches())
    histograms = collecting.histograms(model, extents, used.batches())
    scales = scales_of(histograms, how.method)
    arguments = {
        one.argument: argument_scale(one, graph, histograms[one.argument], scales[one.result])
        for one in functions
    }
    plan = Plan(
        graph,
        tuple(groups),
        scales,
        arguments=arguments,
        reduce_range=how.reduce_range,
    )
    return Measured(plan, extents, histograms, functions)


def _names(graph: Graph, groups: list[Group], shapes: dict[str, tuple[int, ...]]) -> list[str]:
    """The tensors between kernels that something reads."""
    read = {name for group in groups if group.kind != "float" for name in group.inputs}
    made = [*graph.inputs, *(name for group in groups for name in group.outputs)]
    return [name for name in made if name in shapes and name in read]
