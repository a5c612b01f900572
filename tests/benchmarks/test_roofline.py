"""The roofline of boards on paper: what is stored is what comes out."""

from __future__ import annotations

import json
from pathlib import Path

from support import benchmark_scripts

STORED = benchmark_scripts.FOLDER / "results" / "raspberry-pi-roofline.json"


def test_the_stored_study_comes_out_again(tmp_path: Path) -> None:
    path = tmp_path / "roofline.json"
    done = benchmark_scripts.run_here("roofline", "--target", "arm-rpi5", "--json", str(path))
    assert done.returncode == 0, done.stderr
    stored = json.loads(STORED.read_text())
    stored["boards"] = [one for one in stored["boards"] if one["target"] == "arm-rpi5"]
    assert json.loads(path.read_text()) == stored
    assert [one["precision"] for one in stored["boards"]] == ["fp32", "fp16", "int8"]


def test_the_times_are_of_the_target_and_the_board() -> None:
    (board, *_) = json.loads(STORED.read_text())["boards"]
    assert board["target"] == "arm-rpi4"
    product = next(one for one in board["layers"] if one["name"].startswith("pointwise_conv2d_7x7"))
    # 2 * 49 * 512 * 1024 operations by four cores of 1.5 GHz, four products a cycle; bias and ReLU
    assert abs(product["arithmetic_us"] - 2 * 49 * 512 * 1024 / (2 * 4 * 1.5e3 * 4)) < 5
    weights = 4 * 512 * 1024
    assert abs(product["memory_us"] - weights / 5.5e3) < 5
    assert abs(product["megabytes"] - weights / 1e6) < 0.01


def test_a_board_that_nobody_measured() -> None:
    done = benchmark_scripts.run_here("roofline", "--target", "arm-graviton2")
    assert done.returncode == 2
    assert done.stderr == "error: --target arm-graviton2: expected one of arm-rpi4, arm-rpi5\n"
