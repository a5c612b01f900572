"""What a tuning run is asked to do, as plain values, and what of it cannot be done here."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.tuning.kernels import Networks

if TYPE_CHECKING:
    from tvm_mobilenet.compiler.options import CompileOptions
    from tvm_mobilenet.hardware.target import TargetSpec
    from tvm_mobilenet.remote.tracker import TrackerAddress

MeasureBy = Literal["native", "rpc", "model"]


@dataclass(frozen=True)
class Budget:
    """When to stop; None means no such limit. ``time_s`` counts from the start of the loop."""

    trials: int | None = None
    trials_per_task: int | None = None
    time_s: float | None = None
    early_stopping: int | None = None  # trials of a task without a gain


@dataclass(frozen=True)
class Conditions:
    """How candidates are measured: where, for how long, on how many threads, from which caches.

    ``by`` is this machine (native), devices of ``tracker`` under ``key`` (rpc), or a model of the
    core. ``warm`` leaves the weights in the cache between calls.
    """

    by: MeasureBy = "native"
    timeout_s: float = 10.0
    threads: int = 1
    warm: bool = False
    tracker: TrackerAddress | None = None
    key: str | None = None


@dataclass(frozen=True)
class TuneRequest:
    """One tuning run.

    ``work_dir`` gets its records, None stands for ``database.lookup``'s folder for the target.
    The records of ``transfer`` are tried first, and for that folder those that ship as well.
    """

    networks: Networks
    options: CompileOptions
    budget: Budget
    work_dir: Path | None = None
    resume: bool = False
    transfer: tuple[Path, ...] = ()
    seed: int = 0
    conditions: Conditions = field(default_factory=Conditions)

    @property
    def target(self) -> TargetSpec:
        return self.options.spec


def check_conditions(conditions: Conditions, target: TargetSpec) -> None:
    """Raise BadInput where a target cannot be measured like this, by anybody or on this machine."""
    _check_place(conditions, target)
    if conditions.by == "native":  # a device itself is asked what it can, a model can all
        _check_host(conditions, target)


def check_toolchain(request: TuneRequest) -> None:
    """Raise BadInput where what building and running candidates needs is not here."""
    from tvm_mobilenet.compiler.cuda import nvcc

    gpu = request.target.gpu
    if gpu is not None:
        nvcc.check(request.target.name, gpu.arch)
        if request.conditions.by == "native":
            _check_present_gpu(request.target.name, gpu.arch)


def _check_place(conditions: Conditions, target: TargetSpec) -> None:
    by = conditions.by
    if (conditions.tracker is None) != (conditions.key is None):
        raise BadInput("--rpc-tracker and --rpc-key go together: whose devices, and which of them")
    if by == "rpc" and conditions.tracker is None:
        raise BadInput("--measure rpc needs --rpc-tracker and --rpc-key: whose devices, and which")
    if by != "rpc" and conditions.tracker is not None:
        raise BadInput(f"--measure {by} uses no device; leave --rpc-tracker and --rpc-key out")
    if by == "model" and target.gpu is not None:
        raise BadInput(
            f"target {target.name} cannot be modelled: --measure model is for CPUs; --rpc-tracker "
            "and --rpc-key measure on a device"
        )
    if by == "model" and target.core is None:
        raise BadInput(
            f"target {target.name} cannot be modelled: [core] of its file would have to say "
            f"{', '.join(target.missing_core_facts())}; --rpc-tracker and --rpc-key measure on a "
            "device"
        )


def _check_host(conditions: Conditions, target: TargetSpec) -> None:
    from tvm_mobilenet.hardware import cpu
    from tvm_mobilenet.runtime import threads

    missing = target.missing_features(cpu.host_features())
    if missing:
        raise BadInput(
            f"target {target.name} cannot be measured on this machine: this CPU lacks "
            f"{', '.join(missing)}; --rpc-tracker and --rpc-key measure on another, "
            "--measure model on none"
        )
    cores = len(threads.available_cpus())
    if conditions.threads > cores:
        raise BadInput(f"--threads {conditions.threads}: this process may use {cores} CPUs")


def _check_present_gpu(target: str, arch: str) -> None:
    from tvm_mobilenet.hardware import gpu

    present = gpu.present_arch()
    if present != arch:
        found = f"its GPU is {present}" if present else "it has no GPU, or no driver (libcuda)"
        raise BadInput(
            f"target {target} cannot be measured on this machine: {found}; --rpc-tracker and "
            "--rpc-key measure on another"
        )
