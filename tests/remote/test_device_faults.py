"""What can be wrong with a device: each is one line that says what to do, and nothing is lost.

The device is this machine, behind TVM's own RPC server; that the same goes over to an ARM one is
asked in tests/emulation/test_arm_emulator.py.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import tvm
from support import tiny_bundle

from tvm_mobilenet import bench
from tvm_mobilenet.benchmark.places import held_device
from tvm_mobilenet.bundle import Target
from tvm_mobilenet.emulation.devices import HOST
from tvm_mobilenet.errors import BadInput, RunFailed
from tvm_mobilenet.remote import local_farm, session
from tvm_mobilenet.remote.local_farm import Farm
from tvm_mobilenet.remote.tracker import TrackerAddress
from tvm_mobilenet.results import schema

pytestmark = pytest.mark.usefixtures("warm_workers")

KEY = "board"
PROTOCOL = b"\0000.8.0\000"  # as libtvm_runtime.so names the RPC protocol it speaks

WITHOUT_ONNXRUNTIME = """
from importlib.machinery import PathFinder
find = PathFinder.find_spec
PathFinder.find_spec = lambda name, *where: None if name == "onnxruntime" else find(name, *where)
"""


@pytest.fixture(scope="module")
def farm() -> Iterator[Farm]:
    """A tracker that holds no device yet."""
    with local_farm.running() as running:
        yield running


@pytest.fixture(scope="module")
def board(farm: Farm) -> Iterator[TrackerAddress]:
    """A device that nothing is wrong with."""
    with farm.server(KEY):
        yield farm.address


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = tmp_path / "bundle"
    tiny_bundle.write(path, tiny_bundle.classifier())
    return path


def load(path: Path, address: TrackerAddress, key: str = KEY) -> None:
    """Load and let go, for what must not get so far."""
    with session.load(path, address, key):
        pass


def test_a_good_one(bundle: Path, board: TrackerAddress) -> None:
    with session.load(bundle, board, KEY) as loaded:
        x = tiny_bundle.sample_input()
        np.testing.assert_allclose(loaded.run(x), tiny_bundle.reference(x), rtol=1e-5)
        assert loaded.about.tvm_version == tvm.__version__
        assert loaded.about.features, "read from /proc/cpuinfo, whose size is said to be 0"
        assert loaded.about.onnxruntime and not loaded.about.emulated


@pytest.mark.parametrize("name", ["x", "1234567", "of more than seven bytes"])
def test_its_files_are_read_however_short_their_path(
    bundle: Path, farm: Farm, tmp_path: Path, name: str
) -> None:
    """TVM passes a text of up to seven bytes in another form."""
    key, paths = f"files-{len(name)}", os.pathsep.join(filter(None, sys.path))
    before = ["env", "-C", str(tmp_path)]
    with (
        farm.server(key, {"PYTHONPATH": paths}, before),
        session.load(bundle, farm.address, key) as loaded,
    ):
        assert loaded.device.run_python(f"open({name!r}, 'w').write('what it says')")
        assert loaded.device.read_file(name) == "what it says"
        assert loaded.device.read_file("none") is None
        assert loaded.device.read_file("/nowhere/at/all") is None


def test_a_wrong_key(bundle: Path, board: TrackerAddress) -> None:
    with pytest.raises(BadInput, match=f"has no device 'other'; it has: .*{KEY}"):
        load(bundle, board, "other")


def test_the_tracker_is_down(bundle: Path) -> None:
    with pytest.raises(RunFailed, match="no RPC tracker at"):
        load(bundle, TrackerAddress(HOST, local_farm.free_port()))


@pytest.mark.skipif(
    shutil.which("aarch64-linux-gnu-gcc") is None, reason="apt-get install gcc-aarch64-linux-gnu"
)
def test_another_architecture(tmp_path: Path, board: TrackerAddress) -> None:
    tiny_bundle.write(tmp_path / "arm", target=Target("arm-rpi4", "aarch64-linux-gnu"))
    with pytest.raises(BadInput, match="the device runs no code for aarch64") as caught:
        load(tmp_path / "arm", board)
    assert "\n" not in str(caught.value)


def test_instructions_that_it_lacks(tmp_path: Path, board: TrackerAddress) -> None:
    tiny_bundle.write(tmp_path / "new", cpu_features=("avx1024",))
    with pytest.raises(BadInput, match=r"the device \(.*\) has no avx1024"):
        load(tmp_path / "new", board)


def in_small_disk(folder: Path, kilobytes: int) -> list[str]:
    """What runs a command with a file system of so many kilobytes for its temporary files."""
    folder.mkdir()
    mount = f"mount -t tmpfs -o size={kilobytes}k none {folder}"
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c", f'{mount} && exec "$0" "$@"']
    if (
        shutil.which("unshare") is None
        or subprocess.run([*command, "true"], check=False).returncode
    ):
        pytest.skip("this system lets no user mount a file system of its own (unshare)")
    return command


@pytest.mark.parametrize("kilobytes", [4, 64])
def test_its_disk_is_full(kilobytes: int, tmp_path: Path, farm: Farm, bundle: Path) -> None:
    disk = tmp_path / "disk"
    before, key = in_small_disk(disk, kilobytes), f"small-{kilobytes}"
    # a library that fits no disk of this size; what is loaded first, is of 16 KB
    with (bundle / "model.so").open("ab") as file:
        file.write(bytes(100 << 10))
    tiny_bundle.write(bundle, (bundle / "model.so").read_bytes())
    with farm.server(key, {"TMPDIR": str(disk)}, before):
        with pytest.raises(RunFailed, match=r"the device kept .*: its disk is full") as caught:
            load(bundle, farm.address, key)
        assert ("device.so" if kilobytes == 4 else "model.so") in str(caught.value)
        assert "\n" not in str(caught.value)


def test_another_version_of_tvm(tmp_path: Path, farm: Farm, bundle: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import tvm\ntvm.__version__ = '0.18.0'\n")
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    with (
        farm.server("old", {"PYTHONPATH": path}),
        pytest.raises(
            BadInput, match=r"RPC server is TVM 0\.18\.0, .* by TVM 0\.27.*: pip install"
        ),
    ):
        load(bundle, farm.address, "old")


def test_another_protocol(tmp_path: Path, farm: Farm, bundle: Path) -> None:
    """A server whose runtime library says that it speaks an older one."""
    folder = Path(tvm.__file__).parent / "lib"
    library = (folder / "libtvm_runtime.so").read_bytes()
    assert library.count(PROTOCOL) == 1
    (tmp_path / "libtvm_runtime.so").write_bytes(library.replace(PROTOCOL, b"\0000.7.0\000"))
    environment = {"TVM_LIBRARY_PATH": str(tmp_path), "TVM_USE_RUNTIME_LIB": "1"}
    with (
        farm.server("older", environment),
        pytest.raises(RunFailed, match="speaks another RPC protocol; install the same") as caught,
    ):
        load(bundle, farm.address, "older")
    assert "\n" not in str(caught.value)


# Bench


@pytest.fixture
def network(tmp_path: Path) -> tuple[Path, Path]:
    """A bundle, and the ONNX file that it says it comes from."""
    import hashlib

    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [
            helper.make_node("ReduceSum", ["input", "axes"], ["sums"], keepdims=0),
            helper.make_node("Mul", ["sums", "weights"], ["logits"]),
        ],
        "tiny",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, tiny_bundle.INPUT_SHAPE)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, (1, 3))],
        [
            helper.make_tensor("axes", TensorProto.INT64, [2], [2, 3]),
            helper.make_tensor("weights", TensorProto.FLOAT, [3], [1, 2, 3]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "tiny.onnx")
    digest = hashlib.sha256((tmp_path / "tiny.onnx").read_bytes()).hexdigest()
    library = tiny_bundle.classifier()
    tiny_bundle.write(tmp_path / "b", library, model={"onnx_sha256": digest})
    return tmp_path / "b", tmp_path / "tiny.onnx"


def arguments(network: tuple[Path, Path], address: TrackerAddress, key: str) -> list[str]:
    bundle, onnx_file = network
    where = ["--rpc-tracker", str(address), "--rpc-key", key]
    return [str(bundle), "--onnx", str(onnx_file), *where, "--min-time", "0", "--min-runs", "6"]


def test_bench_on_a_device(
    network: tuple[Path, Path],
    board: TrackerAddress,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "r.json"
    against = ["--against", "onnxruntime,openvino", "--json", str(file)]
    assert bench.main([*arguments(network, board, KEY), *against]) == 0
    results = schema.load(file)
    ours, onnxruntime, openvino = results.results
    for row in (ours, onnxruntime):
        assert (row.status, row.how) == ("ok", "rpc")
        assert row.latency_ms is not None and row.latency_ms.n >= 6
        assert row.max_abs_diff is not None and row.max_abs_diff < 1e-4
    assert openvino.reason == "on a device bundle and onnxruntime are timed only"
    device = results.machine.device
    assert device is not None and not device.emulated and device.versions["tvm"] == tvm.__version__
    assert "1 thread, rpc" in capsys.readouterr().out


def test_bench_without_onnxruntime_there(
    network: tuple[Path, Path], farm: Farm, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(WITHOUT_ONNXRUNTIME)
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    file = tmp_path / "r.json"
    with farm.server("bare", {"PYTHONPATH": path}):
        assert bench.main([*arguments(network, farm.address, "bare"), "--json", str(file)]) == 0
    ours, onnxruntime = schema.load(file).results
    assert ours.status == "ok"
    assert onnxruntime.reason is not None and "pip install onnxruntime" in onnxruntime.reason


HANGING_PEER = """
import time
input()
print('{"version": "1", "load_ms": 1}', flush=True)
time.sleep(3600)
"""


def test_a_peer_that_hangs_there_is_killed(
    network: tuple[Path, Path],
    board: TrackerAddress,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file, script = tmp_path / "r.json", tmp_path / "peer.py"
    script.write_text(HANGING_PEER)
    monkeypatch.setattr(held_device, "onnx_worker_file", lambda: script)
    monkeypatch.setattr(held_device, "FIRST_RUN_S", 3.0)
    against = ["--against", "onnxruntime", "--json", str(file)]
    assert bench.main([*arguments(network, board, KEY), *against]) == 0
    ours, hanging = schema.load(file).results
    assert ours.status == "ok"
    assert hanging.reason == "ONNX Runtime on the device: no answer in 3 s; process killed"


@pytest.mark.parametrize("asked_s", [0, 0.3], ids=["at any moment", "while it is asked"])
def test_a_device_lost_in_the_middle_loses_no_row(
    asked_s: float, network: tuple[Path, Path], farm: Farm, tmp_path: Path
) -> None:
    """Asked of something, a device that goes resets the connection; else it closes it."""
    file, key = tmp_path / "r.json", f"weak-{asked_s}"
    many = ["--threads", "1,1,1,1,1,1,1,1", "--json", str(file)]
    command = [sys.executable, "-m", "tvm_mobilenet.bench", *arguments(network, farm.address, key)]
    with (
        farm.server(key) as server,
        subprocess.Popen([*command, *many], stderr=subprocess.PIPE, text=True) as process,
    ):
        deadline = time.monotonic() + 180
        while not file.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        if asked_s:
            os.killpg(server.pid, signal.SIGSTOP)
            time.sleep(asked_s)
        os.killpg(server.pid, signal.SIGKILL)
        assert process.stderr is not None
        *_, last = process.stderr.read().splitlines()
        assert process.wait(timeout=180) == 1
    assert (
        last.startswith("error: bundle was not measured: ")
        and "the device failed: it is lost" in last
    )
    rows = schema.load(file).results
    assert rows[0].status == "ok" and rows[-1].status == "not run"


def test_the_flags_go_together(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main([str(bundle), "--rpc-key", "board"]) == 2
    assert "--rpc-key goes with --rpc-tracker" in capsys.readouterr().err
    assert bench.main([str(bundle), "--rpc-tracker", "desk"]) == 2
    assert "--rpc-key: target test has no rpc_key of its own" in capsys.readouterr().err
