"""benchmarks/cuda_pairs.py: what it prints, and that it asks what the compiler asks."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from support import gpu_networks

from tvm_mobilenet.models import MobileNetConfig

REPOSITORY = Path(__file__).parents[2]


def benchmark() -> Any:
    path = REPOSITORY / "benchmarks" / "cuda_pairs.py"
    spec = importlib.util.spec_from_file_location("cuda_pairs", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_chain_is_the_compilers() -> None:
    assert benchmark().chain_of(MobileNetConfig(), 1) == gpu_networks.chain()


def test_a_line_for_every_precision(monkeypatch: Any, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["cuda_pairs.py", "--target", "cuda-sm_75", "--batches", "8"])
    benchmark().main()
    fp32, fp16 = capsys.readouterr().out.splitlines()
    assert fp32.startswith("sm_75 fp32 batch  8: SSSSSSSSSSSS..") and fp32.endswith("( 0.0 %)")
    assert fp16.startswith("sm_75 fp16 batch  8: .PPP.") and "(12." in fp16
