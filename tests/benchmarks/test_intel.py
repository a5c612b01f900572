"""What is measured on an Intel CPU: its commands, the machines it refuses, a small real step."""

from __future__ import annotations

import ast
import importlib
import json
import shlex
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support import benchmark_scripts

from schedules.x86.tile_products import has_tiles
from tvm_mobilenet import bench, compile, tune
from tvm_mobilenet.emulation import tile_unit
from tvm_mobilenet.errors import BadInput, RunFailed
from tvm_mobilenet.hardware import target
from tvm_mobilenet.results import inputs

ALL = ("fp32", "int8", "bf16")
CPUINFO = "vendor_id: {}\ncpu family: {}\nmodel: {}\nflags: {}\n"


@pytest.fixture
def intel(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(benchmark_scripts.FOLDER))
    return importlib.import_module("intel")


def options(intel: Any, folder: Path) -> Any:
    return intel.Options("x86", 0.25, 32, "0.1s", "1m", folder / "results", folder / "work")


def test_the_commands_are_ones_that_there_are(intel: Any) -> None:
    done = benchmark_scripts.run_here("intel", "--dry-run", "--target", "x86-sapphirerapids")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    headings = [line.partition(":")[0].removeprefix("# ") for line in lines if line[:2] == "# "]
    assert headings == list(intel.STEPS) and len(headings) == 17
    assert "# sweep: about 60 min" in lines and "# bf16-zoo: about 20 min, needs AMX" in lines
    files = []
    compiled = []
    for line in lines:
        match shlex.split(line):
            case ["tvm-mobilenet", "compile", *flags]:
                args = compile.make_parser().parse_args(flags)
                spec = target.resolve(args.target)
                compiled.append((args.output.name, args.precision, spec.name))
            case ["tvm-mobilenet", "tune", *flags]:
                tune.make_parser().parse_args(flags)
            case ["tvm-mobilenet", "bench", *flags]:
                args = bench.make_parser().parse_args(flags)
                bench.make_request(args, line).check()
                files.append(args.json)
            case ["python", "-c", code]:
                ast.parse(code)
            case ["python", "-m", "pytest", "-q", *tests]:
                assert all((benchmark_scripts.REPOSITORY / one).is_file() for one in tests)
            case ["python", script, *words]:
                assert (benchmark_scripts.REPOSITORY / script).is_file()
                files.append(Path(words[-1]))
    amx = "x86-sapphirerapids"
    assert set(compiled) == {
        *((f"{kind}-{one}", one, amx) for kind in ("default", "tuned") for one in ALL),
        ("direct", "fp32", amx),
        ("fp32", "fp32", "x86-icelake"),
        ("vnni", "int8", "x86-icelake"),
        ("pairs", "bf16", f"{amx}-without-amx"),
    }
    assert files == [Path(f"benchmarks/results/{amx}-{name}.json") for name in headings[1:]]


def test_the_target_without_amx_lacks_nothing_else(intel: Any) -> None:
    whole, part = map(target.resolve, ("x86-sapphirerapids", intel.WITHOUT_AMX))
    assert set(whole.cpu_features) - set(part.cpu_features) == tile_unit.TILES
    assert part.target == {**whole.target, "mattr": ["-amx-tile", "-amx-int8", "-amx-bf16"]}
    assert has_tiles(whole.tvm_target()) and not has_tiles(part.tvm_target())


def test_without_amx_its_steps_are_left_out_in_a_line_each(
    intel: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = intel.Options("x86-icelake", 1, 224, "1s", "1m", tmp_path, tmp_path / "work")
    names = [name for name, step in intel.STEPS.items() if step.amx]
    assert len(names) == 9 and "int8-sweep" not in names
    intel.measure(found, names)
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"{name}: left out, x86-icelake has no AMX" for name in names]


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


def run_in_this_process(command: list[str], *, check: bool) -> SimpleNamespace:
    """What a step's command does; that it is run as a process, one that fails shows below."""
    assert command[:2] == [sys.executable, "-m"] and not check
    status = importlib.import_module(command[2]).main(command[3:])
    return SimpleNamespace(returncode=status)


def test_a_step_is_measured_once(
    intel: Any,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(intel, "subprocess", SimpleNamespace(run=run_in_this_process))
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
