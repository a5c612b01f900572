"""The benchmark of candidates a second, without TVM's side, which takes a minute."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import tuning_speed

NETWORK = ["--alpha", "0.25", "--resolution", "32", "--ours-only", "--rounds", "1"]


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["tuning_speed.py", *NETWORK, *arguments])
    return tuning_speed.main()


def test_it_counts_what_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "speed.json"
    kernel = "depthwise_conv2d_2x2x128"
    assert run(monkeypatch, "--kernel", kernel, "--json", str(path)) == 0
    result = json.loads(path.read_text())
    assert result["kernels"] == [kernel]
    (only,) = result["rounds"]
    assert 1 <= only["candidates"] == result["candidates"] <= tuning_speed.BATCH
    assert result["ours_per_second"] == pytest.approx(only["candidates"] / only["ours_s"])
    assert f"{only['candidates']} candidates" in capsys.readouterr().out


def test_a_kernel_that_the_network_does_not_have(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match=r"wanted conv3d; this network has .*depthwise_conv2d_2x2"):
        run(monkeypatch, "--kernel", "conv3d")
