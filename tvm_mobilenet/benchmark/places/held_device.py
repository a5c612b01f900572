"""``bench --rpc-tracker``: engines in turns on a device, each timed by the device's own clock."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import secrets
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tvm_mobilenet import provenance
from tvm_mobilenet.benchmark.engines import OURS, onnx_worker_file
from tvm_mobilenet.benchmark.engines.networks import Network
from tvm_mobilenet.benchmark.engines.process import EngineFailed
from tvm_mobilenet.benchmark.places.side_by_side import SideBySide
from tvm_mobilenet.benchmark.rounds import Plan
from tvm_mobilenet.benchmark.rows import Candidate
from tvm_mobilenet.bundle import ANY_ARCHITECTURE, open_bundle
from tvm_mobilenet.errors import BadInput, RunFailed
from tvm_mobilenet.hardware import cpu
from tvm_mobilenet.provenance import How, Machine, describe_machine
from tvm_mobilenet.remote.device import About, Device, open_device
from tvm_mobilenet.remote.session import RemoteSession
from tvm_mobilenet.remote.tracker import TrackerAddress, connect
from tvm_mobilenet.results.schema import ResultRow

if TYPE_CHECKING:
    from tvm_mobilenet.benchmark.cases import Case
    from tvm_mobilenet.benchmark.engines.protocol import Array
    from tvm_mobilenet.benchmark.progress import PlainProgress
    from tvm_mobilenet.bundle.manifest import Target

SETTLE_S = 0.2  # in which the threads of the last engine stop waiting for work
# How long a peer on the device may take to answer, before its process is killed.
FIRST_RUN_S = 600.0  # to load, and for the first inference
ANSWER_S = 60.0  # otherwise, on top of a multiple of what the runs should take
RUN_FACTOR = 20.0

# The server's own path: the working directory that PYTHONPATH may refer to is another by now.
START_PEER = """
import os, subprocess, sys
sys.modules[%(name)r] = subprocess.Popen(
    [sys.executable, %(script)r], text=True,
    env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
"""
ASK_PEER = """
import select, sys
peer = sys.modules[%(name)r]
try:
    print(%(request)r, file=peer.stdin, flush=True)
    if select.select([peer.stdout], [], [], %(timeout_s)r)[0]:
        answer = peer.stdout.readline()
    else:
        peer.kill()
        answer = '{"error": "no answer in %(timeout_s)g s; process killed"}'
except BrokenPipeError:
    answer = ""
with open(%(answer)r, "w") as file:
    file.write(answer)
"""
END_PEER = """
import sys
peer = sys.modules.pop(%(name)r)
peer.kill()
peer.communicate()
"""


class HeldDevice:
    """A device, held from its tracker until ``close``."""

    def __init__(self, device: Device, target: Target, plan: Plan, progress: PlainProgress) -> None:
        """``target`` is what is compiled for it."""
        self.plan, self.progress, self.device = plan, progress, device
        self.architecture: str | None = cpu.architecture_of(target.triple)
        self.first_about = self.last_about = device.about()
        self.described = describe_machine()

    def machine(self) -> Machine:
        device = describe(self.first_about, self.last_about)
        return dataclasses.replace(self.described, device=device)

    def measure(self, case: Case, threads: int) -> list[ResultRow]:
        opener = RemoteOpener(self.device, self.first_about)
        rows = SideBySide(
            case.candidates, case.network, threads, opener, self.progress, self.plan
        ).measure()
        with contextlib.suppress(RunFailed):  # where the device is lost its rows say so
            self.last_about = self.device.about()
        return rows


@contextlib.contextmanager
def hold_device(
    tracker: TrackerAddress, key: str, target: Target, plan: Plan, progress: PlainProgress
) -> Iterator[HeldDevice]:
    """A device of ``key`` for as long as the block runs. Raises as its two steps do."""
    device = open_device(connect(tracker, key), target)
    try:
        yield HeldDevice(device, target, plan, progress)
    finally:
        device.close()


class RemoteOpener:
    """Starts engines on one device."""

    shared = False

    def __init__(self, device: Device, about: About) -> None:
        self.device, self.about = device, about
        self.how: How = "emulated" if about.emulated else "rpc"

    @contextlib.contextmanager
    def open(self, candidate: Candidate, network: Network, threads: int) -> Iterator[RemoteEngine]:
        """As ``Opener.open``."""
        engine = self._load(candidate, network, threads)
        try:
            yield engine
        finally:
            with contextlib.suppress(RunFailed):  # the device is lost, and what ran on it
                engine.close()

    def _load(self, candidate: Candidate, network: Network, threads: int) -> RemoteEngine:
        if candidate.bundle is not None:
            bundle = open_bundle(candidate.bundle, ANY_ARCHITECTURE)
            return RemoteBundle(RemoteSession(bundle, self.device, self.about, threads))
        if candidate.name != "onnxruntime":
            raise BadInput(f"on a device {OURS} and onnxruntime are timed only")
        if not self.about.onnxruntime:
            raise BadInput(
                "onnxruntime is not installed for the Python of the device's RPC server; there: "
                "pip install onnxruntime"
            )
        return RemoteOnnxRuntime(self.device, network, threads)


def describe(first: About, last: About) -> provenance.MeasuredDevice:
    """The device, for the results, as it was before and after."""
    temperatures = (first.temperature_c, last.temperature_c)
    versions = {"python": first.python, "tvm": first.tvm_version}
    return provenance.MeasuredDevice(
        cpu=first.cpu or "unknown",
        emulated=first.emulated,
        cores=first.cores,
        governor=first.governor,
        temperature_c=tuple(value for value in temperatures if value is not None),
        os=first.os,
        versions={name: version for name, version in versions.items() if version is not None},
    )


class _OnDevice:
    """What engines on a device have in common."""

    def peak_rss_mb(self) -> float | None:
        """None: the device's server shares its process with what it runs."""
        return None

    def nops_per_cycle(self) -> Sequence[float]:
        """None: the probe is this machine's."""
        return ()

    def settle(self) -> bool:
        time.sleep(SETTLE_S)
        return True


class RemoteBundle(_OnDevice):
    """One of our bundles, loaded through the device's TVM."""

    def __init__(self, session: RemoteSession) -> None:
        self.session = session
        self.version: str | None = f"TVM {session.about.tvm_version or 'of unknown version'}"
        self.load_ms: float | None = None

    def first_run(self, inputs: Sequence[Array]) -> tuple[float, Sequence[Array]]:
        self.session.set_input(*inputs)
        return self.session.time(runs=1, warmup=0)[0], self.outputs()

    def run(self, unrecorded: int, runs: int, expected_ms: float) -> list[float]:
        return self.session.time(runs, unrecorded)

    def outputs(self) -> Sequence[Array]:
        return self.session.outputs()

    def close(self) -> None:
        self.session.close()


class RemoteOnnxRuntime(_OnDevice):
    """ONNX Runtime in a process of its own, started by the device's RPC server, fed through it."""

    def __init__(self, device: Device, network: Network, threads: int) -> None:
        if network.onnx is None:
            raise BadInput("there is no ONNX file of this network: pass --onnx FILE")
        self.device = device
        self.name = f"onnx-worker-{secrets.token_hex(4)}"
        script = device.upload(onnx_worker_file().read_bytes(), "onnx_worker.py")
        self._model = device.upload(network.onnx.read_bytes(), "model.onnx")
        self._python(START_PEER, script=device.path(script))
        told = self._ask({"load": device.path(self._model), "threads": threads}, FIRST_RUN_S)
        self.version: str | None = str(told["version"])
        self.load_ms: float | None = float(told["load_ms"])

    def first_run(self, inputs: Sequence[Array]) -> tuple[float, Sequence[Array]]:
        name = self.device.upload(as_npz(inputs), "x.npz")
        told = self._ask({"input": self.device.path(name)}, FIRST_RUN_S)
        return float(told["first_run_ms"]), self.outputs()

    def run(self, unrecorded: int, runs: int, expected_ms: float) -> list[float]:
        expected_s = (unrecorded + runs) * expected_ms / 1e3
        request = {"unrecorded": unrecorded, "runs": runs}
        return list(self._ask(request, ANSWER_S + RUN_FACTOR * expected_s)["times_ms"])

    def outputs(self) -> Sequence[Array]:
        name = self.device.new_name("y.npz")
        self._ask({"outputs": self.device.path(name)})
        return npz(self.device.download(name))

    def close(self) -> None:
        self._python(END_PEER)
        self.device.remove(self._model)

    def _ask(self, request: dict[str, Any], timeout_s: float = ANSWER_S) -> dict[str, Any]:
        name, text = self.device.new_name("answer.json"), json.dumps(request)
        answer = self.device.path(name)
        self._python(ASK_PEER, request=text, answer=answer, timeout_s=timeout_s)
        line = self.device.download(name)
        told: dict[str, Any] = json.loads(line or '{"error": "its process ended"}')
        if "error" in told:
            raise EngineFailed(f"ONNX Runtime on the device: {told['error']}")
        return told

    def _python(self, code: str, **values: object) -> None:
        if not self.device.run_python(code % {"name": self.name, **values}):
            raise BadInput("the device's RPC server is no Python, and can start no other engine")


def as_npz(arrays: Sequence[Array]) -> bytes:
    import io

    file = io.BytesIO()
    np.savez(file, *arrays)
    return file.getvalue()


def npz(data: bytes) -> Sequence[Array]:
    import io

    with np.load(io.BytesIO(data)) as saved:
        return [saved[key] for key in saved.files]


RemoteEngine = RemoteBundle | RemoteOnnxRuntime
