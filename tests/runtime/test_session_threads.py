"""A session's threads: as many as were asked, none left behind, forks and requests beside it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from support import tiny_bundle

from tvm_mobilenet import bundle
from tvm_mobilenet.errors import BadInput, RunFailed
from tvm_mobilenet.runtime import threads as thread_pool
from tvm_mobilenet.runtime.session import load

ROOT = Path(__file__).parents[2]
TWO_CPUS = pytest.mark.skipif(
    len(thread_pool.available_cpus()) < 2, reason="needs 2 CPUs; this process may use one"
)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny"
    tiny_bundle.write(path, tiny_bundle.classifier())
    return path


@pytest.fixture
def parallel(tmp_path: Path) -> Path:
    return written(tmp_path, tiny_bundle.PARALLEL)


@pytest.fixture
def held(tmp_path: Path) -> Path:
    """Its runs end when they are told to."""
    return written(tmp_path, tiny_bundle.HELD)


def written(folder: Path, source: str) -> Path:
    """The bundle of a network in C that gives eight ones."""
    path, file = folder / "bundle", folder / "bundle.so"
    outputs = (bundle.TensorInfo("y", (1, 8), "float32", "NC"),)
    about = tiny_bundle.manifest(outputs=outputs)
    file.write_bytes(tiny_bundle.compiled(source, about))
    bundle.write(
        path,
        about,
        library=file,
        parameters=tiny_bundle.WEIGHTS,
        sample_inputs=[np.ones(tiny_bundle.INPUT_SHAPE, np.float32)],
        expected_outputs=[np.ones((1, 8), np.float32)],
        licenses="",
    )
    return path


def python(script: str, *arguments: str | Path, **environment: str) -> str:
    """What ``script`` prints in a fresh interpreter."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env=os.environ | environment, timeout=240
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


COUNT_WORK = """
import os, sys, time
import numpy
from tvm_mobilenet.runtime.session import load

def busy():  # user ticks of 10 ms by kernel thread
    return {t: int(open(f"/proc/self/task/{t}/stat").read().rsplit(")", 1)[1].split()[11])
            for t in os.listdir("/proc/self/task")}

allowed = os.sched_getaffinity(0)
session = load(sys.argv[1], threads=int(sys.argv[2]))
x = session.bundle.sample_input()
before = busy()
for _ in range(2):
    session.run(x)
after = busy()
time.sleep(0.1)
begin = time.process_time()
time.sleep(0.5)
idle = time.process_time() - begin
print(len([t for t in after if after[t] - before.get(t, 0) >= 3]),
      os.sched_getaffinity(0) == allowed, idle < 0.005)
"""


@pytest.mark.parametrize("threads", [1, pytest.param(2, marks=TWO_CPUS)])
def test_as_many_threads_work_as_were_asked_and_then_none(parallel: Path, threads: int) -> None:
    """Whatever the environment says; the caller keeps its CPUs, and idle threads use none."""
    printed = python(COUNT_WORK, parallel, str(threads), TVM_NUM_THREADS="1")
    assert printed.split() == [str(threads), "True", "True"]


@TWO_CPUS
def test_thread_counts_can_alternate_in_one_process(parallel: Path) -> None:
    x = np.ones(tiny_bundle.INPUT_SHAPE, np.float32)
    before = os.sched_getaffinity(0)
    with load(parallel) as one, load(parallel, threads=2) as two:
        for loaded in (one, two, one, two):
            np.testing.assert_allclose(loaded.run(x), 1, rtol=1e-3)
    assert os.sched_getaffinity(0) == before


@TWO_CPUS
def test_requests_in_new_threads_leave_none_behind(tiny: Path) -> None:
    script = """
import os, sys, threading, time
from tvm_mobilenet.runtime.session import load
alone = len(os.listdir("/proc/self/task"))

def more_than(count):
    # a thread that was joined is there until the system has taken it away
    for _ in range(100):
        more = len(os.listdir("/proc/self/task")) - count
        if more <= 0:
            break
        time.sleep(0.02)
    return more

session = load(sys.argv[1], threads=2)
x = session.bundle.sample_input()
before = len(os.listdir("/proc/self/task"))
for _ in range(20):
    thread = threading.Thread(target=session.run, args=(x,))
    thread.start()
    thread.join()
print(more_than(before))
session.close()
print(more_than(alone))
"""
    assert python(script, tiny).split() == ["0", "0"]


@TWO_CPUS
def test_a_forked_child_has_a_working_session(tiny: Path) -> None:
    script = """
import os, sys
import numpy as np
from tvm_mobilenet.runtime.session import load
session = load(sys.argv[1], threads=2)
x = session.bundle.sample_input()
expected = session.run(x)
child = os.fork()
if child == 0:
    same = all(np.array_equal(session.run(x), expected) for _ in range(3))
    session.close()
    os._exit(0 if same else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), np.array_equal(session.run(x), expected))
"""
    assert python(script, tiny) == "0 True"


def test_a_child_forked_in_a_run_does_not_hang(held: Path) -> None:
    """Its session says that it is busy, as it was when the child was made; it runs nothing."""
    script = """
import os, sys, threading, time
from tvm_mobilenet import errors
from tvm_mobilenet.runtime.session import load
session = load(sys.argv[1])
x = session.bundle.sample_input()
thread = threading.Thread(target=session.run, args=(x,))
thread.start()
while session.output[0, 0] != 2:
    time.sleep(0.001)
child = os.fork()
if child == 0:
    try:
        session.run(x)
    except errors.RunFailed as error:
        os._exit(0 if "is running in another thread" in str(error) else 1)
    os._exit(2)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
session.input[:] = 0
thread.join()
"""
    assert python(script, held) == "0"


def test_closing_waits_for_a_run(held: Path) -> None:
    loaded = load(held)
    given, said = loaded.input, loaded.output
    results: list[np.ndarray] = []
    x = loaded.bundle.sample_input()
    thread = threading.Thread(target=lambda: results.append(np.asarray(loaded.run(x))))
    thread.start()
    while said[0, 0] != 2:
        time.sleep(0.001)
    closing = threading.Thread(target=loaded.close)
    closing.start()
    closing.join(0.1)
    assert closing.is_alive()
    given[:] = 0
    for one in (thread, closing):
        one.join()
    assert results[0][0, 0] == 1
    with pytest.raises(RunFailed, match="closed"):
        loaded.run(x)


def test_threads_by_default_are_what_the_process_may_use(tiny: Path) -> None:
    with load(tiny, threads=0) as loaded:
        assert 1 <= loaded.threads <= len(thread_pool.available_cpus())


def test_more_threads_than_cpus(tiny: Path) -> None:
    cpus = len(thread_pool.available_cpus())
    with pytest.raises(BadInput, match=f"{cpus + 1} threads asked, .* may use: {cpus};"):
        load(tiny, threads=cpus + 1)
