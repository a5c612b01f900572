"""Tuning without a device: candidates are checked on this machine and timed by a model of the core.

What is checked is the schedule: the same trace, compiled for this machine by the target's rules,
gives the right numbers here. That the target's own code does too is for a device, or an emulated
one, to show.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from tvm_mobilenet.core_model.estimate import estimate
from tvm_mobilenet.core_model.operation import Unmodelled
from tvm_mobilenet.hardware.core import Core
from tvm_mobilenet.provenance import How
from tvm_mobilenet.scheduling.space import replay
from tvm_mobilenet.scheduling.traces import trace_key
from tvm_mobilenet.tuning.measuring.local import LocalMeasurer
from tvm_mobilenet.tuning.measuring.measurer import Batch, BatchResult, Outcome, Statistics
from tvm_mobilenet.tuning.workers.messages import Settings

if TYPE_CHECKING:
    import tvm

SAMPLE_S = 1e-6  # a check runs a candidate a few times and times nothing


class ModelMeasurer:
    """Checks by a LocalMeasurer, times by the model; ``device`` is the core's name in records."""

    how: How = "modelled"

    def __init__(self, settings: Settings, timeout_s: float, core: Core, device: str) -> None:
        from tvm.target import Target

        self.cpu = f"model of {device}"
        self._settings = settings
        self._target = Target(settings.target)
        self._core = core
        self._check = LocalMeasurer(check_settings(settings), timeout_s)
        self.statistics: Statistics = self._check.statistics
        self.notes: list[str] = self._check.notes
        self._mods: dict[int, tvm.IRModule] = {}
        self._known: dict[tuple[int, str], float | str] = {}  # seconds, or why there are none

    @property
    def pending(self) -> int:
        return self._check.pending

    @property
    def hungry(self) -> bool:
        return self._check.hungry

    def __enter__(self) -> ModelMeasurer:
        self._check.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._check.close()

    def add_task(self, task: int, mod: tvm.IRModule) -> None:
        self._mods[task] = mod
        self._check.add_task(task, mod)

    def submit(self, batch: Batch) -> None:
        self._check.submit(batch)

    def stop_building(self) -> None:
        self._check.stop_building()

    def poll(self, timeout_s: float) -> list[BatchResult]:
        return [self._modelled(result) for result in self._check.poll(timeout_s)]

    def partial(self) -> list[BatchResult]:
        return []  # modelling what was checked would keep whoever interrupts waiting

    def _modelled(self, result: BatchResult) -> BatchResult:
        task = result.batch.task
        outcomes = [
            one if one.cause is not None else self._outcome(task, one) for one in result.outcomes
        ]
        return BatchResult(result.batch, outcomes, drift=0.0, passes=1)

    def _outcome(self, task: int, checked: Outcome) -> Outcome:
        trace_json = checked.job.trace_json
        key = (task, trace_key(trace_json))
        if key not in self._known:
            self._known[key] = self._seconds(self._mods[task], trace_json)
        found = self._known[key]
        if isinstance(found, str):
            return replace(checked, seconds=None, cause="not modelled", detail=found)
        return replace(checked, seconds=found, spread=0.0, cut=False)

    def _seconds(self, mod: tvm.IRModule, trace_json: str) -> float | str:
        scheduled = replay(mod, trace_json, self._target).mod
        settings = self._settings
        try:
            return estimate(
                scheduled, self._target, self._core, settings.threads, cold=settings.cold
            ).seconds
        except Unmodelled as reason:
            return str(reason)


def check_settings(settings: Settings) -> Settings:
    """To run the same schedules here, only to see that they are right."""
    return replace(
        settings,
        target=host_target(settings.target),
        link=("cc", "-shared"),
        threads=1,
        cold=False,
        repeats=1,
        samples=1,
        sample_s=SAMPLE_S,
        cut_off=float("inf"),
    )


def host_target(target: Mapping[str, object]) -> dict[str, object]:
    """This machine under the target's keys, which name its rules."""
    host = {"kind": "llvm", "mtriple": f"{platform.machine()}-linux-gnu"}
    return {**host, **{key: target[key] for key in ("keys", "num-cores") if key in target}}
