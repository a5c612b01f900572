"""Who runs a network on a CPU: the compiled function over planned memory, or a virtual machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tvm_mobilenet import files, tvm_runtime
from tvm_mobilenet.bundle import LIBRARY, Bundle, TensorInfo
from tvm_mobilenet.errors import BadInput, RunFailed, last_line
from tvm_mobilenet.hardware import cpu
from tvm_mobilenet.runtime import threads as thread_pool
from tvm_mobilenet.runtime.library import Context, allocate
from tvm_mobilenet.runtime.pool import ThreadPool, count_of

CPU, POOLED = 1, 2  # DLPack's device, and the virtual machine's allocator that keeps what it frees


class StaticExecutor:
    """The whole network as one compiled function: a context of the bundle's C library.

    It keeps a copy of the weights: the bundle may go while the session is open.
    """

    infer: Callable[[], object]

    def __init__(self, bundle: Bundle, threads: int | ThreadPool = 1) -> None:
        manifest = bundle.manifest
        self.context = Context(bundle, threads)
        self.threads = self.context.threads
        self.inputs = tuple(self._views("input", manifest.inputs))
        self.outputs = tuple(self._views("output", manifest.outputs))
        self.infer = self.context.infer

    def _views(self, kind: str, tensors: Sequence[TensorInfo]) -> Iterator[NDArray[Any]]:
        for index, tensor in enumerate(tensors):
            yield _view_as(self.context.tensor(kind, index, _bytes(tensor)), tensor)

    def close(self) -> None:
        """End its threads; memory goes with the last view of it."""
        self.context.close()


class VmExecutor:
    """Relax's virtual machine: it interprets the graph and calls one kernel after the other.

    For networks that are more than kernels. It allocates what lies between them as it goes, from a
    pool of its own; the weights are constants of the library.
    """

    def __init__(self, bundle: Bundle, threads: int | ThreadPool = 1) -> None:
        manifest = bundle.manifest
        self.threads = count_of(threads, manifest.executor)
        thread_pool.use(self.threads)
        self._path = bundle.path
        tensors = (*manifest.inputs, *manifest.outputs)
        blocks = allocate(bundle, [*map(_bytes, tensors)])
        views = tuple(map(_view_as, blocks, tensors))
        self.inputs = views[: len(manifest.inputs)]
        self.outputs = views[len(manifest.inputs) :]
        self.arguments = tuple(map(tvm_runtime.ffi().from_dlpack, self.inputs))
        self._module = load_module(bundle)
        try:
            machine = self._module.get_function("vm_load_executable", query_imports=True)()
            machine["vm_initialization"](CPU, 0, POOLED)
            self._main = machine["main"]
        except (AttributeError, TypeError, RuntimeError) as error:
            raise BadInput(
                f"{bundle.path}: {LIBRARY} holds no program for the virtual machine; compile it "
                "again"
            ) from error

    def infer(self) -> None:
        thread_pool.use(self.threads)  # the calling thread may be another, or set differently
        result = self._main(*self.arguments)
        results = (result,) if len(self.outputs) == 1 else tuple(result)
        for output, tensor in zip(self.outputs, results, strict=True):
            np.copyto(output, np.from_dlpack(tensor))

    def close(self) -> None:
        """Give the calling thread its CPUs back; library and memory go with the last view."""
        thread_pool.release()


def load_module(bundle: Bundle) -> Any:
    """The bundle's library, which stays loaded as long as it or a function of it lives."""
    tvm_runtime.library()
    if cpu.TILES in bundle.manifest.cpu_features and not cpu.permit_tiles():
        raise RunFailed(
            f"{bundle.path}: this system gives no permission for AMX; use Linux 5.16 or later"
        )
    tvm_ffi = tvm_runtime.ffi()
    # The dynamic loader takes a path it knows for the library it has already: a bundle compiled
    # again to the same path would run the old code while an old session is open. So every load
    # goes by a path of its own.
    with files.temporary_folder() as folder:
        link = folder / LIBRARY
        link.symlink_to(bundle.library.resolve())
        try:
            module = tvm_ffi.load_module(link, keep_module_alive=False)
        except (OSError, RuntimeError) as error:
            raise RunFailed(
                f"{bundle.path}: {LIBRARY} does not load: {last_line(error)}"
            ) from error
    return module


def _bytes(tensor: TensorInfo) -> int:
    return int(np.prod(tensor.shape)) * np.dtype(tensor.dtype).itemsize


def _view_as(block: NDArray[np.uint8], tensor: TensorInfo) -> NDArray[Any]:
    return block.view(tensor.dtype).reshape(tensor.shape)
