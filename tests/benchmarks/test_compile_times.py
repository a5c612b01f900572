"""The study of compile times names functions that are there."""

from __future__ import annotations

from support import benchmark_scripts


def test_every_phase_has_its_function() -> None:
    done = benchmark_scripts.run_here("compile_times", "--check-phases")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("phases have their functions\n")
