"""What is measured on an Intel CPU: its commands, the machines it refuses, a small real step."""

from __future__ import annotations

import importlib
import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from support import benchmark_scripts

from tvm_mobilenet import bench, compile, tune
from tvm_mobilenet.errors import BadInput, RunFailed
from tvm_mobilenet.hardware import target
from tvm_mobilenet.results import inputs

CPUINFO = "vendor_id: {}\ncpu family: {}\nmodel: {}\nflags: {}\n"


@pytest.fixture
def intel(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(benchmark_scripts.FOLDER))
    return importlib.import_module("intel")


def options(intel: Any, folder: Path) -> Any:
    return intel.Options("x86", 0.25, 32, "0.1s", "1m", folder / "results", folder / "work")


def test_the_commands_are_ones_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    done = benchmark_scripts.run("intel", "--dry-run", "--target", "x86-icelake")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    headings = [line for line in lines if line.startswith("# ")]
    assert headings == ["# profile", "# sweep", "# noise", "# default-and-tuned"]
    files = []
    compiled: list[str] = []

    def keep(args: Any) -> int:
        compiled.append(args.output.name)
        return 0

    monkeypatch.setattr(compile, "_compile", keep)
    for line in lines:
        match shlex.split(line):
            case ["tvm-mobilenet", "compile", *flags]:
                assert compile.main(flags) == 0
            case ["tvm-mobilenet", "tune", *flags]:
                tune.make_parser().parse_args(flags)
            case ["tvm-mobilenet", "bench", *flags]:
                args = bench._make_parser().parse_args(flags)
                bench.make_request(args, line).check()
                files.append(args.json)
            case ["python", *words]:
                files.append(Path(words[-1]))
    assert compiled == ["default", "default", "direct", "default", "tuned"]
    assert files == [
        Path(f"benchmarks/results/x86-icelake-{name}.json")
        for name in ("profile", "sweep", "noise", "default-and-tuned")
    ]


@pytest.mark.parametrize(
    ("cpuinfo", "got"),
    [
        (CPUINFO.format("AuthenticAMD", 25, 17, "avx2 avx512f"), "AMD Zen 4"),
        (CPUINFO.format("GenuineIntel", 6, 183, "avx2"), "Intel Raptor Lake"),
        ("CPU part: 0xd08\n", "part 0xd08"),
        ("", "none known"),
    ],
)
def test_another_cpu_is_refused_in_one_line(intel: Any, cpuinfo: str, got: str) -> None:
    with pytest.raises(BadInput, match="expected an Intel CPU with AVX-512, got") as raised:
        intel.check_cpu(cpuinfo)
    assert got in str(raised.value) and "\n" not in str(raised.value)


def test_an_emerald_rapids_is_not(intel: Any) -> None:
    intel.check_cpu(CPUINFO.format("GenuineIntel", 6, 207, "avx2 avx512f amx_tile"))


def test_a_step_is_measured_once(
    intel: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    small = options(intel, tmp_path)
    intel.measure(small, ["profile"])
    name = target.detect_host().name
    file = tmp_path / "results" / f"{name}-profile.json"
    document = json.loads(file.read_text())
    (one,) = document["profiles"]
    assert len(one["layers"]) > 15 and one["floor_ms"] > 0
    assert document["machine"]["facts"]["clock_mhz"]
    assert inputs.load([file]).profiles
    capfd.readouterr()
    intel.measure(small, ["profile"])
    assert "is there; remove it to measure again" in capfd.readouterr().out


def test_a_command_that_fails_ends_it(intel: Any, tmp_path: Path) -> None:
    broken = intel.Options("x86-nonesuch", 1, 224, "1s", "1m", tmp_path, tmp_path / "work")
    with pytest.raises(BadInput, match="x86-nonesuch"):
        intel.measure(broken, ["profile"])
    odd = intel.Options("x86", 0.25, 33, "1s", "1m", tmp_path, tmp_path / "work")
    with pytest.raises(RunFailed, match="profile: a command ended with status 2"):
        intel.measure(odd, ["profile"])
