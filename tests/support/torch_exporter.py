"""PyTorch's exporter for a process that exports many networks."""

from __future__ import annotations

from functools import cache


@cache
def keep_operators() -> None:
    """Let exports of this process share one table of operators.

    The exporter makes the table anew for each, which takes 0.5 s, most of a small network's export.
    """
    from torch.onnx._internal.exporter import _registration as registration

    table = registration.ONNXRegistry
    table.from_torchlib = staticmethod(cache(table.from_torchlib))  # type: ignore[method-assign]
