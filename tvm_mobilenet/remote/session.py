"""Runs a bundle on a device that an RPC tracker holds, timed by the device's own clock.

with load("bundle", TrackerAddress("10.0.0.2", 9190), "rpi4") as session:
    logits = session.run(x)
    latencies = session.time(runs=100)
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tvm_mobilenet.bundle import ANY_ARCHITECTURE, open_bundle
from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.remote import tracker as trackers
from tvm_mobilenet.remote.device import (
    About,
    Device,
    check_features,
    check_tvm,
    device_errors,
    open_device,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tvm_mobilenet.bundle import Bundle
    from tvm_mobilenet.remote.tracker import TrackerAddress


class RemoteSession:
    """A bundle loaded on a device. Close it, or use it as a context manager."""

    def __init__(self, bundle: Bundle, device: Device, about: About, threads: int = 1) -> None:
        self.bundle, self.manifest = bundle, bundle.manifest
        self.device, self.about = device, about
        check_executor(bundle)
        check_tvm(about, bundle.manifest.tvm_version)
        check_features(
            about,
            bundle.manifest.cpu_features,
            f"{bundle.path}: made for {bundle.manifest.target.name}",
            "compile it for the device's target",
        )
        self._cpu = device.rpc.cpu(0)
        self._library = device.upload(bundle.library.read_bytes(), "model.so")
        self._inputs = [self.empty(t.shape, t.dtype) for t in self.manifest.inputs]
        self._outputs = [self.empty(t.shape, t.dtype) for t in self.manifest.outputs]
        self._weights = self._send_weights()
        self._handle: int | None = None
        self.use_threads(threads)

    def _send_weights(self) -> Any:
        """The weights in the device's memory; a byte where the library holds them."""
        import numpy as np

        if self.manifest.embedded_weights:
            return self.empty((1,), "uint8")
        return self.tensor(np.fromfile(self.bundle.parameters, np.uint8))

    @property
    def arguments(self) -> list[Any]:
        """What an inference is of."""
        return [*self._inputs, *self._outputs]

    def empty(self, shape: tuple[int, ...], dtype: str) -> Any:
        """A tensor in the device's memory. Raises RunFailed where there is no room."""
        import tvm

        with device_errors(f"it has no {math.prod(shape)} elements of {dtype} free"):
            return tvm.runtime.empty(shape, dtype, self._cpu)

    def tensor(self, array: NDArray[Any]) -> Any:
        """A copy of ``array`` in the device's memory. Raises RunFailed where there is no room."""
        import tvm

        with device_errors(f"it did not take {array.nbytes} bytes"):
            return tvm.runtime.tensor(array, self._cpu)

    def use_threads(self, threads: int) -> None:
        """Run on so many threads from now on.

        Raises RunFailed where the library does not load, or the device starts no such threads.
        """
        self._close_network()
        self.threads = threads
        path = self.device.path(self._library)
        with device_errors(f"it does not load {self._library}"):
            opened = self._function("open")(path, self.manifest.name, self._weights, threads)
        self._handle = int(opened)

    def _function(self, name: str) -> Any:
        """A function of native/network.c, which the device has beside the bundle's library."""
        return self.device.library[f"network_{name}"]

    def _close_network(self) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            with contextlib.suppress(RuntimeError):  # a device that is gone holds nothing
                self._function("close")(handle)

    def run(self, *inputs: NDArray[Any]) -> NDArray[Any] | tuple[NDArray[Any], ...]:
        """The network's output for inputs of the manifest's shapes and dtypes.

        Raises BadInput for others, RunFailed where the device fails or is lost.
        """
        self.set_input(*inputs)
        with device_errors(f"{self.bundle.path} does not run"):
            self._function("infer")(self._handle, *self.arguments)
        results = self.outputs()
        return results if len(results) > 1 else results[0]

    def set_input(self, *inputs: NDArray[Any]) -> None:
        """Put the inputs where the device reads them. Raises as ``run`` does."""
        for place, x, wanted in zip(self._inputs, inputs, self.manifest.inputs, strict=True):
            if x.shape != wanted.shape or x.dtype != wanted.dtype:
                from tvm_mobilenet.runtime.session import mismatch

                raise BadInput(mismatch(x, wanted))
            with device_errors(f"{self.bundle.path} takes no input"):
                place.copyfrom(x)

    def outputs(self) -> tuple[NDArray[Any], ...]:
        """What the last inference left. Raises RunFailed where the device is lost."""
        with device_errors(f"{self.bundle.path} gives no output"):
            return tuple(output.numpy() for output in self._outputs)

    def time(self, runs: int, warmup: int = 1) -> list[float]:
        """Milliseconds of each of ``runs`` inferences, by the device's clock, after ``warmup``.

        Raises RunFailed where the device fails or is lost.
        """
        return self.time_function("infer", self.arguments, runs, warmup)

    def time_function(
        self, name: str, arguments: list[Any], runs: int, warmup: int = 1
    ) -> list[float]:
        """As ``time``, of any function of native/network.c."""
        with device_errors(f"{name} of {self.bundle.path} does not run"):
            function = self._function(name)
            for _ in range(warmup):
                function(self._handle, *arguments)
            evaluator = self.device.library.time_evaluator(
                f"network_{name}", self._cpu, number=1, repeat=runs
            )
            return [seconds * 1e3 for seconds in evaluator(self._handle, *arguments).results]

    def close(self) -> None:
        """Let go of what lies on the device."""
        self._close_network()
        self._inputs, self._outputs = [], []
        self._weights = self._cpu = None
        self.device.remove(self._library)
        self.bundle.close()

    def __enter__(self) -> RemoteSession:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextlib.contextmanager
def load(
    path: str | Path, tracker: TrackerAddress, key: str, threads: int = 1
) -> Iterator[RemoteSession]:
    """The bundle, loaded on a device that ``tracker`` holds under ``key``, as a context manager.

    Raises BadInput for a bundle that is damaged or for another machine, and for a key that no
    device has; RunFailed where the tracker or the device does not answer, or has no room.
    """
    with open_bundle(path, for_architecture=ANY_ARCHITECTURE) as bundle:
        device = open_device(trackers.connect(tracker, key), bundle.manifest.target)
        try:
            with RemoteSession(bundle, device, device.about(), threads) as session:
                yield session
        finally:
            device.close()  # gives it back to the tracker


def check_executor(bundle: Bundle) -> None:
    """Raise BadInput for a bundle that has no function ``infer`` to call on the device."""
    if bundle.manifest.executor != "static":
        raise BadInput(
            f"{bundle.path}: only bundles of the static executor run over RPC; compile it with "
            "--executor static"
        )
