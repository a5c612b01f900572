"""Everything about a board in one file, with an emulated device as the board."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest
from support import benchmark_scripts, near_calls

from tvm_mobilenet.emulation import devices
from tvm_mobilenet.hardware import target
from tvm_mobilenet.results import schema

KEY = "board"


@pytest.mark.arm_emulator
def test_one_file_about_an_emulated_board(tmp_path: Path) -> None:
    port = next(one for one in range(9190, 9199) if not devices.listens((devices.HOST, one)))
    path = tmp_path / "board.json"
    with devices.serving(1, KEY, port) as (host, _), near_calls.used():
        done = benchmark_scripts.run_here(
            "board",
            *("--target", "arm-rpi4", "--alpha", "0.25", "--resolution", "32"),
            *("--rpc-tracker", f"{host}:{port}", "--rpc-key", KEY, "--threads", "1,2"),
            *("--precision", "fp32"),
            *("--against", "none", "--min-runs", "2", "--min-time", "0.01s", "--json", str(path)),
        )
    assert done.returncode == 0, done.stderr
    document = json.loads(path.read_text())
    results = schema.read(document["benchmark"])
    seen = [(row.precision, row.threads, row.status, row.how) for row in results.results]
    runs = [("fp32", 1), ("fp32", 2)]
    assert seen == [(*run, "ok", "emulated") for run in runs]
    profiles = document["profiles"]
    assert [(one["precision"], one["threads"]) for one in profiles] == runs
    for one in profiles:
        assert one["core"]["bytes_per_s"] > 0 and len(one["layers"]) > 15


def test_every_precision_that_the_cores_have() -> None:
    board = runpy.run_path(str(benchmark_scripts.FOLDER / "board.py"))
    right = {
        "arm-rpi4": ["fp32", "int8"],
        "arm-rpi5": ["fp32", "fp16", "int8"],
        "arm-graviton3": ["fp32", "fp16", "bf16", "int8"],
    }
    assert {name: board["precisions_of"](target.resolve(name)) for name in right} == right


def test_a_target_that_is_none() -> None:
    done = benchmark_scripts.run_here(
        "board", "--target", "arm-rpi9", "--rpc-tracker", "nowhere:1", "--json", "x.json"
    )
    assert done.returncode == 2
    assert "arm-rpi9" in done.stderr and done.stderr.count("\n") == 1
