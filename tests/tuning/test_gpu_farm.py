"""Tuning for GPUs over RPC: emulated ones, behind TVM's own RPC servers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support import cuda_emulator, gpu_networks
from support.gpu_candidates import ARCH, SETTINGS, SPEC, Candidates, check, space

from tvm_mobilenet import tune
from tvm_mobilenet.compiler.pipeline import Kernel
from tvm_mobilenet.database.meta_file import META
from tvm_mobilenet.database.store import Records
from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.hardware import gpu
from tvm_mobilenet.remote import local_farm
from tvm_mobilenet.remote.local_farm import Farm
from tvm_mobilenet.tuning import setup
from tvm_mobilenet.tuning.measuring import farm
from tvm_mobilenet.tuning.measuring.farm import FarmMeasurer
from tvm_mobilenet.tuning.measuring.measurer import Batch, BatchResult, Job
from tvm_mobilenet.tuning.workers.gpu_worker import GpuDeviceWorker
from tvm_mobilenet.tuning.workers.messages import Run

pytestmark = pytest.mark.usefixtures("warm_workers")

Tuned = Callable[..., int]
KEY, OLDER, FULL, NONE = "gpu", "gpu-older", "gpu-full", "gpu-none"
NAMES = ("depthwise_conv2d_8x8", "separable_conv2d_8x8")  # a fraction of a millisecond each
PATIENCE_S = 120.0
LIMIT_S = 1.0  # of a candidate that does not end


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> cuda_emulator.Machine:
    return cuda_emulator.machine(tmp_path_factory.mktemp("machine"))


@pytest.fixture(scope="module")
def environment(machine: cuda_emulator.Machine) -> dict[str, str]:
    """Of a device with the target's GPU."""
    return {
        "LD_LIBRARY_PATH": str(machine.driver),
        "EMULATED_GPU_SM": str(gpu.capability(ARCH)),
        "TVM_USE_RUNTIME_LIB": "1",  # all that a device needs, and sooner there
    }


@pytest.fixture(scope="module")
def boards(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    """A device with the target's GPU, and three that are no good for it."""
    no_driver = tmp_path_factory.mktemp("no-driver")
    (no_driver / gpu.DRIVER).touch()  # in the place of this machine's own, if it has one
    others = {
        OLDER: {"EMULATED_GPU_SM": "80"},
        FULL: {"EMULATED_GPU_MEMORY": "1000"},
        NONE: {"LD_LIBRARY_PATH": str(no_driver)},
    }
    with local_farm.running() as running:
        for key, difference in others.items():
            running.start_servers(1, key, {**environment, **difference})
        running.add_servers(1, KEY, environment)
        local_farm.wait_for(
            lambda: all(running.registered(key) for key in others), "server that is no good"
        )
        yield running


@pytest.fixture(autouse=True)
def this_machine(machine: cuda_emulator.Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has nvcc; and one builder, which takes seconds to start."""
    monkeypatch.setenv("PATH", f"{machine.nvcc}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(farm, "MAX_BUILDERS", 1)


# ---- the command


@pytest.fixture(scope="module")
def kernels() -> list[Kernel]:
    return [gpu_networks.kernel("fp16", name) for name in NAMES]


@pytest.fixture
def tuned(boards: Farm, kernels: list[Kernel], monkeypatch: pytest.MonkeyPatch) -> Tuned:
    monkeypatch.setattr("tvm_mobilenet.tuning.kernels.load_kernels", lambda *_: kernels)
    made = setup.make_settings
    monkeypatch.setattr(
        setup, "make_settings", lambda request: replace(made(request), repeats=2, launches=3)
    )

    def run(key: str, folder: Path, *flags: str) -> int:
        what = ["--target", SPEC.name, "--precision", "fp16", "--timeout", "60"]
        where = ["--rpc-tracker", str(boards.address), "--rpc-key", key, "--work-dir", str(folder)]
        return tune.main([*what, *where, *flags])

    return run


def test_the_command_measures_and_goes_on_where_it_ended(
    tuned: Tuned, tmp_path: Path, capsys: Any
) -> None:
    assert tuned(KEY, tmp_path, "--trials-per-task", "2") == 0
    assert f"devices of key {KEY!r} that measure" in capsys.readouterr().err
    first = Records.open(tmp_path, SPEC).records
    searched = [one for one in first if not one.info.final]
    assert len({one.workload for one in first}) == 2 and len(searched) == 4
    for one in first:
        info = one.info
        assert (info.how, info.cache, info.reference) == ("rpc", "warm", "numpy")
        assert info.cpu.startswith("Emulated GPU, driver ") and info.cpu.endswith("for CUDA 13.0")
        assert one.target["arch"] == ARCH and one.seconds > 0
    assert json.loads((tmp_path / META).read_text())["cpu"] == first[0].info.cpu

    assert tuned(KEY, tmp_path, "--trials-per-task", "3", "--resume") == 0
    again = [one for one in Records.open(tmp_path, SPEC).records if not one.info.final]
    keys = [(one.workload, one.trace_key) for one in again]
    assert len(keys) == len(set(keys)) == 6, "none is measured twice"


def test_a_gpu_that_is_full_is_one_line(tuned: Tuned, tmp_path: Path, capsys: Any) -> None:
    assert tuned(FULL, tmp_path, "--trials", "2") == 1
    (line,) = [one for one in capsys.readouterr().err.splitlines() if one.startswith("error")]
    assert "bytes of weights and workspace: out of memory" in line and FULL in line


# ---- candidates, each with its fault


def test_each_fault_over_rpc_is_its_own_cause(boards: Farm, tmp_path: Path) -> None:
    with FarmMeasurer(SETTINGS, PATIENCE_S, boards.address, KEY) as measurer:
        candidates = Candidates(tmp_path, objects=measurer.builders.objects)
        device = GpuDeviceWorker(SETTINGS, measurer.address)
        device.connect()
        device.handle(candidates.task)
        for fault, cause, goes_on in (
            ("none", None, True),
            ("nothing", "wrong result", True),  # where it would find the one before's result
            ("wrong", "wrong result", True),
            ("lost kernel", "run error", False),
            ("hang", "run timeout", False),
            ("crash", "device lost", False),
            ("none", None, True),
        ):
            limit_s = LIMIT_S if fault == "hang" else PATIENCE_S
            built = candidates.build(fault)
            done = device.handle(Run(1, 0, built, None, limit_s))
            check(done, cause)
            assert done is not None and done.ready is goes_on
            if not goes_on:  # a new session, in a new process there
                device.disconnect()
                device.connect()
        device.disconnect()
    # the server did not go with it
    local_farm.wait_for(lambda: boards.registered(KEY) == 1, "server")


# ---- devices


@pytest.mark.parametrize(
    ("key", "says"),
    [
        (NONE, f"a device of key '{NONE}': this machine has no NVIDIA driver (libcuda)"),
        (OLDER, f"its GPU (Emulated GPU) is sm_80, the target's {ARCH}; name --target cuda-"),
    ],
    ids=["no driver", "another GPU"],
)
def test_a_gpu_that_is_no_good_is_refused(key: str, says: str, boards: Farm) -> None:
    with FarmMeasurer(SETTINGS, PATIENCE_S, boards.address, key) as measurer:
        device = GpuDeviceWorker(SETTINGS, measurer.address)
        with pytest.raises(BadInput) as caught:
            device.connect()
    assert says in str(caught.value) and key in str(caught.value)


@pytest.mark.skipif(
    shutil.which("aarch64-linux-gnu-gcc") is None, reason="apt-get install gcc-aarch64-linux-gnu"
)
def test_the_host_of_a_jetson_is_compiled_for(boards: Farm, tmp_path: Path) -> None:
    settings = replace(SETTINGS, link=("aarch64-linux-gnu-gcc", "-shared"))
    triple = "aarch64-linux-gnu"
    with FarmMeasurer(settings, 1.0, boards.address, KEY, triple=triple) as measurer:
        candidates = Candidates(tmp_path, settings, measurer.builders.objects)
        header = Path(candidates.build("none")).read_bytes()[:20]
        assert header[:4] == b"\x7fELF" and header[18] == 183  # EM_AARCH64
        measurer.add_task(0, space().mod)
        measurer.submit(Batch(0, [Job(space().default.trace_json)]))
        with pytest.raises(BadInput, match=f"runs no code for {triple}"):
            results(measurer, lambda: False)


def test_a_device_that_dies_in_the_middle_costs_no_candidate(
    boards: Farm, environment: dict[str, str]
) -> None:
    boards.add_servers(1, "mortal", environment)
    with FarmMeasurer(SETTINGS, 60.0, boards.address, "mortal") as measurer:
        measurer.add_task(0, space().mod)
        jobs = [Job(space().default.trace_json, number) for number in range(6)]

        def at_work() -> bool:
            (lane,) = measurer.lanes
            return lane.batch is not None and len(lane.batch.results) > 1

        measurer.submit(Batch(0, jobs))
        ended = results(measurer, at_work)
        assert not ended
        boards.signal(boards.servers[-1], signal.SIGKILL)
        local_farm.wait_for(lambda: not boards.registered("mortal"), "end of the server")
        boards.add_servers(1, "mortal", environment)  # its power is back
        ended = results(measurer, lambda: False)
    assert any("went in the middle" in note for note in measurer.notes)
    assert [one.job.payload for result in ended for one in result.outcomes] == list(range(6))
    assert {one.cause for result in ended for one in result.outcomes} == {None}


def test_two_gpus_measure_at_the_same_time(boards: Farm, environment: dict[str, str]) -> None:
    boards.add_servers(2, "pair", environment)
    # a candidate runs for longer than the next one takes to build
    settings = replace(SETTINGS, launches=5)
    at_once: list[int] = []
    with FarmMeasurer(settings, PATIENCE_S, boards.address, "pair") as measurer:
        measurer.add_task(0, space().mod)
        jobs = [Job(space().default.trace_json, number) for number in range(4)]
        for first in range(0, len(jobs), 2):
            measurer.submit(Batch(0, jobs[first : first + 2]))

        def look() -> bool:
            at_once.append(sum(lane.worker.assignment is not None for lane in measurer.lanes))
            return False

        ended = results(measurer, look)
        assert len(measurer.lanes) == 2 and all(lane.sentinels for lane in measurer.lanes)
    assert max(at_once) == 2
    found = sorted((one.job.payload, one.cause) for result in ended for one in result.outcomes)
    assert found == [(number, None) for number in range(len(jobs))]


def results(measurer: FarmMeasurer, until: Callable[[], bool]) -> list[BatchResult]:
    """The batches that end; all of them, or those until something is so."""
    ended: list[BatchResult] = []
    deadline = time.monotonic() + PATIENCE_S
    while measurer.pending and not until():
        assert time.monotonic() < deadline, measurer.notes
        ended += measurer.poll(0.1)
    return ended
