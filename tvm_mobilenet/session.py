"""A loaded bundle: arrays in, arrays out, and nothing but the kernels in between."""

from __future__ import annotations

import functools
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tvm_mobilenet import arena, thread_pool, tvm_runtime
from tvm_mobilenet.bundle import LIBRARY, PARAMETERS, Bundle, Manifest, TensorInfo, open_bundle
from tvm_mobilenet.cuda_executor import CudaExecutor
from tvm_mobilenet.errors import BadInput, RunFailed


class Executor(Protocol):
    """Runs one network over buffers of its own."""

    input: NDArray[Any]
    outputs: tuple[NDArray[Any], ...]
    arguments: tuple[Any, ...]  # what ``infer`` passes: DLPack tensors over the arena
    parameters: NDArray[np.uint8]

    @property
    def infer(self) -> Callable[[], object]: ...  # reads ``input``, fills ``outputs``

    def function(self, name: str) -> Callable[..., None]: ...

    def close(self) -> None: ...


class StaticExecutor:
    """The whole network as one compiled function over one arena.

    The function is ``infer(input, parameters, workspace, output, ...)``; parameters and workspace
    are 1-D uint8. The arena holds, in this order, parameters, workspace, input and outputs. Its
    DLPack tensors are made once, so that an inference is a single call.
    """

    infer: Callable[[], object]

    def __init__(self, bundle: Bundle) -> None:
        manifest = bundle.manifest
        self._path = bundle.path
        self._module = _load_module(bundle)
        tensors = (*manifest.inputs, *manifest.outputs)
        sizes = [manifest.parameters_bytes, manifest.workspace_bytes, *map(_bytes, tensors)]
        try:
            parameters, workspace, *blocks = arena.allocate(sizes)
        except (OSError, OverflowError, MemoryError) as error:
            raise RunFailed(
                f"{bundle.path}: no memory for {sum(sizes)} bytes of weights and workspace: {error}"
            ) from error
        _read_into(bundle.parameters, parameters)
        self.input, *outputs = map(_typed, blocks, tensors)
        self.outputs = tuple(outputs)
        arguments = (self.input, parameters, workspace, *self.outputs)
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


# "vm", Relax's virtual machine over the same kernels, would be another entry
EXECUTORS: dict[str, Callable[[Bundle], Executor]] = {
    "static": StaticExecutor,
    "cuda": CudaExecutor,
}


class Session:
    """A bundle ready to run. Close it, or use it as a context manager.

    ``run`` may be called from several threads, and takes one at a time. ``input`` and ``outputs``
    are the arrays that the compiled code itself reads and writes: fill ``input``, call
    ``infer_in_place`` and read ``outputs`` to run without a copy, from one thread.
    """

    def __init__(self, bundle: Bundle, threads: int = 1) -> None:
        self.bundle = bundle
        self.manifest: Manifest = bundle.manifest
        self.threads = threads
        if self.manifest.executor not in EXECUTORS:
            raise BadInput(
                f"{bundle.path}: executor {self.manifest.executor!r} is not known here; "
                f"wanted {' or '.join(EXECUTORS)}; update tvm-mobilenet"
            )
        self._on_cpu = self.manifest.target.gpu_arch is None
        if self._on_cpu:  # else neither TVM's threads nor its runtime are needed
            thread_pool.use(threads)
        executor = EXECUTORS[self.manifest.executor](bundle)
        self._executor: Executor | None = executor
        self.input = executor.input
        self.outputs = executor.outputs
        self._shape, self._dtype = self.input.shape, self.input.dtype
        self._infer: Callable[[], object] | None = executor.infer
        self._one_at_a_time = threading.Lock()

    @property
    def executor(self) -> Executor:
        """Who runs the network, for those that measure it. Raises RunFailed where closed."""
        self._check_open()
        assert self._executor is not None
        return self._executor

    @property
    def output(self) -> NDArray[Any]:
        """The first output, which is the only one of a classifier."""
        return self.outputs[0]

    def run(self, x: NDArray[Any]) -> NDArray[Any] | tuple[NDArray[Any], ...]:
        """The network's output for ``x``, or a tuple where it has several; the caller's to keep.

        ``x`` has the manifest's input shape (N, C, H, W) and dtype; BadInput where it has not.
        """
        if x.shape != self._shape or x.dtype != self._dtype:
            raise BadInput(mismatch(x, self.manifest.inputs[0]))
        with self._one_at_a_time:
            self._check_open()
            np.copyto(self.input, x)
            self.infer_in_place()
            results = tuple(output.copy() for output in self.outputs)
        return results if len(results) > 1 else results[0]

    def infer_in_place(self) -> None:
        """Run on what ``input`` holds and leave the result in ``outputs``."""
        infer = self._check_open()
        if self._on_cpu:
            thread_pool.use(self.threads)  # the calling thread may be another, or set differently
        try:
            infer()
        except Exception as error:  # whatever the compiled code or TVM raised
            raise RunFailed(f"{self.bundle.path}: infer failed: {_last_line(error)}") from error

    def close(self) -> None:
        """Let go of library, memory and CPU. Arrays that ``run`` returned stay valid."""
        if self._on_cpu:
            thread_pool.release()
        executor, self._infer, self._executor = self._executor, None, None
        if executor is not None:
            executor.close()
        self.bundle.close()
        # what the caller still holds of these views keeps the arena alive
        self.input = np.empty(0, self._dtype)
        self.outputs = ()

    def _check_open(self) -> Callable[[], object]:
        if self._infer is None:
            raise RunFailed(f"{self.bundle.path}: this session is closed; load the bundle again")
        return self._infer

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def load(path: str | Path, threads: int = 1) -> Session:
    """Load the bundle at ``path`` to run on ``threads`` threads.

    Raises BadInput for a bundle that is damaged or for another machine, and for more threads than
    this process may use; RunFailed where TVM's runtime is not installed or the library does not
    load.
    """
    bundle = open_bundle(path)
    try:
        return Session(bundle, threads)
    except BaseException:
        bundle.close()
        raise


def mismatch(x: NDArray[Any], wanted: TensorInfo) -> str:
    """One line on an input array that is not what the network takes."""
    shape = "x".join(map(str, wanted.shape))
    came = "x".join(map(str, x.shape)) or "()"
    return (
        f"input {wanted.name}: wanted {wanted.dtype} of shape {shape} ({wanted.layout}), "
        f"came {x.dtype} of shape {came}; convert it, or compile for that input"
    )


def _load_module(bundle: Bundle) -> Any:
    """The bundle's library, which stays loaded as long as it or a function of it lives."""
    tvm_runtime.library()
    tvm_ffi = tvm_runtime.ffi()
    # The dynamic loader takes a path it knows for the library it has already: a bundle compiled
    # again to the same path would run the old code while an old session is open. So every load
    # goes by a path of its own.
    with tempfile.TemporaryDirectory(prefix="tvm-mobilenet-") as folder:
        link = Path(folder, LIBRARY)
        link.symlink_to(bundle.library.resolve())
        try:
            module = tvm_ffi.load_module(link, keep_module_alive=False)
        except (OSError, RuntimeError) as error:
            raise RunFailed(
                f"{bundle.path}: {LIBRARY} does not load: {_last_line(error)}"
            ) from error
    return module


def _last_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1].strip() if lines else type(error).__name__


def _bytes(tensor: TensorInfo) -> int:
    return int(np.prod(tensor.shape)) * np.dtype(tensor.dtype).itemsize


def _typed(block: NDArray[np.uint8], tensor: TensorInfo) -> NDArray[Any]:
    return block.view(tensor.dtype).reshape(tensor.shape)


def _read_into(file: Path, block: NDArray[np.uint8]) -> None:
    with file.open("rb", buffering=0) as stream:
        filled = 0
        # a single read ends early at 2 GiB, or on a signal
        while filled < block.size and (count := stream.readinto(block.data[filled:])):
            filled += count
    if filled < block.size:
        raise BadInput(f"{file}: {PARAMETERS} ended after {filled} of {block.size} bytes")
