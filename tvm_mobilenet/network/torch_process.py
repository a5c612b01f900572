"""One of our networks in PyTorch, in a process of its own.

Who compiles a network needs TVM, and of PyTorch only the network's ONNX form and what it computes.
To import the two takes a second each. So PyTorch gets a process, which builds, exports and verifies
the network while this one imports TVM, and then answers what the network makes of an input.
"""

from __future__ import annotations

import contextlib
import shutil
import weakref
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tvm_mobilenet import files, models
from tvm_mobilenet.errors import RunFailed, TvmMobilenetError
from tvm_mobilenet.processes import Child, ChildDied, connect_to_parent

Array = NDArray[np.float32]
LOG = "pytorch.log"  # what the process prints


class TorchProcess:
    """The network of ``config`` for so many images; ``sample`` is what its export is verified on.

    Without ``export`` it is only run. The process ends when the last reference to this object
    goes, or this process does.
    """

    def __init__(self, config: models.Config, sample: Array, *, export: bool = True) -> None:
        folder = files.make_temporary_folder()
        self._child = Child(__name__, log=folder / LOG)
        self._end = weakref.finalize(self, _end, self._child, folder)
        self._child.send((config, sample if export else None))

    @property
    def pid(self) -> int:
        return self._child.pid

    def onnx(self) -> bytes:
        """The exported model, serialized; call it once, first, where it is to be exported.

        Raises RunFailed where the export fails or differs from PyTorch, or the process dies.
        """
        model: bytes = self._receive()
        return model

    def run(self, x: Array) -> tuple[Array, ...]:
        """The network's outputs for ``x`` (N, C, H, W). Raises RunFailed where the process dies."""
        self._child.send(x)
        outputs: tuple[Array, ...] = self._receive()
        return outputs

    def _receive(self) -> Any:
        try:
            answer = self._child.receive()
        except ChildDied as died:
            words = self._child.last_words() or "it said nothing"
            said = "is memory short?" if "SIGKILL" in str(died) else words
            raise RunFailed(f"the process that runs PyTorch {died}: {said}") from None
        if isinstance(answer, TvmMobilenetError):
            raise answer
        return answer


def _end(child: Child, folder: Path) -> None:
    child.kill()
    shutil.rmtree(folder, ignore_errors=True)


def serve() -> None:
    """The process itself: one network, exported, then run on whatever comes, until nothing does."""
    import torch

    from tvm_mobilenet.network import onnx_export

    pipe = connect_to_parent()
    config, sample = pipe.recv()
    network = models.build(config)
    if sample is not None:
        try:
            exported = onnx_export.export(network, sample.shape)
            onnx_export.verify(exported, network, sample)
        except TvmMobilenetError as error:
            pipe.send(error)
            return
        pipe.send(exported.SerializeToString())
    while True:
        x = pipe.recv()
        with torch.inference_mode():
            result = network(torch.from_numpy(x))
        outputs = result if isinstance(result, tuple) else (result,)
        pipe.send(tuple(output.numpy() for output in outputs))


if __name__ == "__main__":
    with contextlib.suppress(EOFError, ConnectionError):
        serve()
