"""The benchmark of candidates a second, without TVM's side, which takes a minute."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support import benchmark_scripts

pytestmark = pytest.mark.usefixtures("warm_workers")

NETWORK = ("--alpha", "0.25", "--resolution", "32", "--ours-only", "--rounds", "1")
BATCH = 12


def test_it_counts_what_was_measured(tmp_path: Path) -> None:
    path = tmp_path / "speed.json"
    kernel = "depthwise_conv2d_2x2x128"
    done = benchmark_scripts.run_here(
        "tuning_speed", *NETWORK, "--kernel", kernel, "--json", str(path)
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(path.read_text())
    assert result["kernels"] == [kernel] and result["machine"]["cores"] >= 1
    (only,) = result["rounds"]
    assert 1 <= only["candidates"] == result["candidates"] <= BATCH
    assert result["ours_per_second"] == pytest.approx(only["candidates"] / only["ours_s"])
    assert f"{only['candidates']} candidates" in done.stdout


def test_a_kernel_that_the_network_does_not_have() -> None:
    done = benchmark_scripts.run_here("tuning_speed", *NETWORK, "--kernel", "conv3d")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "error: expected conv3d; this network has " in done.stderr
    assert "depthwise_conv2d_2x2" in done.stderr
