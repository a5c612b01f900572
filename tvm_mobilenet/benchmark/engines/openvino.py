"""OpenVINO on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import openvino

from tvm_mobilenet.benchmark.engines.protocol import EngineUnavailable, Job

if TYPE_CHECKING:
    from tvm_mobilenet.benchmark.engines.protocol import Array


HINT = "INFERENCE_PRECISION_HINT"
HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}  # by our names of precisions


class OpenVino:
    """Latency hint, and fp32 or bf16 by request: its own default is bf16 where the CPU has it.

    What a quantized network has between its integers is in whatever it takes by itself.
    """

    def __init__(self, job: Job) -> None:
        if job.onnx is None:
            raise EngineUnavailable("needs the network as ONNX: pass --onnx FILE")
        self._path = job.onnx
        self._threads = job.threads
        hint = HINTS.get(job.precision)
        self._precision = {} if hint is None else {HINT: hint}

    def load(self) -> None:
        compiled = openvino.Core().compile_model(
            str(self._path),
            "CPU",
            {
                **self._precision,
                "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_NUM_THREADS": self._threads,
            },
        )
        taken = compiled.get_property(HINT).to_string()
        if self._precision.get(HINT, taken) != taken:
            raise EngineUnavailable(f"computes in {taken} on this CPU")
        self._request = compiled.create_infer_request()

    def set_inputs(self, inputs: Sequence[Array]) -> None:
        for index, x in enumerate(inputs):
            self._request.set_input_tensor(index, openvino.Tensor(np.ascontiguousarray(x)))

    def infer(self) -> None:
        self._request.infer()

    def outputs(self) -> list[Array]:
        return [np.array(tensor.data) for tensor in self._request.output_tensors]

    def version(self) -> str:
        return str(openvino.__version__).split("-")[0]

    def close(self) -> None:
        del self._request
