"""ONNX Runtime held to AVX2, on a CPU that has AVX-512."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import benchmark_scripts

NO_STATUS = "needs Linux that tells who uses AVX-512"


@pytest.mark.isa("avx512")
@pytest.mark.skipif(not Path("/proc/self/arch_status").exists(), reason=NO_STATUS)
def test_the_copy_keeps_to_avx2() -> None:
    done = benchmark_scripts.run_here("avx2", "--only-hold")
    assert done.returncode == 0, done.stderr
    assert "none in a copy held to AVX2" in done.stdout
