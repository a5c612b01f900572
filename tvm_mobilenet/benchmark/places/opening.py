"""Where `bench` is asked to measure: this machine, a device of an RPC tracker, an emulated core."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from tvm_mobilenet.benchmark.places.this_machine import ThisMachine
from tvm_mobilenet.bundle import ANY_ARCHITECTURE, open_bundle
from tvm_mobilenet.bundle.manifest import Target

if TYPE_CHECKING:
    from tvm_mobilenet.benchmark.places.place import Place
    from tvm_mobilenet.benchmark.progress import PlainProgress
    from tvm_mobilenet.benchmark.request import BenchRequest


def open_place(request: BenchRequest, progress: PlainProgress) -> AbstractContextManager[Place]:
    """Where to measure, for as long as the block runs.

    Raises BadInput where the bundles are damaged or not for that place, RunFailed where a device or
    its tracker does not answer.
    """
    if request.tracker is None and not request.count_instructions:
        return nullcontext(ThisMachine(request.plan, request.threads, progress))
    targets = list_targets(request)
    if request.tracker is not None:
        from tvm_mobilenet.benchmark.places.held_device import hold_device

        assert request.key is not None, "checked before"
        return hold_device(request.tracker, request.key, targets[0], request.plan, progress)
    from tvm_mobilenet.benchmark.places.emulated_core import EmulatedCore, find_emulator

    return nullcontext(EmulatedCore(find_emulator([target.name for target in targets])))


def list_targets(request: BenchRequest) -> list[Target]:
    """What is measured was compiled for these. Raises BadInput for one that is not known."""
    if request.sweep is not None:
        return [find_target(request.sweep.target)]
    return read_targets(request.bundles)


def read_targets(bundles: Sequence[Path]) -> list[Target]:
    """What each bundle was compiled for. Raises BadInput for one that is damaged."""
    found = []
    for path in bundles:
        with open_bundle(path, ANY_ARCHITECTURE) as bundle:
            found.append(bundle.manifest.target)
    return found


def find_target(name: str) -> Target:
    """The target that ``--target`` names. Raises BadInput where it is not known."""
    from tvm_mobilenet.hardware import target

    spec = target.resolve(name)
    return Target(spec.name, str(spec.target["mtriple"]))
