"""ONNX Runtime on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime

from tvm_mobilenet.benchmark.engines.onnx_worker import bind
from tvm_mobilenet.benchmark.engines.protocol import EngineUnavailable, Job

if TYPE_CHECKING:
    from tvm_mobilenet.benchmark.engines.protocol import Array


class OnnxRuntime:
    """All graph optimizations; inputs and outputs bound, so that ``infer`` copies neither."""

    def __init__(self, job: Job) -> None:
        if job.onnx is None:
            raise EngineUnavailable("needs the network as ONNX: pass --onnx FILE")
        if job.precision in ("bf16", "fp16"):
            raise EngineUnavailable(f"has no {job.precision} on CPUs")
        self._path = job.onnx
        self._threads = job.threads

    def load(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 3  # errors only
        self._session = onnxruntime.InferenceSession(
            str(self._path), options, providers=["CPUExecutionProvider"]
        )
        self._binding = self._session.io_binding()

    def set_inputs(self, inputs: Sequence[Array]) -> None:
        self._bound = bind(self._session, self._binding, inputs)

    def infer(self) -> None:
        self._session.run_with_iobinding(self._binding)

    def outputs(self) -> list[Array]:
        return [np.array(value.numpy()) for value in self._binding.get_outputs()]

    def version(self) -> str:
        return str(onnxruntime.__version__)

    def close(self) -> None:
        del self._bound, self._binding, self._session
