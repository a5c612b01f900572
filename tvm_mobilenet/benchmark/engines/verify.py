"""Compare an engine's outputs with the reference; no latency counts without it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tvm_mobilenet.compiler.precision import TOLERANCES
from tvm_mobilenet.numerics import relative_error

if TYPE_CHECKING:
    from tvm_mobilenet.benchmark.engines.protocol import Array


class WrongResult(Exception):
    """An engine's outputs are not the reference's; the text says by how much."""


def check(outputs: Sequence[Array], expected: Sequence[Array], precision: str) -> float:
    """The largest absolute difference over all outputs.

    Raises WrongResult where a shape, the number of outputs or a relative error ‖a - b‖ / ‖b‖ is
    not what ``precision`` allows.
    """
    shapes, expected_shapes = [a.shape for a in outputs], [b.shape for b in expected]
    if shapes != expected_shapes:
        raise WrongResult(f"wrong result: expected output shapes {expected_shapes}, got {shapes}")
    error = max(relative_error(a, b) for a, b in zip(outputs, expected, strict=True))
    # Not "error > tolerance": a result of NaN is wrong as well.
    if not error <= TOLERANCES[precision]:
        raise WrongResult(
            f"wrong result: relative error {error:.1e} against the reference, "
            f"allowed {TOLERANCES[precision]:.0e}"
        )
    return max(float(np.abs(a - b).max()) for a, b in zip(outputs, expected, strict=True))
