"""Measuring over RPC: all devices at work, and none of what may happen to one loses a candidate."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support import tuning_kernels
from support.tile_cases import HAS_TILES, NAME
from support.tuning_kernels import SETTINGS, SPEC, jobs, matmul

from tvm_mobilenet import tune
from tvm_mobilenet.bundle.manifest import Target as BundleTarget
from tvm_mobilenet.database.meta_file import META
from tvm_mobilenet.database.store import Records
from tvm_mobilenet.errors import BadInput, RunFailed
from tvm_mobilenet.hardware import cpu, target
from tvm_mobilenet.remote import local_farm
from tvm_mobilenet.remote.device import Device, compile_library
from tvm_mobilenet.remote.local_farm import Farm
from tvm_mobilenet.remote.tracker import TrackerAddress
from tvm_mobilenet.scheduling.space import KernelSpace
from tvm_mobilenet.tuning.measuring import farm, lanes, pool
from tvm_mobilenet.tuning.measuring.farm import FarmMeasurer
from tvm_mobilenet.tuning.measuring.measurer import Batch, BatchResult, Job
from tvm_mobilenet.tuning.workers import device_worker
from tvm_mobilenet.tuning.workers.messages import DeviceAddress

pytestmark = pytest.mark.usefixtures("warm_workers")

KEY, SINGLE = "board", "single"
SLOW = replace(SETTINGS, build_fn=tuning_kernels.BUILD_SLOW, repeats=1, samples=1)
PATIENCE_S = 240
LONG = replace(SLOW, repeats=3, samples=10)  # one builder keeps four devices busy
CAUSES = {
    "none": None,
    "segfault": "run error",
    "hang": "run timeout",
    "exit": "device lost",
    "nothing": "wrong result",
    "wrong": "wrong result",
}


@pytest.fixture(scope="module")
def boards() -> Iterator[Farm]:
    """Four servers."""
    with local_farm.running(4, KEY) as running:
        yield running


@pytest.fixture(scope="module")
def single(boards: Farm) -> str:
    """The key of one server more: each that measures is a process to start."""
    boards.add_servers(1, SINGLE)
    return SINGLE


@pytest.fixture(autouse=True)
def one_builder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes seconds to start, and these kernels none to build."""
    monkeypatch.setattr(farm, "MAX_BUILDERS", 1)


@pytest.fixture(scope="module")
def space() -> KernelSpace:
    tuning_kernels.register()
    return KernelSpace(matmul(16, 96, 32, "faulty_matmul").func, SPEC.tvm_target())


def results(measurer: FarmMeasurer, until: Any = None) -> list[BatchResult]:
    """The batches that end; all of them, or those until something is so."""
    ended: list[BatchResult] = []
    deadline = time.monotonic() + PATIENCE_S
    while measurer.pending and not (until and until()):
        assert time.monotonic() < deadline, measurer.notes
        ended += measurer.poll(0.1)
    return ended


def wait_for_devices(measurer: FarmMeasurer, some: list[Job]) -> None:
    """Keep the farm at work until every device has measured: its next job needs no preparing."""
    deadline = time.monotonic() + PATIENCE_S
    while not all(lane.sentinels for lane in measurer.lanes):
        assert time.monotonic() < deadline, measurer.notes
        while measurer.pending < len(measurer.lanes):
            measurer.submit(Batch(0, some))
        measurer.poll(0.1)
    results(measurer)


def causes(ended: list[BatchResult]) -> list[str | None]:
    return [outcome.cause for result in ended for outcome in result.outcomes]


def test_all_devices_measure_and_nothing_is_lost_or_repeated(
    boards: Farm, space: KernelSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "FAREWELL_S", PATIENCE_S)
    with FarmMeasurer(LONG, 5.0, boards.address, KEY) as measurer:
        measurer.add_task(0, space.mod)
        every = jobs(space, *["none"] * 36)
        wait_for_devices(measurer, every[:2])
        before = measurer.statistics.run
        for i in range(0, 36, 3):
            measurer.submit(Batch(0, every[i : i + 3]))
        ended = results(measurer)
        assert all(lane.sentinels for lane in measurer.lanes), "each of the four measured"
        assert len(measurer.lanes) == 4 and measurer.how == "rpc"
    # a server may not survive a session that is cut off
    assert [lane.worker.status for lane in measurer.lanes] == [0] * 4
    outcomes = [outcome for result in ended for outcome in result.outcomes]
    assert Counter(id(one.job) for one in outcomes) == Counter(map(id, every))
    for outcome in outcomes:
        assert outcome.seconds is not None and outcome.seconds >= tuning_kernels.FIXED_COST_S
        assert outcome.cpu and outcome.error < 1e-6 and outcome.reference == "unscheduled"
    assert measurer.notes[-1] == "devices of key 'board' that measure: 4"
    repeated = sum(len(one.outcomes) * (one.passes - 1) for one in ended)
    assert measurer.statistics.run - before <= 36 + repeated and measurer.statistics.restarts == 0


def test_faults_are_counted_by_cause_and_lose_no_other_candidate(
    boards: Farm, space: KernelSpace
) -> None:
    faults = [one for fault in list(CAUSES)[1:] for one in (fault, "none")]
    with FarmMeasurer(SETTINGS, 2.0, boards.address, KEY) as measurer:
        measurer.add_task(0, space.mod)
        measurer.submit(Batch(0, jobs(space, "none", *faults)))
        ended = results(measurer)
    assert causes(ended) == [CAUSES[fault] for fault in ["none", *faults]]
    details = {one.job.payload: one.detail for one in ended[0].outcomes}
    assert details["segfault"] == "killed by SIGSEGV"
    assert details["exit"].startswith("2 devices: the device went")
    # not one server went with it; one that has just been given back registers anew
    local_farm.wait_for(lambda: boards.registered(KEY) == 4, "four servers")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["kill -9", "hung"])
def test_a_lost_device_is_replaced_and_rejoins(
    boards: Farm, space: KernelSpace, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "GRACE_S", 0.5)
    key = f"{KEY}-{number}"
    boards.add_servers(2, key)
    *_, victim, _ = boards.servers
    with FarmMeasurer(SLOW, 4.0, boards.address, key) as measurer:
        measurer.add_task(0, space.mod)
        every = jobs(space, *["none"] * 36)
        wait_for_devices(measurer, every[:2])
        boards.signal(victim, number)
        ended, submitted = [], 0
        deadline = time.monotonic() + PATIENCE_S
        while not any("went in the middle" in note for note in measurer.notes) or measurer.pending:
            assert time.monotonic() < deadline
            while measurer.hungry and submitted < len(every):
                measurer.submit(Batch(0, every[submitted : submitted + 6]))
                submitted += 6
            ended += measurer.poll(0.1)
        assert submitted == len(every)
        assert [one.job.payload for result in ended for one in result.outcomes] == ["none"] * 36
        assert set(causes(ended)) == {None}, "what was on it has been measured by the other"
        measurer.notes.clear()
        if number == signal.SIGSTOP:
            boards.signal(victim, signal.SIGCONT)
        else:
            boards.add_servers(1, key)
        # it measures again without being asked for
        for i in range(0, 36, 12):
            measurer.submit(Batch(0, every[i : i + 12]))

        def back() -> bool:
            return any(note.endswith("measure: 2") for note in measurer.notes)

        deadline = time.monotonic() + PATIENCE_S
        while not back():
            assert time.monotonic() < deadline
            if not measurer.pending:
                measurer.submit(Batch(0, every[:12]))
            measurer.poll(0.1)


def test_losing_every_device_ends_the_run_and_keeps_its_results(
    boards: Farm, space: KernelSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(farm, "QUERY_S", 0.2)
    boards.add_servers(1, "lonely")
    with FarmMeasurer(SLOW, 1.5, boards.address, "lonely") as measurer:
        measurer.add_task(0, space.mod)
        measurer.submit(Batch(0, jobs(space, *["none"] * 30)))
        results(measurer, lambda: any(len(one.outcomes) >= 3 for one in measurer.partial()))
        boards.signal(boards.servers[-1], signal.SIGKILL)
        with pytest.raises(RunFailed, match=r"every device of key 'lonely' is gone.*--resume"):
            results(measurer)
        (kept,) = measurer.partial()
    assert len(kept.outcomes) >= 3 and all(one.seconds for one in kept.outcomes)
    assert any("waiting 2 s for one" in note for note in measurer.notes)


def test_a_key_nobody_has(boards: Farm) -> None:
    with pytest.raises(BadInput, match="has no device 'pi'; it has: board"):
        FarmMeasurer(SETTINGS, 1.0, boards.address, "pi")


def test_no_tracker() -> None:
    with pytest.raises(RunFailed, match=r"no RPC tracker at 127\.0\.0\.1:9"):
        FarmMeasurer(SETTINGS, 1.0, TrackerAddress("127.0.0.1", 9), KEY)


def test_a_device_without_the_targets_features(
    boards: Farm, single: str, space: KernelSpace
) -> None:
    with FarmMeasurer(SETTINGS, 1.0, boards.address, single, ("asimd", "fp")) as measurer:
        measurer.add_task(0, space.mod)
        measurer.submit(Batch(0, jobs(space, "none")))
        with pytest.raises(BadInput, match=r"a device of key 'single': .* \(.+\) has no asimd, fp"):
            results(measurer)


@pytest.mark.skipif(
    shutil.which("aarch64-linux-gnu-gcc") is None, reason="apt-get install gcc-aarch64-linux-gnu"
)
def test_a_device_of_another_architecture(boards: Farm, single: str, space: KernelSpace) -> None:
    triple = {**SPEC.target, "mtriple": "aarch64-linux-gnu"}
    settings = replace(SETTINGS, target=triple, link=("aarch64-linux-gnu-gcc", "-shared"))
    with FarmMeasurer(settings, 1.0, boards.address, single) as measurer:
        measurer.add_task(0, space.mod)
        measurer.submit(Batch(0, jobs(space, "none")))
        with pytest.raises(BadInput, match="runs no code for aarch64-linux-gnu"):
            results(measurer)


@pytest.mark.parametrize(("version", "fits"), [("0.27.1", True), ("0.26.0", False)])
def test_a_server_of_another_tvm_version(
    boards: Farm, space: KernelSpace, tmp_path: Path, version: str, fits: bool
) -> None:
    (tmp_path / "sitecustomize.py").write_text(f"import tvm\ntvm.__version__ = '{version}'\n")
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    key = f"{KEY}-{version}"
    boards.add_servers(1, key, {"PYTHONPATH": path})
    with FarmMeasurer(SETTINGS, 10.0, boards.address, key) as measurer:
        measurer.add_task(0, space.mod)
        measurer.submit(Batch(0, jobs(space, "none")))
        if fits:
            assert causes(results(measurer)) == [None]
            return
        says = rf"a device of key '{key}': the device's RPC server is TVM 0\.26\.0, candidates are"
        with pytest.raises(BadInput, match=says):
            results(measurer)


def test_the_command_measures_over_rpc(
    boards: Farm, single: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    tuning_kernels.register()
    monkeypatch.setattr(target, "resolve", lambda _: SPEC)
    monkeypatch.setattr("tvm_mobilenet.tuning.kernels.load_kernels", lambda *_: [matmul(8, 32, 16)])
    monkeypatch.setattr("tvm_mobilenet.tuning.setup.make_settings", lambda *_: SETTINGS)
    where = ["--rpc-tracker", str(boards.address), "--rpc-key", single]
    assert tune.main(["--work-dir", str(tmp_path), "--trials", "6", *where]) == 0
    records = Records.open(tmp_path, SPEC).records
    assert len(records) >= 6 and {one.info.how for one in records} == {"rpc"}
    assert {one.info.cpu for one in records} != {"unknown"} and os.path.exists(tmp_path)
    meta = json.loads((tmp_path / META).read_text())
    assert meta["cpu"] == records[-1].info.cpu
    assert "devices of key 'single' that measure" in capsys.readouterr().err
    assert tune.main(["--work-dir", str(tmp_path), "--trials", "6", *where[:2], "--rpc-key", "x"])
    (line,) = [one for one in capsys.readouterr().err.splitlines() if one.startswith("error")]
    assert "has no device 'x'" in line


def test_a_device_is_asked_for_the_tiles_of_amx(
    boards: Farm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the process that candidates run in, before any does; one that has none says so."""
    library = compile_library(tmp_path / "device.so", BundleTarget(NAME, "x86_64-linux-gnu"))
    host, port = boards.address
    address = DeviceAddress(host, port, KEY, (cpu.TILES,), str(library))
    worker = device_worker.DeviceWorker(SETTINGS, address)
    if not HAS_TILES:
        with pytest.raises(BadInput, match="has no amx_tile; name its own --target"):
            worker.connect()
        monkeypatch.setattr(device_worker, "check_features", lambda *_: None)
        with pytest.raises(RunFailed, match="system gives no permission for AMX; use Linux"):
            worker.connect()
    monkeypatch.setattr(Device, "permit_tiles", lambda _: None)
    try:
        assert worker.connect().cpu != "unknown"
    finally:
        worker.disconnect()
