"""Compare an engine's outputs with the reference; no latency counts without it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tvm_mobilenet.compiler.precision import TOLERANCES
from tvm_mobilenet.numerics import difference, largest

if TYPE_CHECKING:
    from tvm_mobilenet.benchmark.engines.protocol import Array


@dataclass(frozen=True)
class Right:
    """Outputs that are right, and the relative error within which others are right as well."""

    outputs: tuple[Array, ...]
    tolerance: float


class WrongResult(Exception):
    """An engine's outputs are not the reference's; the text says by how much."""


def check(
    outputs: Sequence[Array],
    expected: Sequence[Array],
    precision: str,
    tolerance: float | None = None,
) -> float:
    """The largest absolute difference over all outputs.

    Raises WrongResult where a shape, the number of outputs or a difference is not what
    ``tolerance`` allows (``numerics.Difference``), or where that is None, ``precision``.
    """
    shapes, expected_shapes = [a.shape for a in outputs], [b.shape for b in expected]
    if shapes != expected_shapes:
        raise WrongResult(f"wrong result: expected output shapes {expected_shapes}, got {shapes}")
    tolerance = tolerance or TOLERANCES[precision]
    found = [difference(a, b) for a, b in zip(outputs, expected, strict=True)]
    worst = largest(found, tolerance)
    if not worst.within(tolerance):
        raise WrongResult(
            f"wrong result: relative error {worst.relative:.1e} against the reference, "
            f"allowed {tolerance:.0e}"
        )
    return max(one.absolute for one in found)
