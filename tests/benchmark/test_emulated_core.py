"""What is right of a counted inference, without a core to count on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tvm_mobilenet.benchmark.engines import ENGINES, OURS, networks
from tvm_mobilenet.benchmark.engines.verify import Right
from tvm_mobilenet.benchmark.places.emulated_core import Counting
from tvm_mobilenet.benchmark.rows import Candidate
from tvm_mobilenet.emulation.emulator import Emulator
from tvm_mobilenet.emulation.instruction_count import Count

EXPECTED = np.array([[1.0, 2.0]], np.float32)
NETWORK = networks.Network(
    "m", None, 8, 1, "int8", None, None, (EXPECTED,), (EXPECTED,), "expected_output"
)


@pytest.mark.parametrize(("off", "counted"), [(0.05, 7), (0.2, None)])
def test_a_bundle_quantized_by_itself_is_right_as_it_says(
    off: float, counted: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Count(7, (EXPECTED * (1 + off),))
    monkeypatch.setattr(Counting, "count_bundle", lambda *_: found)
    ours = Candidate(
        OURS, ENGINES[OURS], "arm-rpi4", Path("m"), right=Right((EXPECTED,), tolerance=0.1)
    )
    measured = Counting((ours,), NETWORK, 1, Emulator(Path("nowhere"))).count(ours)
    assert measured.instructions == counted
