"""PyTorch, eager and compiled, with the network rebuilt from the bundle's model configuration."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from tvm_mobilenet import models, weights
from tvm_mobilenet.benchmark.engines.protocol import EngineUnavailable, Job

if TYPE_CHECKING:
    from tvm_mobilenet.benchmark.engines.protocol import Array


def as_list(result: torch.Tensor | tuple[torch.Tensor, ...]) -> list[torch.Tensor]:
    """A module's outputs, whether it has one or several."""
    return [result] if isinstance(result, torch.Tensor) else list(result)


class PyTorch:
    """Eager PyTorch under ``inference_mode``; bf16 and fp16 by its autocast."""

    def __init__(self, job: Job) -> None:
        if job.config is None:
            raise EngineUnavailable(
                "needs one of our models; this bundle was compiled from an ONNX file, or from one "
                "of weights: pass --weights FILE"
            )
        self._config = models.from_dict(job.config)
        self._threads = job.threads
        self._weights = job.weights
        # NumPy has no bfloat16, and what is compared is float32
        self._half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(job.precision)
        self._int8 = job.precision == "int8"

    def load(self) -> None:
        if self._int8:
            raise EngineUnavailable("PyTorch has int8 where it compiles: see torch-compile")
        self._build()

    def _build(self) -> None:
        torch.set_num_threads(self._threads)
        self._module: Callable[..., Any] = (
            models.build(self._config)
            if self._weights is None
            else weights.rebuild(self._weights, self._config)
        )

    def set_inputs(self, inputs: Sequence[Array]) -> None:
        self._inputs = list(map(torch.from_numpy, inputs))

    def infer(self) -> None:
        with torch.inference_mode(), self._autocast():
            self._output = self._module(*self._inputs)

    def _autocast(self) -> torch.autocast:
        return torch.autocast("cpu", self._half, enabled=self._half is not None)

    def outputs(self) -> list[Array]:
        tensors = [one.float() if one.dtype is self._half else one for one in as_list(self._output)]
        return [np.array(tensor.numpy()) for tensor in tensors]

    def version(self) -> str:
        return str(torch.__version__)

    def close(self) -> None:
        del self._module


class TorchCompile(PyTorch):
    """``torch.compile`` with the weights frozen into the graph, as for deployment.

    The first inference compiles, so it is slow; the compiler's cache is a fresh directory, so that
    this time does not depend on what was compiled before.
    """

    def load(self) -> None:
        compiler = os.environ.get("CXX", "g++")
        if shutil.which(compiler) is None:
            raise EngineUnavailable(
                f"torch.compile needs a C++ compiler and {compiler} is not there: "
                "apt-get install g++"
            )
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = tempfile.mkdtemp(prefix="inductor-")
        import torch._inductor.config as inductor

        inductor.freezing = True
        inductor.compile_threads = 1  # no pool of compile processes beside the measurement
        self._build()
        if not self._int8:  # which is quantized for its inputs first
            self._module = torch.compile(self._module)

    def set_inputs(self, inputs: Sequence[Array]) -> None:
        super().set_inputs(inputs)
        if self._int8:
            from tvm_mobilenet.benchmark.engines import pt2e

            module = self._module
            assert isinstance(module, torch.nn.Module)
            self._module = torch.compile(pt2e.quantize(module, self._inputs))

    def infer(self) -> None:
        # Freezing does not take place under inference_mode.
        with torch.no_grad(), self._autocast():
            self._output = self._module(*self._inputs)
