"""benchmarks/cuda.py on the emulated GPU: what it writes; its times here mean nothing."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest
from support import benchmark_scripts, cuda_emulator, gpu_networks

from tvm_mobilenet.results import schema


def test_a_run_writes_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = gpu_networks.mobilenet(0.25, 32)
    x = np.random.default_rng(0).standard_normal(network.input_shape, dtype=np.float32)
    plan, kind = gpu_networks.planned(network, "cuda-sm_90", "fp32")
    code = gpu_networks.emulated(plan, kind, tmp_path)
    path = gpu_networks.write_bundle(code, network, tmp_path, "fp32", x)
    with tarfile.open(tmp_path / "b.tar", "w") as archive:
        archive.add(path, arcname="0.25-32-b1-fp32")
    results = tmp_path / "results.json"
    arguments = ["run", str(tmp_path / "b.tar"), "--json", str(results)]
    arguments += ["--peers", "torch", "--rounds", "1", "--launches"]
    with gpu_networks.emulated_gpu(monkeypatch, tmp_path / cuda_emulator.LIBRARY):
        done = benchmark_scripts.run_here("cuda", *arguments)
    assert done.returncode == 0, done.stderr
    launches = [line for line in done.stdout.splitlines() if line.endswith(" µs alone")]
    assert len(launches) == len(plan.steps) and "stem_conv2d" in launches[0]
    rows = {row.engine: row for row in schema.load(results).results}
    assert set(rows) == {"tvm", "tvm (device)", "torch"}
    for name, runs in (("tvm", 20), ("tvm (device)", 40)):
        measured = rows[name]
        assert measured.status == "ok" and measured.latency_ms is not None
        assert measured.latency_ms.n == len(measured.samples_ms) == runs
        assert measured.precision == "fp32" and measured.target == "test" and not measured.tuned
        assert measured.max_abs_diff is not None and measured.max_abs_diff < 1e-4
    # the emulated driver is none that PyTorch runs on
    assert rows["torch"].status == "not run" and rows["torch"].reason
    assert "\n" not in rows["torch"].reason
