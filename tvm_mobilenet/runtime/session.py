"""A loaded bundle: arrays in, arrays out, and nothing but the kernels in between."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tvm_mobilenet.bundle import Bundle, Manifest, TensorInfo, open_bundle
from tvm_mobilenet.bundle.layout import describe_array
from tvm_mobilenet.errors import BadInput, RunFailed, TvmMobilenetError, last_line
from tvm_mobilenet.runtime import pool
from tvm_mobilenet.runtime.cpu import StaticExecutor, VmExecutor
from tvm_mobilenet.runtime.cuda import CudaExecutor
from tvm_mobilenet.runtime.pool import ThreadPool


class Executor(Protocol):
    """Runs one network over buffers of its own."""

    inputs: tuple[NDArray[Any], ...]
    outputs: tuple[NDArray[Any], ...]
    threads: int

    @property
    def infer(self) -> Callable[[], object]: ...  # reads ``inputs``, fills ``outputs``

    def close(self) -> None: ...


EXECUTORS: dict[str, Callable[[Bundle, int | ThreadPool], Executor]] = {
    "static": StaticExecutor,
    "vm": VmExecutor,
    "cuda": CudaExecutor,
}

# all that are open: a forked child gets new locks, since who holds the old ones is not there
_sessions: weakref.WeakSet[Session] = weakref.WeakSet()


def _unlock_in_child() -> None:
    for session in list(_sessions):
        session._one_at_a_time = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unlock_in_child)


class Session:
    """A bundle ready to run. Close it, or use it as a context manager.

    ``run`` may be called from several threads, and takes one at a time. ``inputs`` and ``outputs``
    are the arrays that the compiled code itself reads and writes: fill ``inputs`` (``input`` is
    the first), call ``infer_in_place`` and read ``outputs`` to run without a copy, from one thread.
    """

    def __init__(self, bundle: Bundle, threads: int | ThreadPool = 1) -> None:
        self.bundle = bundle
        self.manifest: Manifest = bundle.manifest
        if self.manifest.executor not in EXECUTORS:
            raise BadInput(
                f"{bundle.path}: executor {self.manifest.executor!r} is not known here; "
                f"expected {' or '.join(EXECUTORS)}; update tvm-mobilenet"
            )
        if self.manifest.target.gpu_arch is None:
            pool.check(threads)
        executor = EXECUTORS[self.manifest.executor](bundle, threads)
        self.threads = executor.threads
        self._executor: Executor | None = executor
        self.inputs = executor.inputs
        self.input = self.inputs[0]
        self.outputs = executor.outputs
        self._forms = [(one.shape, one.dtype) for one in self.inputs]
        self._infer: Callable[[], object] | None = executor.infer
        self._one_at_a_time = threading.Lock()
        _sessions.add(self)

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

    def run(self, *inputs: NDArray[Any]) -> NDArray[Any] | tuple[NDArray[Any], ...]:
        """The network's output, or a tuple where it has several; the caller's to keep.

        Each of ``inputs`` has the manifest's shape, such as (N, C, H, W), and dtype; BadInput where
        one has not, or they are not as many.
        """
        if len(inputs) != len(self._forms):
            expected = ", ".join(one.name for one in self.manifest.inputs)
            raise BadInput(
                f"expected {len(self._forms)} input(s) ({expected}), got {len(inputs)}; give each "
                "of them, in this order"
            )
        for number, (x, (shape, dtype)) in enumerate(zip(inputs, self._forms, strict=True)):
            if not isinstance(x, np.ndarray) or x.shape != shape or x.dtype != dtype:
                raise BadInput(mismatch(x, self.manifest.inputs[number]))
        with self._one_at_a_time:
            self._check_open()
            for place, x in zip(self.inputs, inputs, strict=True):
                np.copyto(place, x)
            self.infer_in_place()
            results = tuple(output.copy() for output in self.outputs)
        return results if len(results) > 1 else results[0]

    def infer_in_place(self) -> None:
        """Run on what ``inputs`` hold and leave the result in ``outputs``."""
        infer = self._check_open()
        try:
            infer()
        except TvmMobilenetError:
            raise
        except Exception as error:  # whatever the compiled code or TVM raised
            raise RunFailed(f"{self.bundle.path}: infer failed: {last_line(error)}") from error

    def close(self) -> None:
        """Let go of library, memory and threads. Arrays that ``run`` returned stay valid."""
        with self._one_at_a_time:  # what a run in another thread reads goes when it has ended
            executor, self._infer, self._executor = self._executor, None, None
            if executor is not None:
                executor.close()
        self.bundle.close()
        # what the caller still holds of these views keeps the arena alive
        self.input = np.empty(0, self._forms[0][1])
        self.inputs = self.outputs = ()

    def _check_open(self) -> Callable[[], object]:
        if self._infer is None:
            raise RunFailed(f"{self.bundle.path}: this session is closed; load the bundle again")
        return self._infer

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def load(
    path: str | Path, threads: int | ThreadPool = 1, verify_key: str | Path | None = None
) -> Session:
    """Load the bundle at ``path`` to run on ``threads`` threads of its own, or those of a pool.

    With ``verify_key``, a file with a public key of Ed25519 in PEM, only where who has the private
    one signed it: that is looked at before anything else of the bundle.

    ``threads`` 0 stands for as many as are of use: the process's CPUs, less where its cgroup has a
    quota. Raises BadInput for a bundle that is damaged or for another machine, and for more threads
    than this process may use CPUs; RunFailed where the library does not load.

    The library tells damaged weights and another network's by a hash of its own, which is no seal;
    with a key their SHA-256 is checked as well.
    """
    bundle = open_bundle(path, verify_key=verify_key, to_load=True)
    try:
        return Session(bundle, threads)
    except BaseException:
        bundle.close()
        raise


def mismatch(x: object, expected: TensorInfo) -> str:
    """One line on an input that is not the array the network takes."""
    got = describe_array(x.shape, x.dtype) if isinstance(x, np.ndarray) else type(x).__name__
    return (
        f"input {expected.name}: expected {describe_array(expected.shape, expected.dtype)} "
        f"({expected.layout}), got {got}; convert it, or compile for that input"
    )
