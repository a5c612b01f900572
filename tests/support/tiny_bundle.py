"""Bundles of a network of a few lines, to test what surrounds a network with."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tvm_mobilenet import bundle
from tvm_mobilenet.hardware import cpu

TVM_VERSION = "0.27.0.post1"
INPUT_SHAPE = (1, 3, 4, 4)

# ``infer`` in TensorIR: output[c] = weight[c] * sum over the channel. It goes through the
# workspace, and a last output, where there is one, is twice the input.
CLASSIFIER = """
@I.ir_module
class Module:
    @T.prim_func
    def infer(
        input: T.Buffer((1, 3, 4, 4), "float32"),
        parameters: T.Buffer((3,), "uint8"),
        workspace: T.Buffer((128,), "uint8"),
        output: T.Buffer((1, 3), "float32"),{more}
    ):
        T.func_attr({{"global_symbol": "infer", "tirx.noalias": True}})
        for c in range(3):
            workspace[c] = parameters[c]
            output[0, c] = T.float32(0)
            for h, w in T.grid(4, 4):
                output[0, c] = output[0, c] + input[0, c, h, w] * T.Cast("float32", workspace[c])
{body}
"""
SECOND_OUTPUT = """
        for c, h, w in T.grid(3, 4, 4):
            doubled[0, c, h, w] = input[0, c, h, w] * T.float32(2)
"""
# eight equal shares of some 10 ms of arithmetic each, with the classifier's signature
PARALLEL = """
@I.ir_module
class Module:
    @T.prim_func
    def infer(
        input: T.Buffer((1, 3, 4, 4), "float32"),
        parameters: T.Buffer((3,), "uint8"),
        workspace: T.Buffer((128,), "uint8"),
        output: T.Buffer((1, 8), "float32"),
    ):
        T.func_attr({"global_symbol": "infer", "tirx.noalias": True})
        for c in T.parallel(8):
            output[0, c] = input[0, 0, 0, 0]
            for step in range(10000000):
                output[0, c] = output[0, c] * T.float32(0.999) + T.float32(0.001)
"""


@functools.cache
def compiled(source: str) -> bytes:
    """The library of a module in TVMScript, for this machine's architecture."""
    import tvm
    from tvm.script import from_source

    target = {"kind": "llvm", "mtriple": f"{cpu.host_architecture()}-linux-gnu"}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.so")
        tvm.compile(from_source(source), target=target).export_library(path)
        return path.read_bytes()


def classifier(*, two_outputs: bool = False) -> bytes:
    more = '\n        doubled: T.Buffer((1, 3, 4, 4), "float32"),' if two_outputs else ""
    return compiled(CLASSIFIER.format(more=more, body=SECOND_OUTPUT if two_outputs else ""))


def manifest(*, two_outputs: bool = False, **changes: Any) -> bundle.Manifest:
    """A manifest that this machine accepts, with the fields in ``changes`` replaced."""
    pixels = bundle.Normalisation(scale=1 / 255, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    outputs = [bundle.TensorInfo("logits", (1, 3), "float32", "NC", scores="logits")]
    if two_outputs:
        outputs.append(bundle.TensorInfo("features", INPUT_SHAPE, "float32", "NCHW"))
    fields: dict[str, Any] = {
        "target": bundle.Target("test", f"{cpu.host_architecture()}-linux-gnu"),
        "cpu_features": (),
        "tvm_version": TVM_VERSION,
        "model": {"name": "tiny", "alpha": 0.25},
        "inputs": (
            bundle.TensorInfo(
                "input", INPUT_SHAPE, "float32", "NCHW", pixels, resizing=bundle.Resizing(4)
            ),
        ),
        "outputs": tuple(outputs),
        "precision": "fp32",
        "executor": "static",
        "workspace_bytes": 128,
        "layers": (
            bundle.Layer(
                "sum", "sum_4x4", tuned=True, latency_us=1.5, how="native", date="2026-01-01"
            ),
            bundle.Layer("pool", "pool_4x4", tuned=False),
        ),
    }
    return bundle.Manifest(**{**fields, **changes})


def of_a_gpu(precision: str) -> dict[str, Any]:
    """The changes to a manifest that make it one of a GPU's bundle; its library stays the CPU's."""
    target = bundle.Target("test", f"{cpu.host_architecture()}-linux-gnu", "sm_90")
    return {"target": target, "executor": "cuda", "precision": precision}


def sample_input() -> NDArray[np.float32]:
    return np.random.default_rng(7).standard_normal(INPUT_SHAPE, dtype=np.float32)


WEIGHTS = np.array([1, 2, 3], np.uint8)


def reference(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the classifier computes, in float64 before the last rounding."""
    sums: NDArray[np.float64] = x.sum((2, 3), dtype=np.float64)
    return (sums * WEIGHTS).astype(np.float32)


def write(
    path: Path, library: bytes = b"not a library", *, two_outputs: bool = False, **changes: Any
) -> bundle.Manifest:
    """Write a bundle around ``library``; bundle.write takes a file, so it goes through one."""
    x = sample_input()
    expected = [reference(x), x * 2] if two_outputs else [reference(x)]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "built.so")
        file.write_bytes(library)
        return bundle.write(
            path,
            manifest(two_outputs=two_outputs, **changes),
            library=file,
            parameters=WEIGHTS,
            sample_inputs=[x],
            expected_outputs=expected,
            tolerance=1e-5,
            licenses="Apache-2.0\n",
        )
