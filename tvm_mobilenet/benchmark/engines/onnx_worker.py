"""ONNX Runtime in a process of its own on another machine: this file alone is sent there.

Each line of stdin is a request, each line of stdout its answer, both JSON:

    {"load": "model.onnx", "threads": 4}   → {"load_ms": 31.4, "version": "1.19.2"}
    {"input": "x.npz"}                     → {"first_run_ms": 9.7}       one inference of it
    {"unrecorded": 3, "runs": 10}          → {"times_ms": [9.1, …]}      inferences of the same
    {"outputs": "y.npz"}                   → {}                          the last one's, in order

An answer {"error": "…"} says why a request failed; the process then ends, as it does with stdin.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnxruntime

# numpy's names of the types that outputs may have
DTYPES = {"float": "float32", "float16": "float16", "double": "float64"}


def bind(session: Any, binding: Any, inputs: Sequence[Any]) -> list[Any]:
    """Bind the session's inputs, in its order, and memory for its outputs; what to keep alive."""
    kept = []
    for info, x in zip(session.get_inputs(), inputs, strict=True):
        value = onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(x))
        binding.bind_ortvalue_input(info.name, value)
        kept.append(value)
    for output in session.get_outputs():
        if not all(isinstance(size, int) for size in output.shape):
            binding.bind_output(output.name, "cpu")  # of a size that shows when it runs
            continue
        kind = output.type.removeprefix("tensor(").removesuffix(")")
        dtype = np.dtype(DTYPES.get(kind, kind)).type
        value = onnxruntime.OrtValue.ortvalue_from_shape_and_type(output.shape, dtype)
        binding.bind_ortvalue_output(output.name, value)
        kept.append(value)
    return kept


class Worker:
    """Inputs and outputs are bound once, so that an inference copies neither."""

    def load(self, model: str, threads: int) -> dict[str, Any]:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 3  # errors only
        begin = time.perf_counter()
        self.session = onnxruntime.InferenceSession(
            model, options, providers=["CPUExecutionProvider"]
        )
        self.binding = self.session.io_binding()
        load_ms = (time.perf_counter() - begin) * 1e3
        return {"load_ms": load_ms, "version": onnxruntime.__version__}

    def input(self, file: str) -> dict[str, Any]:
        with np.load(file) as inputs:
            self.bound = bind(self.session, self.binding, [inputs[name] for name in inputs.files])
        return {"first_run_ms": self.timed()}

    def runs(self, unrecorded: int, runs: int) -> dict[str, Any]:
        for _ in range(unrecorded):
            self.timed()
        return {"times_ms": [self.timed() for _ in range(runs)]}

    def outputs(self, file: str) -> dict[str, Any]:
        np.savez(file, *(value.numpy() for value in self.binding.get_outputs()))
        return {}

    def timed(self) -> float:
        """One inference, in ms."""
        begin = time.perf_counter_ns()
        self.session.run_with_iobinding(self.binding)
        return (time.perf_counter_ns() - begin) / 1e6

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        kinds: dict[str, Callable[[], dict[str, Any]]] = {
            "load": lambda: self.load(request["load"], request["threads"]),
            "input": lambda: self.input(request["input"]),
            "runs": lambda: self.runs(request["unrecorded"], request["runs"]),
            "outputs": lambda: self.outputs(request["outputs"]),
        }
        return next(kinds[name]() for name in kinds if name in request)


def main() -> None:
    worker = Worker()
    for line in sys.stdin:
        try:
            answer = worker.answer(json.loads(line))
        except Exception as error:  # whatever the runtime raised is told, and ends the process
            print(json.dumps({"error": f"{type(error).__name__}: {error}"}), flush=True)
            sys.exit(1)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
