"""Who runs a network on a CPU: the compiled function over planned memory, or a virtual machine."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tvm_mobilenet import files, tvm_runtime
from tvm_mobilenet.bundle import LIBRARY, PARAMETERS, Bundle, TensorInfo
from tvm_mobilenet.errors import BadInput, RunFailed, last_line
from tvm_mobilenet.runtime import arena

CPU, POOLED = 1, 2  # DLPack's device, and the virtual machine's allocator that keeps what it frees


class StaticExecutor:
    """The whole network as one compiled function over one arena.

    The function is ``infer(input, ..., parameters, workspace, output, ...)``; parameters and
    workspace are 1-D uint8. The arena holds, in this order, parameters, workspace, inputs and
    outputs. Its DLPack tensors are made once, so that an inference is a single call.
    """

    infer: Callable[[], object]

    def __init__(self, bundle: Bundle) -> None:
        manifest = bundle.manifest
        self._path = bundle.path
        self._module = load_module(bundle)
        tensors = (*manifest.inputs, *manifest.outputs)
        sizes = [manifest.parameters_bytes, manifest.workspace_bytes, *map(_bytes, tensors)]
        parameters, workspace, *blocks = _allocate(bundle, sizes)
        _read_into(bundle.parameters, parameters)
        views = tuple(map(_view_as, blocks, tensors))
        self.inputs = views[: len(manifest.inputs)]
        self.outputs = views[len(manifest.inputs) :]
        arguments = (*self.inputs, parameters, workspace, *self.outputs)
        self.arguments = tuple(map(tvm_runtime.ffi().from_dlpack, arguments))
        self.parameters = parameters
        self.infer = functools.partial(self.function("infer"), *self.arguments)

    def close(self) -> None:
        """Nothing: library and memory go with the last view of them."""

    def function(self, name: str) -> Callable[..., None]:
        """An exported function of the library. Raises BadInput where there is none of that name."""
        try:
            function: Callable[..., None] = self._module[name]
        except AttributeError as error:
            raise BadInput(
                f"{self._path}: {LIBRARY} exports no function {name}; compile it again"
            ) from error
        return function


class VmExecutor:
    """Relax's virtual machine: it interprets the graph and calls one kernel after the other.

    For networks that are more than kernels. It allocates what lies between them as it goes, from a
    pool of its own; the weights are constants of the library.
    """

    def __init__(self, bundle: Bundle) -> None:
        manifest = bundle.manifest
        self._path = bundle.path
        tensors = (*manifest.inputs, *manifest.outputs)
        blocks = _allocate(bundle, [*map(_bytes, tensors)])
        views = tuple(map(_view_as, blocks, tensors))
        self.inputs = views[: len(manifest.inputs)]
        self.outputs = views[len(manifest.inputs) :]
        self.parameters = np.empty(0, np.uint8)
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
        result = self._main(*self.arguments)
        results = (result,) if len(self.outputs) == 1 else tuple(result)
        for output, tensor in zip(self.outputs, results, strict=True):
            np.copyto(output, np.from_dlpack(tensor))

    def close(self) -> None:
        """Nothing: library and memory go with the last view of them."""

    def function(self, name: str) -> Callable[..., None]:
        """The virtual machine's bundle exports its network alone."""
        raise BadInput(
            f"{self._path}: a bundle for the virtual machine has no function {name}; compile it "
            "with --executor static"
        )


def _allocate(bundle: Bundle, sizes: list[int]) -> list[NDArray[np.uint8]]:
    """Blocks of one arena. Raises RunFailed where there is no memory for them."""
    try:
        return arena.allocate(sizes)
    except (OSError, OverflowError, MemoryError) as error:
        raise RunFailed(
            f"{bundle.path}: no memory for {sum(sizes)} bytes of weights and workspace: {error}"
        ) from error


def load_module(bundle: Bundle) -> Any:
    """The bundle's library, which stays loaded as long as it or a function of it lives."""
    tvm_runtime.library()
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


def _read_into(file: Path, block: NDArray[np.uint8]) -> None:
    with file.open("rb", buffering=0) as stream:
        filled = 0
        # a single read ends early at 2 GiB, or on a signal
        while filled < block.size and (count := stream.readinto(block.data[filled:])):
            filled += count
    if filled < block.size:
        raise BadInput(f"{file}: {PARAMETERS} ended after {filled} of {block.size} bytes")
