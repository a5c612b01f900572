"""Two bundles timed in turns: what is told of them, not how long they take."""

from __future__ import annotations

import itertools
import json
import os
import sys
from pathlib import Path

import bundle_pairs
import handover
import pytest
from support import tiny_bundle


def test_the_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bundles = [str(tmp_path / name) for name in ("one", "other")]
    for bundle in bundles:
        tiny_bundle.write(Path(bundle), tiny_bundle.classifier())
    file = tmp_path / "pairs.json"
    options = ["--threads", "1", "--seconds", "0.2", "--json", str(file)]
    monkeypatch.setattr(sys, "argv", ["bundle_pairs", *bundles, *options])
    assert bundle_pairs.main() == 0
    assert f"1 thread: {bundles[0]} takes" in capsys.readouterr().out
    (row,) = json.loads(file.read_text())["rows"]
    low, high = row["interval"]
    assert row["pairs"] > 1 and 0 < low <= row["ratio"] <= high
    assert all(one > 0 for one in row["median_ms"])


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs")
def test_near_and_far_cpus_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = str(tmp_path / "one")
    tiny_bundle.write(Path(bundle), tiny_bundle.classifier())
    times = itertools.cycle([90.0] * 9 + [400.0] * 9)
    monkeypatch.setattr(handover.Handover, "ns", lambda _: next(times))
    file = tmp_path / "pairs.json"
    options = ["--threads", "1", "--seconds", "0.5", "--handover", "--json", str(file)]
    monkeypatch.setattr(sys, "argv", ["bundle_pairs", bundle, bundle, *options])
    assert bundle_pairs.main() == 0
    assert "far CPUs (400 ns)" in capsys.readouterr().out
    near, far = json.loads(file.read_text())["rows"]
    assert (near["cpus"], near["handover_ns"], far["cpus"]) == ("near", 90.0, "far")


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs")
def test_cpus_that_are_neither_near_nor_far_measure_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = str(tmp_path / "one")
    tiny_bundle.write(Path(bundle), tiny_bundle.classifier())
    times = itertools.cycle([90.0, 400.0])
    monkeypatch.setattr(handover.Handover, "ns", lambda _: next(times))
    options = ["--threads", "1", "--seconds", "0.2", "--handover"]
    monkeypatch.setattr(sys, "argv", ["bundle_pairs", bundle, bundle, *options])
    assert bundle_pairs.main() == 1
    assert "take more --seconds" in capsys.readouterr().err


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs")
def test_a_line_goes_there_and_back() -> None:
    before = os.sched_getaffinity(0)
    assert 0 < handover.Handover().ns() < 1e6
    assert os.sched_getaffinity(0) == before


def test_no_bundle_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["bundle_pairs", str(tmp_path / "no"), str(tmp_path / "no")])
    assert bundle_pairs.main() == 2
    assert capsys.readouterr().err.startswith("error: ")
