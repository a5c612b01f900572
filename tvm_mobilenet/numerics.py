"""How far two results are apart, said the same way wherever results are compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray


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
