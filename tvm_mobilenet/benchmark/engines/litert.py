"""LiteRT (TensorFlow Lite) with its XNNPACK delegate, which it takes by itself on a CPU."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from tvm_mobilenet.benchmark.engines.protocol import EngineUnavailable, Job

if TYPE_CHECKING:
    from tvm_mobilenet.benchmark.engines.protocol import Array


class LiteRt:
    """The network as PyTorch has it, converted (tflite_file.py).

    A file in int8 takes and gives integers: floats become integers and these floats again outside
    what is timed.
    """

    def __init__(self, job: Job) -> None:
        if job.precision in ("bf16", "fp16"):
            raise EngineUnavailable(f"has no {job.precision} on CPUs")
        if job.tflite is None:
            raise EngineUnavailable("needs the network as LiteRT's file")
        self._path = job.tflite
        self._threads = job.threads

    def load(self) -> None:
        self._interpreter = Interpreter(str(self._path), num_threads=self._threads)
        self._interpreter.allocate_tensors()

    def set_inputs(self, inputs: Sequence[Array]) -> None:
        details = self._interpreter.get_input_details()
        for detail, x in zip(details, inputs, strict=True):
            self._interpreter.set_tensor(detail["index"], _stored(x, detail))

    def infer(self) -> None:
        self._interpreter.invoke()

    def outputs(self) -> list[Array]:
        details = self._interpreter.get_output_details()
        return [_real(self._interpreter.get_tensor(one["index"]), one) for one in details]

    def version(self) -> str:
        return version("ai-edge-litert")

    def close(self) -> None:
        del self._interpreter


def _stored(x: Array, detail: dict[str, Any]) -> Array:
    """``x`` as the tensor holds it."""
    dtype = np.dtype(detail["dtype"])
    if dtype.kind == "f":
        return x
    scale, zero_point = detail["quantization"]
    limits = np.iinfo(dtype)
    integers: Array = np.clip(np.rint(x / scale) + zero_point, limits.min, limits.max)
    return integers.astype(dtype)


def _real(y: Array, detail: dict[str, Any]) -> Array:
    """What a tensor's content ``y`` stands for."""
    if y.dtype.kind == "f":
        return y
    scale, zero_point = detail["quantization"]
    reals: Array = (y.astype(np.float32) - zero_point) * scale
    return reals.astype(np.float32)
