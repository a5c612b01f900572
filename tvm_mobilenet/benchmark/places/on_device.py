"""`bench --rpc-tracker`: engines in turns on a device, each timed by the device's own clock."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from tvm_mobilenet import provenance
from tvm_mobilenet.benchmark.engines import OURS, onnx_worker_file, verify
from tvm_mobilenet.benchmark.engines.networks import Network
from tvm_mobilenet.benchmark.engines.process import EngineFailed
from tvm_mobilenet.benchmark.places.side_by_side import Progress
from tvm_mobilenet.benchmark.rounds import Plan, Timed, take_turns, warm_up
from tvm_mobilenet.benchmark.rows import Candidate, Measured, result_row
from tvm_mobilenet.bundle import ANY_ARCHITECTURE, open_bundle
from tvm_mobilenet.errors import BadInput, RunFailed
from tvm_mobilenet.provenance import How
from tvm_mobilenet.remote.device import About, Device
from tvm_mobilenet.remote.session import RemoteSession
from tvm_mobilenet.results.schema import ResultRow

if TYPE_CHECKING:
    from tvm_mobilenet.benchmark.engines.protocol import Array

SETTLE_S = 0.2  # in which the threads of the last engine stop waiting for work

# The server's own path: the working directory that PYTHONPATH may refer to is another by now.
START_PEER = """
import os, subprocess, sys
sys.modules[%(name)r] = subprocess.Popen(
    [sys.executable, %(script)r], text=True,
    env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
"""
ASK_PEER = """
import sys
peer = sys.modules[%(name)r]
try:
    print(%(request)r, file=peer.stdin, flush=True)
    answer = peer.stdout.readline()
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


def describe(before: About, after: About) -> provenance.Device:
    """The device, for the results."""
    temperatures = (before.temperature_c, after.temperature_c)
    versions = {"python": before.python, "tvm": before.tvm_version}
    return provenance.Device(
        cpu=before.cpu or "unknown",
        emulated=before.emulated,
        cores=before.cores,
        governor=before.governor,
        temperature_c=tuple(value for value in temperatures if value is not None),
        os=before.os,
        versions={name: version for name, version in versions.items() if version is not None},
    )


def how(about: About) -> How:
    return "emulated" if about.emulated else "rpc"


class BundleOnDevice:
    """One of our bundles, loaded through the device's TVM."""

    def __init__(self, session: RemoteSession) -> None:
        self.session = session
        self.version = f"TVM {session.about.tvm_version or 'of unknown version'}"
        self.load_ms: float | None = None

    def first_run(self, x: Array) -> float:
        self.session.set_input(x)
        return self.session.time(runs=1, warmup=0)[0]

    def run(self, unrecorded: int, runs: int, expected_ms: float) -> list[float]:
        return self.session.time(runs, unrecorded)

    def outputs(self) -> Sequence[Array]:
        return self.session.outputs()

    def close(self) -> None:
        self.session.close()


class OnnxRuntimeOnDevice:
    """ONNX Runtime in a process of its own, started by the device's RPC server, fed through it."""

    def __init__(self, device: Device, network: Network, threads: int) -> None:
        if network.onnx is None:
            raise BadInput("there is no ONNX file of this network: pass --onnx FILE")
        self.device = device
        self.name = f"onnx-worker-{secrets.token_hex(4)}"
        script = device.upload(onnx_worker_file().read_bytes(), "onnx_worker.py")
        self._model = device.upload(network.onnx.read_bytes(), "model.onnx")
        self._python(START_PEER, script=device.path(script))
        told = self._ask({"load": device.path(self._model), "threads": threads})
        self.version, self.load_ms = str(told["version"]), float(told["load_ms"])

    def first_run(self, x: Array) -> float:
        name = self.device.upload(npy(x), "x.npy")
        return float(self._ask({"input": self.device.path(name)})["first_run_ms"])

    def run(self, unrecorded: int, runs: int, expected_ms: float) -> list[float]:
        return list(self._ask({"unrecorded": unrecorded, "runs": runs})["times_ms"])

    def outputs(self) -> Sequence[Array]:
        name = self.device.new_name("y.npz")
        self._ask({"outputs": self.device.path(name)})
        return npz(self.device.download(name))

    def close(self) -> None:
        self._python(END_PEER)
        self.device.remove(self._model)

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        name = self.device.new_name("answer.json")
        self._python(ASK_PEER, request=json.dumps(request), answer=self.device.path(name))
        line = self.device.download(name)
        told: dict[str, Any] = json.loads(line or '{"error": "its process ended"}')
        if "error" in told:
            raise EngineFailed(f"ONNX Runtime on the device: {told['error']}")
        return told

    def _python(self, code: str, **values: str) -> None:
        if not self.device.run_python(code % {"name": self.name, **values}):
            raise BadInput("the device's RPC server is no Python, and can start no other engine")


def npy(x: Array) -> bytes:
    import io

    file = io.BytesIO()
    np.save(file, x)
    return file.getvalue()


def npz(data: bytes) -> Sequence[Array]:
    import io

    with np.load(io.BytesIO(data)) as saved:
        return [saved[key] for key in saved.files]


Engine = BundleOnDevice | OnnxRuntimeOnDevice


@dataclass
class _Attempt(Measured):
    """What is known so far of one candidate, and what measures it."""

    engine: Engine | None = None
    timed: Timed | None = None


@dataclass(frozen=True)
class OnDevice:
    """One measurement: these candidates, this network, this many threads, one device."""

    candidates: Sequence[Candidate]
    network: Network
    threads: int
    device: Device
    about: About
    progress: Progress
    plan: Plan = field(default_factory=Plan)

    def measure(self) -> list[ResultRow]:
        """One row for each candidate, in their order. Engines that fail give ``not run``."""
        with ExitStack() as engines:
            attempts = [self._prepare(candidate, engines) for candidate in self.candidates]
            timed = {a.candidate.name: a.timed for a in attempts if a.timed and not a.reason}
            take_turns(
                timed,
                self.plan,
                lambda name: time.sleep(SETTLE_S),
                lambda done, name: self.progress.turn(name, done, self.plan.rounds),
            )
            for attempt in attempts:
                self._finish(attempt)
        label = how(self.about)
        return [result_row(attempt, self.network, self.threads, label) for attempt in attempts]

    def _prepare(self, candidate: Candidate, engines: ExitStack) -> _Attempt:
        """Load an engine, verify its first output and warm it up."""
        attempt = _Attempt(candidate, reason=candidate.absent)
        if attempt.reason is None:
            try:
                self.progress.step(candidate.name, "loading on the device")
                engine = self._load(candidate)
                engines.callback(_close, engine)
                attempt.engine, attempt.version = engine, engine.version
                attempt.load_ms = engine.load_ms
                attempt.first_run_ms = engine.first_run(self.network.input)
                attempt.max_abs_diff = self._verify(engine)
                self.progress.step(candidate.name, "warming up")
                attempt.timed = Timed(engine)
                warm_up(attempt.timed, attempt.first_run_ms, self.plan)
                if not attempt.timed.steady:
                    self.progress.note(f"{candidate.name} did not become steady in its warm-up")
                time.sleep(SETTLE_S)
            except (BadInput, RunFailed, verify.WrongResult) as error:
                attempt.reason = str(error)
        if attempt.reason is not None:
            self.progress.step(candidate.name, f"not run: {attempt.reason}")
        return attempt

    def _load(self, candidate: Candidate) -> Engine:
        if candidate.bundle is not None:
            bundle = open_bundle(candidate.bundle, ANY_ARCHITECTURE)
            return BundleOnDevice(RemoteSession(bundle, self.device, self.about, self.threads))
        if candidate.name != "onnxruntime":
            raise BadInput(f"on a device {OURS} and onnxruntime are timed only")
        if not self.about.onnxruntime:
            raise BadInput(
                "onnxruntime is not installed for the Python of the device's RPC server; there: "
                "pip install onnxruntime"
            )
        return OnnxRuntimeOnDevice(self.device, self.network, self.threads)

    def _finish(self, attempt: _Attempt) -> None:
        """Verify the output once more: the timed runs must have left the right one."""
        if attempt.timed is None or attempt.engine is None or attempt.reason is not None:
            return
        attempt.reason = attempt.timed.failure
        if attempt.reason is None:
            try:
                self._verify(attempt.engine)
                attempt.samples_ms = attempt.timed.samples_ms
            except (RunFailed, verify.WrongResult) as error:
                attempt.reason = str(error)

    def _verify(self, engine: Engine) -> float:
        return verify.check(engine.outputs(), self.network.expected, self.network.precision)


def _close(engine: Engine) -> None:
    try:
        engine.close()
    except RunFailed:
        pass  # the device is lost, and what ran on it
