"""Measuring on a farm: every device that an RPC tracker has under one key, in parallel.

Candidates are built here and timed there, by the device's own clock (harness.c) or its GPU's
(gpu_harness.c). A device that goes in the middle gives its batch up to another; it is taken back
when the tracker has it again.
"""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from tvm_mobilenet.errors import BadInput, RunFailed, last_line
from tvm_mobilenet.hardware.cores import usable_cores
from tvm_mobilenet.hardware.toolchain import check_installed
from tvm_mobilenet.library.description import NATIVE as LIBRARY_SOURCES
from tvm_mobilenet.provenance import How
from tvm_mobilenet.remote.device import DEVICE_SOURCE
from tvm_mobilenet.remote.tracker import (
    EMULATED_KEY,
    DeviceQueue,
    TrackerAddress,
    query_tracker,
)
from tvm_mobilenet.tuning.measuring.builders import Builders
from tvm_mobilenet.tuning.measuring.lanes import DeviceLane, Lane
from tvm_mobilenet.tuning.measuring.measurer import BatchResult
from tvm_mobilenet.tuning.measuring.pool import PoolMeasurer
from tvm_mobilenet.tuning.workers.messages import DeviceAddress, Done, Settings
from tvm_mobilenet.tuning.workers.worker_process import WorkerProcess

HARNESS = Path(__file__).parents[1] / "workers" / "harness.c"
GPU_HARNESS = HARNESS.with_name("gpu_harness.c")
CFLAGS = ("-std=gnu11", "-O2", "-fPIC")
MAX_BUILDERS = 8
QUERY_S = 2.0  # between looks at the tracker while a device is missing
LOOK_S = 15.0  # and otherwise: for devices that are new


class FarmMeasurer(PoolMeasurer):
    """Times on the devices of ``key``; use and interface as of any measurer."""

    lanes_share_cores = False

    def __init__(
        self,
        settings: Settings,
        timeout_s: float,
        tracker: TrackerAddress,
        key: str,
        features: tuple[str, ...] = (),
        triple: str = "",
    ) -> None:
        """``features`` are what the target's code may use, as in /proc/cpuinfo; ``triple`` is
        LLVM's of the devices' CPUs, where the target of TVM is not those.

        Raises RunFailed where no tracker answers, BadInput where it has no device of ``key`` or no
        compiler for the device is installed.
        """
        count = len(_queue(tracker, key).servers)
        how: How = "emulated" if key == EMULATED_KEY else "rpc"
        super().__init__(settings, timeout_s, how, f"device {key!r}")
        try:
            objects, library = self._compile_harness()
        except BaseException:
            self.close()
            raise
        self._tracker, self._key = tracker, key
        triple = triple or str(settings.target.get("mtriple", "this machine"))
        self.address = DeviceAddress(tracker.host, tracker.port, key, features, library, triple)
        self._cores = usable_cores()
        builders = min(len(self._cores), MAX_BUILDERS)
        workers = [self.make_worker("builder", self._cores, i) for i in range(builders)]
        self.builders = Builders(workers, timeout_s, self.statistics, objects)
        for _ in range(count):
            self._add_lane()
        self._looked = time.monotonic()
        self._gone_since: float | None = None
        self._told = 0  # how many devices measured when that was last said

    def __enter__(self) -> FarmMeasurer:
        return self

    def poll(self, timeout_s: float) -> list[BatchResult]:
        """As of any pool. Raises RunFailed when every device stays away for the timeout."""
        finished = super().poll(timeout_s)
        if self._batches:
            self._watch()
        return finished

    # ---- devices that come and go

    def _watch(self) -> None:
        have = sum(lane.worker.ready for lane in self.lanes)
        if have > self._told:
            self._told = have
            self.notes.append(f"devices of key {self._key!r} that measure: {have}")
        pause = LOOK_S if have == len(self.lanes) else QUERY_S
        if time.monotonic() - self._looked < pause:
            return
        self._looked = time.monotonic()
        registered = self._registered()
        for _ in range(registered - len(self.lanes)):
            self._add_lane().worker.start()
        self._wait_for_any(any_left=have > 0 or registered > 0)

    def note_lost(self, done: Done) -> None:
        self._told = sum(lane.worker.ready for lane in self.lanes)
        self.notes.append(
            f"a device of key {self._key!r} went in the middle ({done.detail}); its candidates go "
            "to another"
        )

    def _wait_for_any(self, *, any_left: bool) -> None:
        """Wait for a device where none is left, for as long as the timeout."""
        if any_left:
            self._gone_since = None
            return
        if self._gone_since is None:
            self._gone_since = time.monotonic()
            self.notes.append(
                f"no device of key {self._key!r} is left at the tracker {self._tracker}; "
                f"waiting {self._timeout_s:.0f} s for one"
            )
        if time.monotonic() - self._gone_since > self._timeout_s:
            raise RunFailed(
                f"every device of key {self._key!r} is gone, and none came back to the tracker at "
                f"{self._tracker} in {self._timeout_s:.0f} s; what was measured is kept, "
                "'--resume' goes on from there"
            )

    def _registered(self) -> int:
        try:
            held = query_tracker(self._tracker)
        except RunFailed:  # it may come back as a device may
            return 0
        return sum(len(queue.servers) for queue in held if queue.key == self._key)

    def _add_lane(self) -> Lane:
        log = self.folder / f"device{len(self.lanes)}.log"
        worker = WorkerProcess("device", self._settings, self._cores, log, self.address)
        self.lanes.append(DeviceLane(worker, self.statistics))
        return self.lanes[-1]

    def _compile_harness(self) -> tuple[tuple[str, ...], str]:
        """The object that every candidate is linked with, and a library to try a device with."""
        library = self.folder / "harness.so"
        device = self._compile(DEVICE_SOURCE)
        if not self._settings.gpu:
            harness = self._compile(HARNESS)
            self._call([*self._settings.link, "-o", str(library), device, harness, "-ldl"])
            return (harness,), str(library)
        from tvm_mobilenet.compiler.cuda import library as gpu_library

        face, arch = self._compile(GPU_HARNESS), str(self._settings.target["arch"])
        nothing = gpu_library.without_kernels(arch)
        gpu_library.link(nothing, library, f"cuda-{arch}", self._settings.link, [device, face])
        return (face,), str(library)

    def _compile(self, source: Path) -> str:
        import tvm_ffi

        compiled = str(self.folder / f"{source.stem}.o")
        folders = (tvm_ffi.libinfo.find_include_path(), LIBRARY_SOURCES)
        includes = [f"-I{folder}" for folder in folders]
        self._call([self._settings.link[0], *CFLAGS, *includes, "-c", "-o", compiled, str(source)])
        return compiled

    def _call(self, command: list[str]) -> None:
        compiler = self._settings.link[0]
        check_installed(compiler, "measuring on devices")
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except subprocess.CalledProcessError as error:
            reason = last_line(error.stderr) or "it said nothing"
            raise BadInput(f"{compiler} does not compile for the device: {reason}") from None


def _queue(tracker: TrackerAddress, key: str) -> DeviceQueue:
    """What the tracker has under ``key``, which must be something."""
    held = [queue for queue in query_tracker(tracker) if queue.servers]
    for queue in held:
        if queue.key == key:
            return queue
    keys = ", ".join(queue.key for queue in held) or "none"
    raise BadInput(f"the tracker at {tracker} has no device {key!r}; it has: {keys}")
