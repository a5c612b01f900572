"""How far two results are apart, said the same way wherever results are compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray


# An output that is right may be off by this much at any element, however small all of it is: two
# units in the last place of 1.0. ONNX Runtime computes its sigmoid to 1.2e-7 absolute, which is
# 2e-2 of an output whose every value is near zero.
ABSOLUTE_FLOOR = 2.4e-7


@dataclass(frozen=True)
class Difference:
    """How far a result is from its reference.

    ``relative`` is ‖a - b‖ / ‖b‖, ``absolute`` the largest |a - b|. NaN where either holds NaN or
    infinity.
    """

    relative: float
    absolute: float

    def within(self, tolerance: float) -> bool:
        """Whether the result is right: by its relative error, or by ``ABSOLUTE_FLOOR``."""
        # not "not >": NaN is no difference that is small enough
        return self.relative <= tolerance or self.absolute <= ABSOLUTE_FLOOR

    def __str__(self) -> str:
        if self.relative > ABSOLUTE_FLOOR >= self.absolute:
            return f"{self.relative:.1e} relative, {self.absolute:.1e} absolute"
        return f"{self.relative:.1e}"


def difference(result: NDArray[Any], reference: NDArray[Any]) -> Difference:
    """Of two arrays of one shape, over all elements, in float64."""
    import numpy as np

    relative = relative_error(result, reference)
    if not result.size or np.isnan(relative):
        return Difference(relative, relative)
    distance = np.abs(result.astype(np.float64) - reference.astype(np.float64))
    return Difference(relative, float(distance.max()))


def largest(differences: Sequence[Difference], tolerance: float) -> Difference:
    """The one that matters: the largest that is not within the tolerance, else the largest."""
    wrong = [one for one in differences if not one.within(tolerance)]
    return max(wrong or differences, key=lambda one: one.relative)


def relative_error(result: NDArray[Any], reference: NDArray[Any]) -> float:
    """‖result - reference‖ / ‖reference‖ over all elements, in float64.

    NaN where either holds NaN or infinity, which no bound lets through. Against a reference of
    zeros alone the error is 0 where ``result`` is zero too, else infinite.
    """
    import numpy as np

    a, b = result.astype(np.float64), reference.astype(np.float64)
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return float("nan")
    distance, size = float(np.linalg.norm(a - b)), float(np.linalg.norm(b))
    if size == 0:
        return 0.0 if distance == 0 else float("inf")
    return distance / size
