"""Statements of a scheduled kernel, counted before anything is compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tvm
import tvm_ffi
from tvm import tirx

from schedules.cpu.sharing import stretch
from schedules.primitives import ROWS


def unrolled_statements(mod: tvm.IRModule) -> int:
    """How many stores ``main`` has once its unrolled loops are."""

    def times(loop: tirx.For) -> float:
        return int(loop.extent) if loop.kind == tirx.ForKind.UNROLLED else 1

    return round(_count_stores(mod["main"].body, times))


def imbalance(mod: tvm.IRModule, cores: int) -> float:
    """How many times longer the busiest of ``cores`` executes stores than with even parts.

    Stores outside parallel loops are all for one core.
    """
    if cores == 1:
        return 1.0

    def times(loop: tirx.For) -> float:
        return int(loop.extent)

    def busiest(loop: tirx.For) -> float:
        extent = int(loop.extent)
        shared = loop.kind == tirx.ForKind.PARALLEL
        return extent * stretch(extent, cores) / cores if shared else extent

    body = mod["main"].body
    return _count_stores(body, busiest) * cores / _count_stores(body, times)


def shared_rows(mod: tvm.IRModule) -> int:
    """Of how many rows of the image, or bands of rows, threads get a part each; 0 where of none."""
    found = [0]

    def visit(loop: tirx.For) -> None:
        if ROWS in loop.annotations:
            found.append(int(loop.annotations[ROWS]))

    tvm_ffi.structural_walk(mod["main"].body, (tirx.For, visit))
    return found[-1]


def _count_stores(node: Any, times: Callable[[tirx.For], float]) -> float:
    """The stores under ``node``, those in a loop ``times`` over."""
    if isinstance(node, tirx.BufferStore):
        return 1
    if isinstance(node, tirx.For):
        return _count_stores(node.body, times) * times(node)
    if isinstance(node, tirx.SeqStmt):
        return sum(_count_stores(one, times) for one in node.seq)
    init = getattr(node, "init", None)
    inner = [getattr(node, name, None) for name in ("body", "block", "then_case", "else_case")]
    return sum(_count_stores(one, times) for one in [init, *inner] if one is not None)
