"""What a TopK computes, whoever computes it."""

from __future__ import annotations

from dataclasses import dataclass

from tvm.ir import Expr


@dataclass(frozen=True)
class TopK:
    """The ``count`` largest (or smallest) of each row of (rows, size), in order, and their indices.

    Of equal values the one with the lower index comes first, as ONNX Runtime has it.
    """

    rows: int
    size: int
    count: int
    dtype: str  # of the values
    dtype_of_indices: str
    largest: bool

    def better(self, one: Expr, other: Expr) -> Expr:
        """Whether a value comes before another by what they are."""
        return one > other if self.largest else one < other
