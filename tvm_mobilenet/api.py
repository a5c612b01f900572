"""The public face: what ``tvm_mobilenet.compile`` and ``tvm_mobilenet.load`` are.

Importing this needs numpy alone: ``load`` imports TVM's runtime and ``compile`` its compiler when
they are called.
"""

from __future__ import annotations

from tvm_mobilenet.compile import compile_model as compile
from tvm_mobilenet.session import Session, load

__all__ = ["Session", "compile", "load"]
