"""Which functions become tables of one byte, on what scale, and what that leaves of accuracy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from support.float_networks import conv, network, node, samples_of

from tvm_mobilenet.compiler.cpu.packed_stores import looks_up
from tvm_mobilenet.compiler.precision import abilities_of
from tvm_mobilenet.hardware import target
from tvm_mobilenet.quantization.calibration import Abilities
from tvm_mobilenet.quantization.functions import argument_scale, function_in, model_of
from tvm_mobilenet.quantization.graph import graph_of, shapes_of
from tvm_mobilenet.quantization.groups import groups_of
from tvm_mobilenet.quantization.quantize import How, Quantized, quantize
from tvm_mobilenet.quantization.ranges import Histogram, choose_range
from tvm_mobilenet.quantization.running import Runner
from tvm_mobilenet.quantization.scales import rounded

RNG = np.random.default_rng(6)
W = conv(RNG, 8, 8)
PLAIN = How("minmax", correct_biases=False, equalize=False)
TABLES = replace(PLAIN, has=Abilities(tables=True))
CONV = node("Conv", ["x", "w"], ["c"])
NEXT = node("Conv", ["a", "w"], ["y"])
# the nodes between two layers, and the tensor that a table is of
FUNCTIONS: dict[str, tuple[list[onnx.NodeProto], str | None]] = {
    "SiLU": ([node("Sigmoid", ["c"], ["s"]), node("Mul", ["c", "s"], ["a"])], "c"),
    "hard-swish": ([node("HardSwish", ["c"], ["a"])], "c"),
    "hard-swish in pieces": (
        [
            node("Add", ["c", "three"], ["c3"]),
            node("Clip", ["c3", "zero", "six"], ["k"]),
            node("Mul", ["c", "k"], ["a"]),
        ],
        "c",
    ),
    "after a sum": ([node("Add", ["c", "x"], ["r"]), node("Tanh", ["r"], ["a"])], "r"),
    "after products by channel": (
        [
            node("Mul", ["c", "column"], ["k"]),
            node("Clip", ["k", "zero"], ["r"]),
            node("Mul", ["r", "column"], ["m"]),
            node("Erf", ["m"], ["a"]),
        ],
        "m",
    ),
    "cutting off": ([node("Clip", ["c", "zero", "six"], ["a"])], None),
    "hard-sigmoid": ([node("HardSigmoid", ["c"], ["a"])], None),
    "slopes by channel": ([node("PRelu", ["c", "column"], ["a"])], None),
}


def network_of(nodes: list[onnx.NodeProto]) -> onnx.ModelProto:
    weights: dict[str, Any] = {"w": W, "three": 3.0, "zero": 0.0, "six": 6.0}
    weights["column"] = np.linspace(0.5, 2, 8).reshape(8, 1, 1)
    used = {name for one in nodes for name in one.input}
    return network(nodes, {name: value for name, value in weights.items() if name in used})


def quantized(nodes: list[onnx.NodeProto], folder: Path, how: How) -> Quantized:
    x = 3 * np.random.default_rng(2).standard_normal((24, 8, 8, 8)).astype(np.float32)
    found = quantize(network_of(nodes), samples_of(x, folder), how)
    onnx.checker.check_model(found.model, full_check=True)
    return found


def rounded_tensors(model: onnx.ModelProto) -> list[str]:
    return [one.input[0] for one in model.graph.node if one.op_type == "QuantizeLinear"]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_becomes_a_table(name: str, tmp_path: Path) -> None:
    between, argument = FUNCTIONS[name]
    nodes = [CONV, *between, NEXT]
    with_tables, plain = (quantized(nodes, tmp_path, how) for how in (TABLES, PLAIN))
    assert rounded_tensors(plain.model) == ["x", "a"]
    added = [] if argument is None else [argument]
    assert rounded_tensors(with_tables.model) == ["x", *added, "a"]
    (last,) = [one for one in with_tables.report.tensors if one.layer != "x"]
    assert last.operators.endswith("(table)") == (argument is not None)
    # what is rounded once more is half as exact, and no worse
    assert with_tables.report.agreement.error < 2 * plain.report.agreement.error


def test_no_table_where_the_result_stays_float(tmp_path: Path) -> None:
    found = quantized([CONV, node("Sigmoid", ["c"], ["y"])], tmp_path, TABLES)
    assert rounded_tensors(found.model) == ["x"]


def test_a_bound_that_tables_exceed_is_held_without_them(tmp_path: Path) -> None:
    """Before any layer stays in float."""
    nodes = [CONV, *FUNCTIONS["SiLU"][0], NEXT]
    errors = [quantized(nodes, tmp_path, how).report.agreement.error for how in (TABLES, PLAIN)]
    assert errors[0] > errors[1]
    found = quantized(nodes, tmp_path, replace(TABLES, max_loss=sum(errors) / 2))
    assert rounded_tensors(found.model) == ["x", "a"]
    assert found.report.summary.float_layers == ()


@pytest.mark.parametrize("name", ["SiLU", "hard-swish"])
def test_the_range_of_an_argument_is_where_the_function_changes(name: str) -> None:
    """Values far below zero, of which hard-swish and SiLU make nothing, cost no numbers."""
    nodes = [CONV, *FUNCTIONS[name][0], NEXT]
    graph = graph_of(network_of(nodes))
    groups = groups_of(graph, shapes_of(graph.to_model()))
    function = function_in(groups[0], graph)
    assert function is not None and function.argument == "c"
    x = RNG.standard_normal(20_000) * 2 - 1
    x[:200] = -30
    y = Runner(model_of(function, graph), ["a"]).run(x.astype(np.float32))[0]
    histograms = []
    for values in (x, y):
        histograms.append(Histogram(float(values.min()), float(values.max())))
        histograms[-1].add(values)
    result = choose_range(histograms[1], "mse")

    def error(argument: Any) -> float:
        runner = Runner(model_of(function, graph), ["a"])
        (again,) = runner.run(rounded(x, argument).astype(np.float32))
        return float(np.mean(np.square(rounded(again, result) - y)))

    scale = argument_scale(function, graph, histograms[0], result)
    assert -8 < scale.low < -2 and 0.8 * x.max() < scale.high <= 1.01 * x.max()
    assert error(scale) < error(choose_range(histograms[0], "minmax")) / 4
    assert error(scale) < 4 * float(np.mean(np.square(rounded(y, result) - y)))


def test_the_targets_with_tables_are_those_with_instructions_for_them() -> None:
    with_tables = set()
    for name in target.known():
        spec = target.resolve(name)
        if spec.family == "x86":
            assert abilities_of(spec).tables == looks_up(spec.tvm_target()), name
        if abilities_of(spec).tables:
            with_tables.add(name)
    assert {"x86-icelake", "x86-znver4", "x86-znver5"} <= with_tables
    assert "x86-skylake-avx512" not in with_tables
    assert not any(name.startswith(("arm", "cuda")) for name in with_tables)
