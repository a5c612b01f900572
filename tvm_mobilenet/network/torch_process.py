"""Our networks in PyTorch, in a process of its own.

Who compiles a network needs TVM, and of PyTorch only the network's ONNX form and what it computes.
To import the two takes a second each. So PyTorch gets a process, which builds, exports and verifies
the network while this one imports TVM, and then answers what the network makes of an input. It may
hold several networks: the first export takes twice as long as those after it.
"""

from __future__ import annotations

import shutil
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tvm_mobilenet import files, models
from tvm_mobilenet.errors import RunFailed, TvmMobilenetError
from tvm_mobilenet.processes import Child, ChildDied

Array = NDArray[np.float32]
WORKER = "tvm_mobilenet.network.torch_worker"
LOG = "pytorch.log"  # what the process prints


class TorchProcess:
    """PyTorch's process. It ends when the last reference to it or to one of its networks goes.

    It ends with this process too.
    """

    def __init__(self) -> None:
        folder = files.make_temporary_folder()
        self._child = Child(WORKER, log=folder / LOG)
        self._end = weakref.finalize(self, _end, self._child, folder)
        self._opened = 0

    @property
    def pid(self) -> int:
        return self._child.pid

    def open(
        self,
        config: models.Config,
        sample: Array,
        state: Mapping[str, Array] | None = None,
        *,
        export: bool = True,
    ) -> TorchNetwork:
        """Have it build the network of ``config`` and export it for the shape of ``sample``.

        ``state`` is its state dict, None for its random weights; ``sample`` is also what the export
        is verified on. Returns at once; what the process is
        asked next waits for it. Without ``export`` the network is only run.
        """
        self._child.send(Open(config, state, sample if export else None))
        self._opened += 1
        return TorchNetwork(self, self._opened - 1)

    def ask(self, question: Run) -> Any:
        """What it answers. Raises RunFailed where it dies, and what it raised for a person."""
        self._child.send(question)
        return self.receive()

    def receive(self) -> Any:
        """Its next answer; raises as ``ask`` does."""
        try:
            answer = self._child.receive()
        except ChildDied as died:
            words = self._child.last_words() or "it said nothing"
            said = "is memory short?" if died.of_memory else words
            raise RunFailed(f"the process that runs PyTorch {died}: {said}") from None
        if isinstance(answer, TvmMobilenetError):
            raise answer
        return answer


@dataclass(frozen=True)
class TorchNetwork:
    """A network that PyTorch's process holds, by its place among those it was asked to open."""

    process: TorchProcess
    index: int

    def onnx(self) -> bytes:
        """The exported model, serialized; call it once, where it is to be exported.

        Call it before the process is asked anything else. Raises RunFailed where the export fails
        or differs from PyTorch, or the process dies.
        """
        model: bytes = self.process.receive()
        return model

    def run(self, x: Array) -> tuple[Array, ...]:
        """The network's outputs for ``x`` (N, C, H, W). Raises RunFailed where the process dies."""
        outputs: tuple[Array, ...] = self.process.ask(Run(self.index, x))
        return outputs


@dataclass(frozen=True)
class Open:
    """Asks for a network; ``sample`` is None where it is not to be exported."""

    config: models.Config
    state: Mapping[str, Array] | None
    sample: Array | None


@dataclass(frozen=True)
class Run:
    """Asks what the network at ``index`` makes of ``x``."""

    index: int
    x: Array


def _end(child: Child, folder: Path) -> None:
    child.kill()
    shutil.rmtree(folder, ignore_errors=True)
