"""Which microarchitecture a CPU is, by family and model."""

from __future__ import annotations

import pytest

from tvm_mobilenet.hardware.cpu_names import microarchitecture


@pytest.mark.parametrize(
    ("vendor", "family", "model", "expected"),
    [
        ("GenuineIntel", "6", "207", "Intel Emerald Rapids"),
        ("GenuineIntel", "6", "143", "Intel Sapphire Rapids"),
        ("GenuineIntel", "6", "106", "Intel Ice Lake"),
        ("AuthenticAMD", "25", "17", "AMD Zen 4"),
        ("AuthenticAMD", "25", "1", "AMD Zen 3"),
        ("AuthenticAMD", "26", "2", "AMD Zen 5"),
        ("AuthenticAMD", "23", "49", "AMD Zen 2"),
        ("AuthenticAMD", "6", "207", None),
        ("GenuineIntel", "6", "1", None),
        ("GenuineIntel", "?", "207", None),
        ("HygonGenuine", "24", "0", None),
    ],
)
def test_names(vendor: str, family: str, model: str, expected: str | None) -> None:
    fields = {"vendor_id": vendor, "cpu family": family, "model": model}
    assert microarchitecture(fields) == expected


def test_a_board_without_such_numbers() -> None:
    assert microarchitecture({"cpu part": "0xd08"}) is None
