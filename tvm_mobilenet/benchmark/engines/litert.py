"""LiteRT (TensorFlow Lite) with its XNNPACK delegate, which it takes by itself on a CPU."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ai_edge_litert.interpreter import Interpreter

from tvm_mobilenet.benchmark.engines.protocol import EngineUnavailable, Job
from tvm_mobilenet.errors import last_line

if TYPE_CHECKING:
    from tvm_mobilenet.benchmark.engines.protocol import Array

CONVERT = """
import json, sys
import litert_torch, torch
from tvm_mobilenet import models

config, shape, path = json.loads(sys.argv[1])
module = models.build(models.from_dict(config))
litert_torch.convert(module, (torch.zeros(shape),)).export(path)
"""


class LiteRt:
    """The network as PyTorch has it, converted for the input's shape.

    Converting takes 15 s and half a gigabyte, once, on the desk: it is done in a process of its
    own before the first inference, and is in neither the time to load nor the memory.
    """

    def __init__(self, job: Job) -> None:
        if job.config is None:
            raise EngineUnavailable(
                "needs one of our models; this bundle was compiled from an ONNX file"
            )
        self._config = job.config
        self._threads = job.threads

    def load(self) -> None:
        """Nothing: the interpreter is made for one shape."""

    def set_inputs(self, inputs: Sequence[Array]) -> None:
        (x,) = inputs  # of one of our models
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "network.tflite")
            convert(self._config, x.shape, path)
            self._interpreter = Interpreter(model_path=str(path), num_threads=self._threads)
            self._interpreter.allocate_tensors()
        (only,) = self._interpreter.get_input_details()
        self._interpreter.set_tensor(only["index"], x)

    def infer(self) -> None:
        self._interpreter.invoke()

    def outputs(self) -> list[Array]:
        details = self._interpreter.get_output_details()
        return [self._interpreter.get_tensor(one["index"]) for one in details]

    def version(self) -> str:
        return version("ai-edge-litert")

    def close(self) -> None:
        del self._interpreter


def convert(config: dict[str, Any], shape: tuple[int, ...], path: Path) -> None:
    """Write the network for inputs of ``shape`` (N, C, H, W) to ``path``."""
    what = json.dumps([config, shape, str(path)])
    done = subprocess.run(
        [sys.executable, "-c", CONVERT, what], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    if done.returncode != 0:
        reason = last_line(done.stderr.decode(errors="replace")) or "no message"
        raise EngineUnavailable(f"litert_torch cannot convert this network: {reason}")
