"""One of our networks in PyTorch, in a process of its own.

Who compiles a network needs TVM, and of PyTorch only the network's ONNX form and what it computes.
To import the two takes a second each. So PyTorch gets a process, which builds, exports and verifies
the network while this one imports TVM, and then answers what the network makes of an input.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import weakref
from dataclasses import asdict
from multiprocessing.connection import Connection, Pipe
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from tvm_mobilenet import models
from tvm_mobilenet.errors import RunFailed, TvmMobilenetError

Array = NDArray[np.float32]


class TorchProcess:
    """The network of ``config`` for so many images; ``sample`` is what its export is verified on.

    Without ``export`` it is only run. The process ends when the last reference to this object
    goes, or this process does.
    """

    def __init__(
        self, config: models.MobileNetConfig, sample: Array, *, export: bool = True
    ) -> None:
        ours, theirs = Pipe()
        self._pipe = ours
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed by _end
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=self._said,
                stderr=self._said,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C is for the parent, whose end is its own
            )
        self._end = weakref.finalize(self, _end, self._process, ours, self._said)
        self._send((json.dumps(asdict(config)), sample if export else None))

    @property
    def pid(self) -> int:
        return self._process.pid

    def onnx(self) -> bytes:
        """The exported model, serialized; call it once, first, where it is to be exported.

        Raises RunFailed where the export fails or differs from PyTorch, or the process dies.
        """
        model: bytes = self._receive()
        return model

    def run(self, x: Array) -> tuple[Array, ...]:
        """The network's outputs for ``x`` (N, C, H, W). Raises RunFailed where the process dies."""
        self._send(x)
        outputs: tuple[Array, ...] = self._receive()
        return outputs

    def _send(self, message: object) -> None:
        with contextlib.suppress(OSError):  # what became of it is told where it should answer
            self._pipe.send(message)

    def _receive(self) -> Any:
        try:
            answer = self._pipe.recv()
        except (EOFError, OSError):
            raise RunFailed(f"the process that runs PyTorch {self._death()}") from None
        if isinstance(answer, TvmMobilenetError):
            raise answer
        return answer

    def _death(self) -> str:
        status = self._process.wait()
        if status < 0:
            return f"was ended by {signal.Signals(-status).name}; is memory short?"
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        return f"ended with status {status}: {lines[-1] if lines else 'it said nothing'}"


def _end(process: subprocess.Popen[bytes], pipe: Connection, said: IO[bytes]) -> None:
    pipe.close()
    process.kill()
    process.wait()
    said.close()


def serve(pipe: Connection) -> None:
    """The process itself: one network, exported, then run on whatever comes, until nothing does."""
    import torch

    from tvm_mobilenet.network import onnx_export

    config, sample = pipe.recv()
    network = models.build(models.MobileNetConfig.from_dict(json.loads(config)))
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
    with contextlib.suppress(EOFError, ConnectionError), Connection(int(sys.argv[1])) as connection:
        serve(connection)
