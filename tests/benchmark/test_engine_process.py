"""The worker protocol: what a process answers, and what the parent makes of one that misbehaves."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from support import fake_engines

from tvm_mobilenet.benchmark.engines.process import (
    EngineFailed,
    EngineProcess,
    Timeouts,
    wait_until_asleep,
)
from tvm_mobilenet.benchmark.engines.protocol import Job

X = np.arange(6, dtype=np.float32).reshape(1, 6)
PATIENT = Timeouts()

Start = Callable[..., EngineProcess]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a fake engine; its process ends with the test."""
    with ExitStack() as stack:

        def start_engine(
            engine: type[fake_engines.Twice], threads: int = 1, timeouts: Timeouts = PATIENT
        ) -> EngineProcess:
            path = fake_engines.entry(engine).path
            return stack.enter_context(EngineProcess(path, Job(threads), tmp_path, timeouts))

        yield start_engine


def test_a_process_answers(start: Start) -> None:
    process = start(fake_engines.Twice)
    load_ms, version = process.load()
    first_ms, outputs = process.first_run([X])
    times = process.run(unrecorded=2, runs=5, expected_ms=1)
    assert version == "2.0"
    assert load_ms > 0 and first_ms > 0
    assert len(times) == 5 and min(times) > 0
    np.testing.assert_array_equal(outputs[0], 2 * X)
    np.testing.assert_array_equal(process.outputs()[0], 2 * X)


def test_its_memory_is_its_own(start: Start) -> None:
    ballast = np.ones(200_000_000, np.uint8)
    process = start(fake_engines.Twice)
    process.load()
    assert 5 < process.peak_rss_mb() < ballast.nbytes / 1e6


def test_its_threads_and_temporary_files_are_set(start: Start, tmp_path: Path) -> None:
    _, version = start(fake_engines.Environment, threads=3).load()
    assert version == f"3 {tmp_path}"


def test_what_it_prints_is_kept_off_the_terminal(
    start: Start, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    process = start(fake_engines.Twice)
    process.load()
    process.close()
    assert capfd.readouterr().out == ""
    assert "loading" in (tmp_path / "log.txt").read_text()


def test_an_exception_is_its_first_line(start: Start) -> None:
    process = start(fake_engines.Raises)
    process.load()
    with pytest.raises(EngineFailed, match=r"^ValueError: this shape is not supported$"):
        process.first_run([X])


def test_unavailable_says_what_to_install(start: Start) -> None:
    with pytest.raises(EngineFailed, match=r"^needs a compiler: apt-get install g\+\+$"):
        start(fake_engines.Absent).load()


def test_a_missing_module_is_named(tmp_path: Path) -> None:
    path = "no_such_module:Engine"
    with (
        EngineProcess(path, Job(1), tmp_path, PATIENT) as process,
        pytest.raises(EngineFailed, match="no_such_module is not installed"),
    ):
        process.load()


def test_a_crash_names_the_signal_and_the_last_words(start: Start) -> None:
    process = start(fake_engines.CrashesAtLoad)
    with pytest.raises(EngineFailed, match=r"SIGSEGV during 'load': cannot map the library"):
        process.load()
    process.close()


def test_an_exit_names_the_status(start: Start) -> None:
    process = start(fake_engines.CrashesLater)
    process.load()
    process.first_run([X])
    with pytest.raises(EngineFailed, match="ended with status 7 during 'run'"):
        process.run(0, 20, 1)


def test_a_hang_is_killed(start: Start) -> None:
    process = start(fake_engines.Hangs, timeouts=Timeouts(first_run=0.2))
    process.load()
    with pytest.raises(EngineFailed, match=r"no answer to 'first_run' in 0\.2 s"):
        process.first_run([X])
    assert process.pid is not None
    assert not Path(f"/proc/{process.pid}").exists()


def test_an_interrupted_run_does_not_keep_the_process(tmp_path: Path) -> None:
    path = fake_engines.entry(fake_engines.Hangs).path
    process = EngineProcess(path, Job(1), tmp_path, PATIENT)

    def interrupted_while_it_runs() -> None:
        with process:
            process.load()
            process.begin("first_run", X)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted_while_it_runs()
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid or 0, 0)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc (Linux)")
def test_an_idle_process_is_asleep_and_a_spinning_one_is_not(start: Start) -> None:
    idle, restless = start(fake_engines.Twice), start(fake_engines.Restless)
    idle.load()
    assert wait_until_asleep(idle.pid, limit_s=10)
    restless.load()
    assert not wait_until_asleep(restless.pid, limit_s=0.1)
