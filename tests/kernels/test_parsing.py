"""Kernels are parsed once, with what Python knows of frames as it was afterwards."""

from __future__ import annotations

import inspect

import pytest
import tvm
from tvm import tirx
from tvm.script import tirx as T

from tvm_mobilenet.kernels.parsing import parsed_once


def doubled(size: int) -> tirx.PrimFunc:
    """With a closure that annotations alone use, and a part that is inlined."""
    shape = (size,)

    @T.inline
    def double(x, y):  # type: ignore[no-untyped-def]
        for i in range(size):
            y[i] = x[i] * 2.0

    @T.prim_func(s_tir=True)
    def main(x: T.Buffer(shape, "float32"), y: T.Buffer(shape, "float32")) -> None:
        double(x, y)

    return main


def test_parsed_as_by_tvm_and_kept() -> None:
    quick = parsed_once(doubled)
    tvm.ir.assert_structural_equal(quick(5), doubled(5))
    assert quick(5) is quick(5) and quick(size=6) is not quick(5)


def test_stack_frames_show_their_source_again_after_parsing() -> None:
    def fails(size: int) -> tirx.PrimFunc:
        assert inspect.stack()[0].code_context is None
        raise LookupError(size)

    with pytest.raises(LookupError):
        parsed_once(fails)(3)
    assert inspect.stack()[0].code_context is not None
