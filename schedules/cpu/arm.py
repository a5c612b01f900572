"""Whether a target is ARM of 64 bits, or of 32, by the architecture that its triple begins with."""

from __future__ import annotations

from tvm.target import Target

OF_64_BITS = ("aarch64", "arm64")


def is_64_bit_arm(target: Target | None) -> bool:
    return _triple(target).startswith(OF_64_BITS)


def is_32_bit_arm(target: Target | None) -> bool:
    triple = _triple(target)
    return triple.startswith("arm") and not triple.startswith(OF_64_BITS)


def _triple(target: Target | None) -> str:
    return "" if target is None else str(target.attrs.get("mtriple", ""))
