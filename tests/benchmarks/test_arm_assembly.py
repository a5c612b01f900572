"""The assembly report: what it reads off a loop, and what it asks of llvm-mca."""

from __future__ import annotations

import sys
from pathlib import Path

import aarch64_loops
import arm_assembly
import pytest

from tvm_mobilenet.errors import BadInput, RunFailed

LISTING = """
main:
.LBB0_1:
\tldp\tq0, q1, [x8], #32
\tldr\tq2, [x9, :lo12:table]
\tfmla\tv16.4s, v2.4s, v0.s[0]
\tfmla\tv17.4s, v2.4s, v1.s[0]
\tsubs\tx10, x10, #1
\tb.ne\t.LBB0_1
\tret
"""


def fake_mca(tmp_path: Path, version: int, cycles: int) -> str:
    """A program that answers as llvm-mca does, and refuses a relocation as it does."""
    program = tmp_path / f"llvm-mca-{version}"
    program.write_text(
        "#!/bin/sh\n"
        f'if [ "$1" = --version ]; then echo "Debian LLVM version {version}.1.7"; exit; fi\n'
        "if grep -q :lo12: ; then echo 'error: invalid operand' >&2; exit 1; fi\n"
        f"echo 'Total Cycles:      {cycles}'\n"
    )
    program.chmod(0o755)
    return str(program)


def test_utilisation(tmp_path: Path) -> None:
    loop = aarch64_loops.hot_loop(LISTING)
    assert (loop.fmas, loop.by_element_fmas, len(loop.instructions)) == (2, 2, 6)
    mca = fake_mca(tmp_path, 19, cycles=200)  # of 100 iterations
    assert arm_assembly.utilisation(mca, "cortex-a72", loop, width=1) == 1.0
    assert arm_assembly.utilisation(mca, "neoverse-n1", loop, width=2) == 0.5


def test_an_old_model_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = fake_mca(tmp_path, 14, cycles=1)
    with pytest.raises(BadInput, match="wanted LLVM 16 or newer"):
        arm_assembly.find_mca(old)
    monkeypatch.setenv("PATH", str(tmp_path))
    Path(old).rename(tmp_path / "llvm-mca")
    assert arm_assembly.find_mca(None) is None
    fake_mca(tmp_path, 19, cycles=1)
    assert arm_assembly.find_mca(None) == "llvm-mca-19"


def test_a_refusal_is_one_line(tmp_path: Path) -> None:
    program = tmp_path / "mca"
    program.write_text("#!/bin/sh\necho 'error: unknown cpu' >&2\necho more >&2\nexit 1\n")
    program.chmod(0o755)
    with pytest.raises(RunFailed, match=r"^llvm-mca: error: unknown cpu$"):
        arm_assembly.cycles(str(program), "z80", aarch64_loops.hot_loop(LISTING))
    with pytest.raises(BadInput, match="does not run"):
        arm_assembly.find_mca(str(tmp_path / "nowhere"))


def test_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mca = fake_mca(tmp_path, 19, cycles=10_000)
    variant = ["--alpha", "0.25", "--resolution", "32"]
    monkeypatch.setattr(
        sys, "argv", ["arm_assembly", "--target", "arm-graviton2", "--llvm-mca", mca, *variant]
    )
    assert arm_assembly.main() == 0
    out = capsys.readouterr().out
    assert "arm-graviton2: neoverse-n1, 2 FMAs a cycle" in out
    assert "pointwise_conv2d_1x1x256_256" in out and "depthwise_conv2d_4x4x32_s2" in out
    assert "separable_conv2d_16x16x8_16, 1x1" in out
    assert "separable_conv2d_16x16x8_16, depthwise" in out
