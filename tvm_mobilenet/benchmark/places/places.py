"""Where `bench` measures: on this machine, on a device of an RPC tracker, on an emulated core."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from tvm_mobilenet.benchmark.cases import Case
from tvm_mobilenet.benchmark.progress import PlainProgress
from tvm_mobilenet.benchmark.rounds import Plan
from tvm_mobilenet.bundle import ANY_ARCHITECTURE, open_bundle
from tvm_mobilenet.bundle.manifest import Target
from tvm_mobilenet.emulation.emulator import Emulator
from tvm_mobilenet.emulation.instruction_count import ARCHITECTURE
from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.hardware import cpu
from tvm_mobilenet.provenance import Machine, describe_machine
from tvm_mobilenet.remote.tracker import TrackerAddress
from tvm_mobilenet.results.schema import ResultRow


class Place(Protocol):
    """``architecture`` is None where it is this machine's own."""

    architecture: str | None

    def machine(self) -> Machine:
        """The machine as the results describe it, with what is known so far."""

    def measure(self, case: Case, threads: int) -> list[ResultRow]:
        """One row for each candidate of the case."""


class Here:
    """This machine: each engine in a process of its own."""

    architecture: str | None = None

    def __init__(self, plan: Plan, threads: Sequence[int], progress: PlainProgress) -> None:
        self.plan, self.progress = plan, progress
        self.described = here = describe_machine()
        # what will disturb the measurement is said beforehand
        if here.busy:
            progress.note(
                f"the machine is busy (load average {here.load_average[0]:.2f} on {here.cores} "
                "cores)"
            )
        if max(threads) > here.cores:
            progress.note(f"{max(threads)} threads share {here.cores} cores")

    def machine(self) -> Machine:
        return self.described

    def measure(self, case: Case, threads: int) -> list[ResultRow]:
        from tvm_mobilenet.benchmark.places.side_by_side import SideBySide

        return SideBySide(
            case.candidates, case.network, threads, self.progress, self.plan
        ).measure()


class OnADevice:
    """A device, held from its tracker until ``close``. ``target`` is what is compiled for it."""

    def __init__(
        self,
        tracker: TrackerAddress,
        key: str,
        target: Target,
        plan: Plan,
        progress: PlainProgress,
    ) -> None:
        from tvm_mobilenet.remote.device import Device
        from tvm_mobilenet.remote.tracker import connect

        self.plan, self.progress = plan, progress
        self.architecture: str | None = cpu.architecture_of(target.triple)
        self.device = Device(connect(tracker, key), target)
        self.before = self.after = self.device.about()
        self.described = describe_machine()

    def machine(self) -> Machine:
        from tvm_mobilenet.benchmark.places import on_device

        device = on_device.describe(self.before, self.after)
        return dataclasses.replace(self.described, device=device)

    def measure(self, case: Case, threads: int) -> list[ResultRow]:
        from tvm_mobilenet.benchmark.places.on_device import OnDevice
        from tvm_mobilenet.errors import RunFailed

        measurement = OnDevice(
            case.candidates,
            case.network,
            threads,
            self.device,
            self.before,
            self.progress,
            self.plan,
        )
        rows = measurement.measure()
        with contextlib.suppress(RunFailed):  # where the device is lost its rows say so
            self.after = self.device.about()
        return rows

    def close(self) -> None:
        self.device.close()


class OnAnEmulatedCore:
    """An emulated ARM core, whose instructions are counted."""

    def __init__(self, emulator: Emulator) -> None:
        from tvm_mobilenet.benchmark.places import instructions

        self.emulator = emulator
        self.architecture: str | None = ARCHITECTURE
        self.described = dataclasses.replace(
            describe_machine(), device=instructions.describe(emulator)
        )

    def machine(self) -> Machine:
        return self.described

    def measure(self, case: Case, threads: int) -> list[ResultRow]:
        from tvm_mobilenet.benchmark.places.instructions import Counting

        return Counting(case.candidates, case.network, threads, self.emulator).measure()


@contextlib.contextmanager
def on_a_device(
    tracker: TrackerAddress, key: str, target: Target, plan: Plan, progress: PlainProgress
) -> Iterator[OnADevice]:
    """A device for as long as the block runs."""
    place = OnADevice(tracker, key, target, plan, progress)
    try:
        yield place
    finally:
        place.close()


def targets_of(bundles: Sequence[Path]) -> list[Target]:
    """What each bundle was compiled for. Raises BadInput for one that is damaged."""
    found = []
    for path in bundles:
        with open_bundle(path, ANY_ARCHITECTURE) as bundle:
            found.append(bundle.manifest.target)
    return found


def named_target(name: str) -> Target:
    """The target that ``--target`` names. Raises BadInput where it is not known."""
    from tvm_mobilenet.hardware import target

    spec = target.resolve(name)
    return Target(spec.name, str(spec.target["mtriple"]))


def rpc_key_of(target: Target) -> str:
    """The key that the target's file gives its devices. Raises BadInput where it gives none."""
    from tvm_mobilenet.hardware import target as targets

    key = targets.resolve(target.name).rpc_key if target.name in targets.known() else None
    if key is None:
        raise BadInput(
            f"--rpc-key: target {target.name} has no rpc_key of its own; say which device"
        )
    return key
