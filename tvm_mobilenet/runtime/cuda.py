"""Runs a bundle for an NVIDIA GPU: one CUDA graph, by the host's half inside its library.

Needs numpy and the NVIDIA driver: neither TVM, nor the CUDA toolkit or runtime. The library itself
(cuda/host.c) speaks to the driver; this hands it the weights and gives out its pinned memory.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tvm_mobilenet import files
from tvm_mobilenet.bundle import LIBRARY, Bundle, TensorInfo
from tvm_mobilenet.errors import BadInput, RunFailed
from tvm_mobilenet.hardware import gpu
from tvm_mobilenet.runtime.pool import ThreadPool, count_of

MESSAGE_BYTES = 512
WRONG_MACHINE, NO_MEMORY = 2, 3  # host.c's; anything else but 0 is a failure
PREFIX = "tvm_mobilenet_"


class OutOfMemory(RunFailed):
    """The GPU has not enough free memory."""


def raise_for(status: int, line: str) -> None:
    """Raise what a function of host.c stands for that returned ``status``: nothing where that is 0.

    BadInput where this machine cannot run the library, OutOfMemory, else RunFailed.
    """
    if status == WRONG_MACHINE:
        raise BadInput(line)
    if status == NO_MEMORY:
        raise OutOfMemory(line)
    if status:
        raise RunFailed(line)


class OpenLibrary:
    """A library of ours with its weights on the GPU, and what host.c exports of it.

    Raises BadInput where this machine cannot run it, RunFailed where it fails; both name ``path``,
    which may be a word for the library.
    """

    def __init__(
        self, library: Path, parameters: NDArray[np.uint8], path: Path | str | None = None
    ) -> None:
        self._path = path or library
        self._session = ctypes.c_void_p()
        self._message = ctypes.create_string_buffer(MESSAGE_BYTES)
        self._library = _load(library, self._path)
        self._check(
            self._library.tvm_mobilenet_open(
                gpu.DRIVER.encode(),
                0,
                ctypes.c_void_p(parameters.ctypes.data),
                ctypes.byref(self._session),
                self._message,
                ctypes.c_size_t(MESSAGE_BYTES),
            )
        )
        self._infer = self._library.tvm_mobilenet_infer
        self._infer.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t)

    def infer(self) -> None:
        """One inference, end to end."""
        status = self._infer(self._session, self._message, MESSAGE_BYTES)
        if status:
            self._check(status)

    def kernel_milliseconds(self, runs: int) -> NDArray[np.float32]:
        """Of the kernels alone, by the GPU's own clock: ``runs`` samples, one after the other."""
        samples = np.empty(runs, np.float32)
        self._measure("time", samples, ctypes.c_int(runs))
        return samples

    def launch_milliseconds(self, launches: int) -> NDArray[np.float32]:
        """Of every launch by itself, in order, once."""
        samples = np.empty(launches, np.float32)
        self._measure("profile", samples)
        return samples

    def pinned(self, number: int, size: int) -> NDArray[np.uint8]:
        """The host's memory of an input, or after them of an output, by its place in that order.

        It has ``size`` bytes, until ``close``.
        """
        address = self._library.tvm_mobilenet_buffer(self._session, number)
        block: NDArray[np.uint8] = np.ctypeslib.as_array(
            (ctypes.c_uint8 * size).from_address(address)
        )
        return block

    def close(self) -> None:
        """Give the memory back, on the GPU and what was ``pinned``."""
        if self._session:
            self._library.tvm_mobilenet_close(self._session)
        self._session = ctypes.c_void_p()

    def _measure(self, name: str, samples: NDArray[np.float32], *arguments: Any) -> None:
        function = getattr(self._library, PREFIX + name)
        self._check(
            function(
                self._session,
                *arguments,
                ctypes.c_void_p(samples.ctypes.data),
                self._message,
                ctypes.c_size_t(MESSAGE_BYTES),
            )
        )

    def _check(self, status: int) -> None:
        raise_for(status, f"{self._path}: {self._message.value.decode(errors='replace')}")


class CudaExecutor(OpenLibrary):
    """The whole network as one graph: input to the GPU, kernels, outputs back.

    ``inputs`` and ``outputs`` are pinned host memory, which goes with ``close``.
    """

    def __init__(self, bundle: Bundle, threads: int | ThreadPool = 1) -> None:
        self.threads = count_of(threads, bundle.manifest.executor)
        self.parameters: NDArray[np.uint8] = np.fromfile(bundle.parameters, np.uint8)
        super().__init__(bundle.library, self.parameters, bundle.path)
        tensors = (*bundle.manifest.inputs, *bundle.manifest.outputs)
        views = tuple(self._tensor(i, info) for i, info in enumerate(tensors))
        inputs = len(bundle.manifest.inputs)
        self.inputs: tuple[NDArray[Any], ...] = views[:inputs]
        self.outputs: tuple[NDArray[Any], ...] = views[inputs:]

    def close(self) -> None:
        """Give the GPU's memory back; ``inputs`` and ``outputs`` are not to be touched after."""
        super().close()
        self.inputs, self.outputs = (), ()

    def _tensor(self, number: int, info: TensorInfo) -> NDArray[Any]:
        size = int(np.prod(info.shape)) * np.dtype(info.dtype).itemsize
        return self.pinned(number, size).view(info.dtype).reshape(info.shape)


def _load(file: Path, path: Path | str) -> ctypes.CDLL:
    # by a path of its own each time: see load_module in cpu.py on one compiled again to its path
    try:
        with files.temporary_folder() as folder:
            link = folder / LIBRARY
            link.symlink_to(file.resolve())
            library = ctypes.CDLL(str(link))
        library.tvm_mobilenet_buffer.restype = ctypes.c_void_p
        library.tvm_mobilenet_close.restype = None
    except (OSError, AttributeError) as error:
        raise RunFailed(f"{path}: {LIBRARY} does not load: {error}") from error
    return library
