"""The tuning logs that ship fit the kernels and the rules as they are now."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import network_kernels

from schedules.cpu.sharing import EVEN
from tvm_mobilenet.compiler import pipeline
from tvm_mobilenet.compiler.options import CompileOptions
from tvm_mobilenet.database.lookup import shipped_logs
from tvm_mobilenet.database.meta_file import META
from tvm_mobilenet.database.store import Records
from tvm_mobilenet.hardware import target
from tvm_mobilenet.scheduling.balance import imbalance
from tvm_mobilenet.scheduling.rules import default_schedule
from tvm_mobilenet.scheduling.space import KernelSpace

LOGS = sorted(path.parent for path in shipped_logs().glob(f"*/{META}"))


@pytest.fixture(params=LOGS, ids=lambda log: str(log.name))
def log(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def test_every_record_was_measured_and_applies(log: Path) -> None:
    records = Records.open(log, None)
    spec = target.resolve(log.name).with_cores(records.meta["target"]["num-cores"])
    assert len(records.workloads) == len(records.records) > 0, "the best of each, and no more"
    for record in records.records:
        assert record.info.how == "native" and record.info.reference == "numpy"
        space = KernelSpace(records.module(record.workload)["main"], spec.tvm_target())
        space.replay(record.trace_json)  # raises Rejected


def test_every_kernel_of_the_networks_has_one(log: Path) -> None:
    """A change of a kernel's compute leaves its record behind, and nothing else says so."""
    cores = Records.open(log, None).meta["target"]["num-cores"]
    spec = target.resolve(log.name).with_cores(cores)
    records = Records.open(log, spec)
    kernels = {
        kernel.name: kernel.func
        for config in network_kernels.VARIANTS
        for kernel in pipeline.kernels_of(
            network_kernels.relax_module(config)[0], CompileOptions(spec)
        )
    }
    missing = [name for name, func in kernels.items() if records.schedule_for(func)[0] is None]
    assert len(kernels) > 100 and not missing


def test_more_cores_get_what_keeps_them_busy() -> None:
    """A record made for two cores is passed over where it would leave the others idle."""
    (log,) = (one for one in LOGS if one.name == "x86-znver5")
    many = target.resolve(log.name).with_cores(8)
    records = Records.open(log, many)
    found: dict[bool, int] = {True: 0, False: 0}
    for workload in records.workloads[::8]:
        func = records.module(workload)["main"]
        schedule, _ = records.schedule_for(func)
        found[schedule is not None] += 1
        if schedule is not None:
            allowed = imbalance(default_schedule(func, many.tvm_target()).mod, 8)
            assert imbalance(schedule.mod, 8) <= max(EVEN, allowed)
    assert all(found.values())
