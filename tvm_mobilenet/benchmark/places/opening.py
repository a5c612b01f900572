"""Where ``bench`` measures: on this machine, a tracker's device, or an emulated core."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from tvm_mobilenet.benchmark.places.this_machine import ThisMachine
from tvm_mobilenet.benchmark.targets import find_rpc_key, find_target, read_targets
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
        return nullcontext(ThisMachine(request.plan, request.threads, progress, request.noise))
    targets = list_targets(request)
    if request.tracker is not None:
        from tvm_mobilenet.benchmark.places.held_device import hold_device

        key = request.key or find_rpc_key(targets[0])
        return hold_device(request.tracker, key, targets[0], request.plan, progress)
    from tvm_mobilenet.benchmark.places.emulated_core import EmulatedCore, find_emulator

    return nullcontext(EmulatedCore(find_emulator([target.name for target in targets])))


def list_targets(request: BenchRequest) -> list[Target]:
    """What is measured was compiled for these. Raises BadInput for one that is not known."""
    if request.sweep is not None:
        return [find_target(request.sweep.target)]
    return read_targets(request.bundles)
