"""How often a network is right, as it was measured here."""

from __future__ import annotations

from dataclasses import dataclass

from tvm_mobilenet.strict import Count


@dataclass(frozen=True)
class Accuracy:
    """How many of ``images`` a network got right by ``metric``, on ``data`` that it never saw.

    Always measured, never a published figure: those are in ``models.cost``, as the paper's.
    """

    correct: int
    images: Count
    data: str
    metric: str = "top-1"

    @property
    def percent(self) -> float:
        return 100 * self.correct / self.images

    def fault(self) -> str | None:
        """What cannot be right about it, in a few words; None if nothing."""
        if not 0 <= self.correct <= self.images:
            return f"expected 0 to {self.images} correct images, got {self.correct}"
        if not self.data or not self.metric:
            return "expected words for data and metric"
        return None

    def __str__(self) -> str:
        return f"{self.percent:.2f} % {self.metric} ({self.correct} of {self.images}, {self.data})"
