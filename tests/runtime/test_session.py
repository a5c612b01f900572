"""A loaded bundle gives the reference's numbers, at any thread count, with no compiler around."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
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
from tvm_mobilenet.runtime import library
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


# Numbers


@pytest.mark.parametrize("name", ["tiny", "tiny.tar"])
def test_run_agrees_with_the_reference(tmp_path: Path, name: str) -> None:
    tiny_bundle.write(tmp_path / name, tiny_bundle.classifier())
    with load(tmp_path / name) as loaded:
        for seed in range(3):
            x = np.random.default_rng(seed).standard_normal(loaded.input.shape, dtype=np.float32)
            y = loaded.run(x)
            assert isinstance(y, np.ndarray)
            np.testing.assert_allclose(y, tiny_bundle.reference(x), rtol=1e-5, atol=1e-5)


def test_several_outputs(tmp_path: Path) -> None:
    tiny_bundle.write(tmp_path / "tiny", tiny_bundle.classifier(two_outputs=True), two_outputs=True)
    x = tiny_bundle.sample_input()
    with load(tmp_path / "tiny") as loaded:
        logits, doubled = loaded.run(x)
    np.testing.assert_allclose(logits, tiny_bundle.reference(x), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(doubled, x * 2)


def test_an_input_in_another_memory_order(tiny: Path) -> None:
    x = np.asfortranarray(tiny_bundle.sample_input())
    with load(tiny) as loaded:
        np.testing.assert_allclose(loaded.run(x), tiny_bundle.reference(x), rtol=1e-5, atol=1e-5)


def test_results_are_the_callers_to_keep(tiny: Path) -> None:
    x = tiny_bundle.sample_input()
    loaded = load(tiny)
    first = loaded.run(x)
    loaded.run(np.zeros_like(x))
    loaded.close()
    np.testing.assert_allclose(first, tiny_bundle.reference(x), rtol=1e-5, atol=1e-5)


def test_in_place(tiny: Path) -> None:
    x = tiny_bundle.sample_input()
    with load(tiny) as loaded:
        loaded.input[...] = x
        loaded.infer_in_place()
        np.testing.assert_allclose(loaded.output, tiny_bundle.reference(x), rtol=1e-5, atol=1e-5)


def test_calls_from_several_threads_do_not_mix(tiny: Path) -> None:
    inputs = [np.full(tiny_bundle.INPUT_SHAPE, value, np.float32) for value in range(4)]
    wrong: list[int] = []

    def work(value: int) -> None:
        for _ in range(200):
            if not np.allclose(loaded.run(inputs[value]), tiny_bundle.reference(inputs[value])):
                wrong.append(value)

    with load(tiny) as loaded:
        threads = [threading.Thread(target=work, args=(value,)) for value in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


# What is refused


@pytest.mark.parametrize(
    ("x", "got"),
    [
        (np.zeros((1, 3, 4, 5), np.float32), "float32 of shape 1x3x4x5"),
        (np.zeros((3, 4, 4), np.float32), "float32 of shape 3x4x4"),
        (np.zeros((1, 3, 4, 4), np.float64), "float64 of shape 1x3x4x4"),
        (np.zeros((1, 3, 4, 4), ">f4"), ">f4 of shape 1x3x4x4"),
        (np.array(0, np.float32), "float32 of shape ()"),
    ],
    ids=["shape", "rank", "dtype", "byte order", "scalar"],
)
def test_an_input_that_does_not_fit(tiny: Path, x: np.ndarray, got: str) -> None:
    with load(tiny) as loaded, pytest.raises(BadInput) as error:
        loaded.run(x)
    assert "expected float32 of shape 1x3x4x4 (NCHW), got " + got in str(error.value)
    assert "\n" not in str(error.value)


def test_a_closed_session(tiny: Path) -> None:
    loaded = load(tiny)
    loaded.close()
    loaded.close()
    with pytest.raises(RunFailed, match="this session is closed"):
        loaded.run(tiny_bundle.sample_input())


def test_an_executor_from_the_future(tmp_path: Path) -> None:
    tiny_bundle.write(tmp_path / "tiny", executor="quantum")
    with pytest.raises(BadInput, match="executor 'quantum' is not known here; expected static"):
        load(tmp_path / "tiny")


def test_a_library_that_is_none(tmp_path: Path) -> None:
    tiny_bundle.write(tmp_path / "tiny", b"not a library")
    with pytest.raises(RunFailed, match=r"model\.so does not load: ") as error:
        load(tmp_path / "tiny")
    assert "\n" not in str(error.value)


def test_a_library_of_another_name(tmp_path: Path) -> None:
    library = tiny_bundle.compiled(tiny_bundle.classifier_source())
    tiny_bundle.write(tmp_path / "tiny", library, name="guess")
    with pytest.raises(BadInput, match="exports no function info"):
        load(tmp_path / "tiny")


def test_a_library_of_other_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = tiny_bundle.classifier()
    monkeypatch.setattr(tiny_bundle, "WEIGHTS", np.array([1, 2, 4], np.uint8))
    tiny_bundle.write(tmp_path / "tiny", library)
    with pytest.raises(BadInput, match="not the weights of network") as error:
        load(tmp_path / "tiny")
    assert "\n" not in str(error.value)


def test_more_memory_than_there_is(tmp_path: Path) -> None:
    about = tiny_bundle.manifest(workspace_bytes=1 << 60)
    library = tiny_bundle.compiled(tiny_bundle.classifier_source(), about)
    tiny_bundle.write(tmp_path / "tiny", library, workspace_bytes=1 << 60)
    with pytest.raises(RunFailed, match="no memory for"):
        load(tmp_path / "tiny")


def test_a_tar_refused_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unpacked = tmp_path / "unpacked"
    unpacked.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(unpacked))
    tiny_bundle.write(tmp_path / "tiny.tar", b"not a library")
    with pytest.raises(RunFailed):
        load(tmp_path / "tiny.tar")
    assert list(unpacked.iterdir()) == []


def test_nothing_is_loaded_when_a_check_fails(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load_function(file: Path, path: Path) -> None:
        pytest.fail("the library was loaded")

    monkeypatch.setattr(library, "load_library", load_function)
    file = tiny / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"cpu_features": ["avx9000"]}))
    with pytest.raises(BadInput, match="avx9000"):
        load(tiny)


def change_weights(tiny: Path) -> None:
    """Other weights, and a manifest that says they are right: as who changes them on purpose."""
    file = tiny / "parameters.bin"
    content = bytearray(file.read_bytes())
    content[0] ^= 1
    file.write_bytes(content)
    manifest = tiny / "manifest.json"
    known = json.loads(manifest.read_text())
    known["files"]["parameters.bin"] = hashlib.sha256(content).hexdigest()
    manifest.write_text(json.dumps(known))


def test_the_library_refuses_weights_that_are_not_the_compiled_ones(tiny: Path) -> None:
    change_weights(tiny)
    with pytest.raises(BadInput, match=r"parameters\.bin: not the weights of network .*compile it"):
        load(tiny)


def test_the_bundle_may_go_while_its_session_is_open(tiny: Path) -> None:
    with load(tiny) as loaded:
        shutil.rmtree(tiny)
        np.testing.assert_allclose(
            loaded.run(tiny_bundle.sample_input()),
            tiny_bundle.reference(tiny_bundle.sample_input()),
            rtol=1e-5,
        )


def test_a_bundle_compiled_again_runs_its_new_code(tmp_path: Path) -> None:
    path = tmp_path / "tiny"
    x = tiny_bundle.sample_input()
    tiny_bundle.write(path, tiny_bundle.classifier())
    with load(path) as old:
        body = "for (int c = 0; c < 3; c++) output[c] *= 3;"
        tripled = tiny_bundle.classifier_source(body=body)
        tiny_bundle.write(path, tiny_bundle.compiled(tripled))
        with load(path) as new:
            np.testing.assert_allclose(new.run(x), 3 * np.asarray(old.run(x)), rtol=1e-5)


# What is loaded into the process

PRINT_IMPORTED = """
import sys
import numpy
from tvm_mobilenet.runtime.session import load
with load(sys.argv[1]) as loaded:
    loaded.run(loaded.bundle.sample_input())
print(sorted({"torch", "onnx", "tvm", "tvm_ffi"} & sys.modules.keys()))
print("libtvm" in open("/proc/self/maps").read())
"""


def test_nothing_of_tvm_torch_or_onnx_is_loaded(tiny: Path) -> None:
    assert python(PRINT_IMPORTED, tiny).split("\n") == ["[]", "False"]


def test_numpy_alone_is_enough(tiny: Path, tmp_path: Path) -> None:
    """Run as on a device: nothing else installed, and no folder for temporary files."""
    device = tmp_path / "device"
    device.mkdir()
    (device / "tvm_mobilenet").symlink_to(ROOT / "tvm_mobilenet")
    site = Path(np.__file__).parents[1]
    for name in ("numpy", "numpy.libs", "typing_extensions.py"):
        if (site / name).exists():
            (device / name).symlink_to(site / name)
    script = "import sys; from tvm_mobilenet import run; sys.exit(run.main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-S", "-c", script, str(tiny)],
        capture_output=True,
        text=True,
        cwd="/",
        env={"PYTHONPATH": str(device), "TMPDIR": "/nowhere"},
        timeout=240,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.rstrip().endswith("ok")


# Threads

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
