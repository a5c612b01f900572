"""Two bundles timed in turns: what is told of them, not how long they take."""

from __future__ import annotations

import importlib
import itertools
import json
import os
import re
import sys
from pathlib import Path

import pytest
from support import benchmark_scripts, tiny_bundle

TWO_CPUS = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs")


def write_bundle(path: Path) -> str:
    tiny_bundle.write(path, tiny_bundle.classifier())
    return str(path)


def compare_scripted(monkeypatch: pytest.MonkeyPatch, run: int, *arguments: str) -> int:
    """The exit status, with so many handovers of 90 ns and of 400 ns by turns."""
    monkeypatch.syspath_prepend(str(benchmark_scripts.FOLDER))
    module = importlib.import_module("bundle_pairs")
    calls = itertools.count()
    far = (next(calls) // run % 2 for _ in itertools.count())
    monkeypatch.setattr(module.Handover, "ns", lambda _: 400.0 if next(far) else 90.0)
    monkeypatch.setattr(sys, "argv", ["bundle_pairs.py", *arguments])
    return int(module.main())


@pytest.mark.parametrize(
    ("flags", "measured"), [([], "latency"), (["--cpu-time"], "CPU time")], ids=str
)
def test_the_results(tmp_path: Path, flags: list[str], measured: str) -> None:
    bundles = [write_bundle(tmp_path / name) for name in ("one", "other")]
    file = tmp_path / "pairs.json"
    options = ["--threads", "1", "--seconds", "0.2", *flags, "--json", str(file)]
    done = benchmark_scripts.run_here("bundle_pairs", *bundles, *options)
    assert done.returncode == 0, done.stderr
    assert f"1 thread: {bundles[0]} takes" in done.stdout
    result = json.loads(file.read_text())
    assert result["format_version"] == 1 and result["machine"]["versions"]["numpy"]
    assert result["command"].startswith("python ") and result["created"].endswith("+00:00")
    assert result["what"].startswith(measured)
    (row,) = result["rows"]
    low, high = row["interval"]
    assert row["pairs"] > 1 and 0 < low <= row["ratio"] <= high
    assert all(one > 0 for one in row["median_ms"])


def test_cpu_time_is_of_one_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = write_bundle(tmp_path / "one")
    assert compare_scripted(monkeypatch, 9, bundle, bundle, "--threads", "2", "--cpu-time") == 2
    assert "--cpu-time is of one thread; expected --threads 1" in capsys.readouterr().err


@TWO_CPUS
def test_near_and_far_cpus_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = write_bundle(tmp_path / "one")
    file = tmp_path / "pairs.json"
    options = ["--threads", "1", "--seconds", "0.5", "--handover", "--json", str(file)]
    assert compare_scripted(monkeypatch, 9, bundle, bundle, *options) == 0
    assert "far CPUs (400 ns)" in capsys.readouterr().out
    near, far = json.loads(file.read_text())["rows"]
    assert (near["cpus"], near["handover_ns"], far["cpus"]) == ("near", 90.0, "far")


@TWO_CPUS
def test_cpus_that_are_neither_near_nor_far_measure_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = write_bundle(tmp_path / "one")
    options = ["--threads", "1", "--seconds", "0.2", "--handover"]
    assert compare_scripted(monkeypatch, 1, bundle, bundle, *options) == 1
    assert "take more --seconds" in capsys.readouterr().err


@TWO_CPUS
def test_a_line_goes_there_and_back() -> None:
    done = benchmark_scripts.run("handover")
    assert done.returncode == 0, done.stderr
    found = re.fullmatch(r"CPU \d+ to CPU \d+ and back: (\d+) ns\n", done.stdout)
    assert found is not None and int(found[1]) > 0


def test_no_bundle_is_one_line(tmp_path: Path) -> None:
    done = benchmark_scripts.run_here("bundle_pairs", str(tmp_path / "no"), str(tmp_path / "no"))
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
