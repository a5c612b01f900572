"""The kernel for TopK: order, ties and both directions, as NumPy's stable sort has them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm
from numpy.typing import NDArray
from onnx import helper
from support import foreign_onnx, gpu_networks
from support.foreign_onnx import FLOAT, INT64
from tvm import relax, tirx

from tvm_mobilenet.building.bundles import build_bundle
from tvm_mobilenet.compiler.options import CompileOptions, Executor
from tvm_mobilenet.hardware import target
from tvm_mobilenet.kernels.cpu.topk import topk as cpu_topk
from tvm_mobilenet.kernels.gpu.topk import topk as gpu_topk
from tvm_mobilenet.kernels.topk import TopK
from tvm_mobilenet.network import source
from tvm_mobilenet.runtime.session import load

node = helper.make_node
Kernel = Callable[[TopK], tirx.PrimFunc]


def run(topk: Kernel, data: NDArray[Any], count: int, *, largest: bool) -> list[Any]:
    rows, size = data.shape
    kernel = topk(TopK(rows, size, count, str(data.dtype), "int64", largest))
    library = tvm.compile(kernel.with_attr("global_symbol", "main"), target="llvm")
    outputs = [
        tvm.runtime.tensor(np.zeros((rows, count), dtype)) for dtype in (data.dtype, np.int64)
    ]
    library["main"](tvm.runtime.tensor(data), *outputs)
    return [output.numpy() for output in outputs]


@pytest.mark.parametrize("topk", [cpu_topk, gpu_topk], ids=["CPU", "GPU"])
@pytest.mark.parametrize("largest", [True, False])
@pytest.mark.parametrize(
    ("size", "count", "dtype"),
    [(7, 7, "float32"), (40, 5, "float32"), (1, 1, "float32"), (40, 5, "int64"), (40, 5, "uint8")],
)
def test_it_is_a_stable_sort(
    size: int, count: int, dtype: str, topk: Kernel, *, largest: bool, rng: np.random.Generator
) -> None:
    numbers = rng.integers(0, 8, (3, size)) - (0 if dtype == "uint8" else 4)
    data = numbers.astype(dtype)  # so few that many are equal
    values, indices = run(topk, data, count, largest=largest)
    order = np.argsort(-numbers if largest else numbers, axis=1, kind="stable")[:, :count]
    np.testing.assert_array_equal(indices, order)
    np.testing.assert_array_equal(values, np.take_along_axis(data, order, 1))


SIZES: dict[str, tuple[Executor, tuple[int, int]]] = {
    "static, channels of one pixel": ("static", (1, 1)),
    "vm": ("vm", (1, 1)),
    "over channels of an image": ("static", (4, 3)),
    "in an order left open": ("static", (1, 1)),
}


@pytest.mark.parametrize("kind", SIZES)
def test_in_a_network_of_a_batch(kind: str, tmp_path: Path, rng: np.random.Generator) -> None:
    executor, size = SIZES[kind]
    in_order = int("left open" not in kind)
    nodes = [
        node("Relu" if size != (1, 1) else "GlobalAveragePool", ["x"], ["p"]),
        node("TopK", ["p", "k"], ["best", "which"], axis=1, largest=0, sorted=in_order),
    ]
    outputs = {"best": FLOAT, "which": INT64}
    model = foreign_onnx.network({"x": (2, 5, 4, 3)}, nodes, outputs, {"k": np.array([3])})
    network = source.from_onnx(foreign_onnx.save(model, tmp_path))
    options = CompileOptions(target.resolve("x86"), executor=executor)
    x = rng.standard_normal((2, 5, 4, 3), dtype=np.float32)
    with load(build_bundle(network, options, tmp_path / "out").path) as session:
        for got, right in zip(session.run(x), network.reference(x), strict=True):
            assert (got.dtype, got.shape) == (right.dtype, right.shape)
            np.testing.assert_allclose(got, right, rtol=1e-5)


def test_on_a_gpu(tmp_path: Path, rng: np.random.Generator, monkeypatch: Any) -> None:
    data = (rng.integers(0, 50, (2, 300)) / 8).astype(np.float32)
    x = relax.Var("x", relax.TensorType(data.shape, "float32"))
    block = relax.BlockBuilder()
    with block.function("main", [x]):
        with block.dataflow():
            best = block.emit(relax.op.topk(x, 5, axis=1, ret_type="both", dtype="int64"))
            outputs = [block.emit_output(best[i]) for i in range(2)]
        block.emit_func_output(relax.Tuple(outputs))
    order = np.argsort(-data, axis=1, kind="stable")[:, :5]
    right = (np.take_along_axis(data, order, 1), order.astype(np.int64))
    found = gpu_networks.outputs_of(block.get(), [data], right, tmp_path, monkeypatch)
    for got, expected in zip(found, right, strict=True):
        np.testing.assert_array_equal(got, expected)
