"""benchmarks/cuda.py on the emulated GPU: what it writes; its times here mean nothing."""

from __future__ import annotations

import importlib.util
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
from support import cuda_emulator, gpu_networks

from tvm_mobilenet.results import schema

REPOSITORY = Path(__file__).parents[2]


def benchmark() -> Any:
    spec = importlib.util.spec_from_file_location("cuda", REPOSITORY / "benchmarks" / "cuda.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_run_writes_results(tmp_path: Path, monkeypatch: Any) -> None:
    network = gpu_networks.mobilenet(0.25, 32)
    x = np.random.default_rng(0).standard_normal(network.input_shape, dtype=np.float32)
    plan, kind = gpu_networks.planned(network, "cuda-sm_90", "fp32")
    code = gpu_networks.emulated(plan, kind, tmp_path)
    path = gpu_networks.write_bundle(code, network, tmp_path, "fp32", x)
    with tarfile.open(tmp_path / "b.tar", "w") as archive:
        archive.add(path, arcname="0.25-32-b1-fp32")
    results = tmp_path / "results.json"
    arguments = ["cuda.py", "run", str(tmp_path / "b.tar"), "--json", str(results)]
    arguments += ["--peers", "absent", "--rounds", "2"]
    module = benchmark()
    monkeypatch.setattr("sys.argv", arguments)
    monkeypatch.setitem(module.PEERS, "absent", Absent)
    with gpu_networks.emulated_gpu(monkeypatch, tmp_path / cuda_emulator.LIBRARY):
        assert module.main() == 0
    rows = {row.engine: row for row in schema.load(results).results}
    assert set(rows) == {"tvm", "tvm (device)", "absent"}
    for name, runs in (("tvm", 40), ("tvm (device)", 80)):
        measured = rows[name]
        assert measured.status == "ok" and measured.latency_ms is not None
        assert measured.latency_ms.n == len(measured.samples_ms) == runs
        assert measured.precision == "fp32" and measured.target == "test" and not measured.tuned
        assert measured.max_abs_diff is not None and measured.max_abs_diff < 1e-4
    assert (rows["absent"].status, rows["absent"].reason) == ("not run", "no CUDA in this PyTorch")


class Absent:
    """A peer that cannot run on this machine."""

    name = "absent"

    def __init__(self, _: Any) -> None:
        raise RuntimeError("no CUDA in this PyTorch\nand more lines")
