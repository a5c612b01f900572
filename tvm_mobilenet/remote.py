"""Runs a bundle on a device that an RPC tracker holds, timed by the device's own clock.

The device needs TVM's runtime and its RPC server, and nothing of ours.

    with remote.load("bundle", TrackerAddress("10.0.0.2", 9190), "rpi4") as session:
        logits = session.run(x)
        latencies = session.time(runs=100)
"""

from __future__ import annotations

import secrets
import socket
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from tvm_mobilenet import cpu, devices, foreign_bundle
from tvm_mobilenet.devices import TrackerAddress
from tvm_mobilenet.errors import BadInput, RunFailed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tvm_mobilenet.bundle import Bundle

WAIT_S = 60.0  # for a device that is busy
BIG_CORES = 1  # runtime.config_threadpool's affinity mode: one thread a core, the fast ones first
CPUINFO = "/proc/cpuinfo"
GOVERNOR = "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"
TEMPERATURE = "/sys/class/thermal/thermal_zone0/temp"


@dataclass(frozen=True)
class RemoteMachine:
    """What the device tells of itself; None where it does not."""

    cpu: str | None
    features: frozenset[str]
    governor: str | None
    temperature_c: float | None


class RemoteSession:
    """A bundle loaded on a device. Close it, or use it as a context manager."""

    def __init__(self, bundle: Bundle, rpc: Any, threads: int = 1) -> None:
        import numpy as np
        import tvm

        self.bundle, self.manifest, self._rpc = bundle, bundle.manifest, rpc
        self.machine = read_machine(rpc)
        check_features(bundle, self.machine)
        rpc.get_function("runtime.config_threadpool")(BIG_CORES, threads)
        self._device = rpc.cpu(0)
        # a name of its own: another session on the same device must not replace a loaded library
        self._library = f"model-{secrets.token_hex(4)}.so"
        rpc.upload(bytearray(bundle.library.read_bytes()), self._library)
        self._module = rpc.load_module(self._library)
        parameters = np.fromfile(bundle.parameters, np.uint8)
        empty = tvm.runtime.empty
        self._inputs = [empty(t.shape, t.dtype, self._device) for t in self.manifest.inputs]
        self._outputs = [empty(t.shape, t.dtype, self._device) for t in self.manifest.outputs]
        self._arguments = [
            *self._inputs,
            tvm.runtime.tensor(parameters, self._device),
            empty((self.manifest.workspace_bytes,), "uint8", self._device),
            *self._outputs,
        ]
        self._infer = self._module["infer"]

    def run(self, x: NDArray[Any]) -> NDArray[Any] | tuple[NDArray[Any], ...]:
        """The network's output for ``x``, which has the manifest's input shape and dtype.

        Raises BadInput where it has not, RunFailed where the device fails or is lost.
        """
        wanted = self.manifest.inputs[0]
        if x.shape != wanted.shape or x.dtype != wanted.dtype:
            from tvm_mobilenet.session import mismatch

            raise BadInput(mismatch(x, wanted))
        try:
            self._inputs[0].copyfrom(x)
            self._infer(*self._arguments)
            results = tuple(output.numpy() for output in self._outputs)
        except RuntimeError as error:
            raise RunFailed(f"{self.bundle.path}: the device failed: {last_line(error)}") from error
        return results if len(results) > 1 else results[0]

    def time(self, runs: int, warmup: int = 1) -> list[float]:
        """Milliseconds of each of ``runs`` inferences, by the device's clock, after ``warmup``.

        Raises RunFailed where the device fails or is lost.
        """
        try:
            for _ in range(warmup):
                self._infer(*self._arguments)
            evaluator = self._module.time_evaluator("infer", self._device, number=1, repeat=runs)
            return [seconds * 1e3 for seconds in evaluator(*self._arguments).results]
        except RuntimeError as error:
            raise RunFailed(f"{self.bundle.path}: the device failed: {last_line(error)}") from error

    def close(self) -> None:
        """Give the device back to its tracker."""
        if self._rpc is not None:
            try:
                self._rpc.remove(self._library)
            except RuntimeError:
                pass  # the device is gone, and its files with it
        # the session ends when nothing of it is referred to any more
        self._inputs, self._outputs, self._arguments = [], [], []
        self._infer = self._module = self._device = self._rpc = None
        self.bundle.close()

    def __enter__(self) -> RemoteSession:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def load(
    path: str | Path,
    tracker: TrackerAddress,
    key: str,
    threads: int = 1,
    architecture: str = "aarch64",
) -> RemoteSession:
    """Load the bundle on a device that ``tracker`` holds under ``key``.

    Raises BadInput for a bundle that is damaged or for another machine, and for a key that no
    device has; RunFailed where the tracker or the device does not answer.
    """
    bundle = foreign_bundle.open_for(architecture, path)
    try:
        return RemoteSession(bundle, connect(tracker, key), threads)
    except BaseException:
        bundle.close()
        raise


def connect(tracker: TrackerAddress, key: str) -> Any:
    """A session on a device of ``key``, waited for if all are busy."""
    held = devices.query_tracker(tracker)
    if not any(queue.key == key and queue.servers for queue in held):
        keys = ", ".join(queue.key for queue in held if queue.servers) or "none"
        raise BadInput(f"the tracker at {tracker} has no device {key!r}; it has: {keys}")

    from tvm import rpc

    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(WAIT_S)  # TVM's client would wait for ever
    try:
        return rpc.connect_tracker(*tracker).request(key, max_retry=1)
    except RuntimeError as error:
        raise RunFailed(
            f"no device {key!r} of the tracker at {tracker} was free in {WAIT_S:.0f} s: "
            f"{last_line(error)}"
        ) from error
    finally:
        socket.setdefaulttimeout(before)


def read_machine(rpc: Any) -> RemoteMachine:
    """The device's CPU, governor and temperature, read through the RPC server's file transfer."""
    cpuinfo = read_file(rpc, CPUINFO) or ""
    temperature = read_file(rpc, TEMPERATURE) or ""
    return RemoteMachine(
        cpu=cpu.parse_model(cpuinfo),
        features=cpu.parse_features(cpuinfo),
        governor=(read_file(rpc, GOVERNOR) or "").strip() or None,
        temperature_c=int(temperature) / 1000 if temperature.strip().isdecimal() else None,
    )


def read_file(rpc: Any, path: str) -> str | None:
    """A text file of the device; None where it cannot be read."""
    try:
        # the server joins its working directory with the path, and an absolute path wins
        return bytes(rpc.download(path)).decode(errors="replace")
    except RuntimeError:
        return None


def check_features(bundle: Bundle, machine: RemoteMachine) -> None:
    """Raise BadInput before the library is loaded where the device would meet unknown code."""
    missing = sorted(set(bundle.manifest.cpu_features) - machine.features)
    if missing and machine.features:
        raise BadInput(
            f"{bundle.path}: made for {bundle.manifest.target.name}, the device "
            f"({machine.cpu or 'unknown CPU'}) has no {', '.join(missing)}; compile it for the "
            "device's target"
        )


def last_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1].strip() if lines else type(error).__name__
