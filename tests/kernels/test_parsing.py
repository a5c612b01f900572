"""Kernels are parsed once, with what Python knows of frames as it was afterwards."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from pathlib import Path

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


def test_the_same_line_of_two_files_is_two_functions(tmp_path: Path) -> None:
    """What their buffers are, an annotation says, which is no part of a function's code."""
    text = (
        "from __future__ import annotations\n"
        "from tvm.script import tirx as T\n"
        "def made():\n"
        "    @T.prim_func(s_tir=True)\n"
        '    def main(x: T.Buffer((SIZE,), "float32")) -> None:\n'
        "        x[0] = T.float32(1)\n"
        "    return main\n"
    )
    sizes = []
    for size in (3, 5):
        path = tmp_path / f"of_{size}.py"
        path.write_text(text.replace("SIZE", str(size)))
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module
        spec.loader.exec_module(module)
        sizes.append(int(parsed_once(module.made)().params[0].shape[0]))
    assert sizes == [3, 5]
