"""The assembly report: what it reads off a loop, and what it asks of llvm-mca."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from support import benchmark_scripts

SMALL = ("--alpha", "0.25", "--resolution", "32")
REFUSAL = "echo 'error: unknown cpu' >&2; echo more >&2; exit 1"


def fake_mca(folder: Path, version: int, answer: str, name: str = "") -> str:
    """A program that says a version as llvm-mca does, and refuses a relocation as it does."""
    program = folder / (name or f"llvm-mca-{version}")
    program.write_text(
        "#!/bin/sh\n"
        f'if [ "$1" = --version ]; then echo "Debian LLVM version {version}.1.7"; exit; fi\n'
        "if grep -q :lo12: ; then echo 'error: invalid operand' >&2; exit 1; fi\n"
        f"{answer}\n"
    )
    program.chmod(0o755)
    return str(program)


def report(*arguments: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The report on the smallest network; ``path`` comes before all other folders of PATH."""
    environment = {"PATH": f"{path}{os.pathsep}{os.environ['PATH']}"} if path else None
    return benchmark_scripts.run_here("arm_assembly", *arguments, *SMALL, environment=environment)


@pytest.mark.parametrize(
    ("target", "precision", "title", "width", "kernels"),
    [
        (
            "arm-rpi4",
            "fp32",
            "cortex-a72, 1 FMA a cycle; llvm-mca's model of cortex-a72",
            1,
            {"pointwise_conv2d_1x1x256_256", "separable_conv2d_16x16x8_16, depthwise"},
        ),
        (
            "arm-graviton2",
            "int8",
            "neoverse-n1, 2 FMAs a cycle; llvm-mca's model of neoverse-n1",
            2,
            {
                "quantized_pointwise_conv2d_1x1x256_256_fused",
                "quantized_depthwise_conv2d_4x4x32_s2_fused",
            },
        ),
    ],
)
def test_the_report(
    target: str, precision: str, title: str, width: int, kernels: set[str], tmp_path: Path
) -> None:
    # 100 iterations, each of as many cycles as a core that starts a product a cycle takes for ten
    mca = fake_mca(tmp_path, 19, "echo 'Total Cycles:      1000'")
    done = report("--target", target, "--precision", precision, "--llvm-mca", mca)
    assert done.returncode == 0, done.stderr
    assert f"{target}: {title}" in done.stdout
    rows = [line.split("  ") for line in done.stdout.splitlines() if re.search(r"\d%\s*$", line)]
    cells = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    assert kernels <= {row[0] for row in cells}
    for _, products, *_, share in cells:
        assert share == f"{int(products) / 10 / width:.0%}"


def test_an_old_model_is_not_asked(tmp_path: Path) -> None:
    old = fake_mca(tmp_path, 14, REFUSAL)
    done = report("--llvm-mca", old)
    assert done.returncode == 2
    assert done.stderr == f"error: --llvm-mca {old}: expected LLVM 16 or newer\n"


@pytest.mark.parametrize("newest", [True, False])
def test_the_newest_on_the_path_is_asked(tmp_path: Path, newest: bool) -> None:
    # newer than any that is installed here, or none new enough and then a target that is refused
    fake_mca(tmp_path, 14, "exit 1", "llvm-mca")
    if newest:
        fake_mca(tmp_path, 29, REFUSAL)
        done = report("--target", "arm-rpi4", path=tmp_path)
        assert (done.returncode, done.stderr) == (1, "error: llvm-mca: error: unknown cpu\n")
    else:
        done = report("--target", "x86-64-v3", path=tmp_path)
        assert done.returncode == 2 and "expected one of 64-bit ARM" in done.stderr


def test_a_program_that_does_not_run_is_one_line(tmp_path: Path) -> None:
    done = report("--llvm-mca", str(tmp_path / "nowhere"))
    assert done.returncode == 2
    assert "does not run" in done.stderr and done.stderr.count("\n") == 1
