"""A loaded bundle gives the reference's numbers, at any thread count, with no compiler around."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support import tiny_bundle

from tvm_mobilenet.errors import BadInput, RunFailed
from tvm_mobilenet.runtime import library
from tvm_mobilenet.runtime.session import load

ROOT = Path(__file__).parents[2]
Python = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny"
    tiny_bundle.write(path, tiny_bundle.classifier())
    return path


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


def test_nothing_of_tvm_torch_or_onnx_is_loaded(tiny: Path, python: Python) -> None:
    done = python("-c", PRINT_IMPORTED, str(tiny))
    assert done.stdout.splitlines() == ["[]", "False"], done.stderr


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
