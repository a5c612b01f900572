"""How kernels in TVMScript are parsed: each once, and its text once for all of its shapes.

TVM's parser wants the frames of its callers, for every function and every part that is inlined into
one. It gets them from ``inspect.stack``, which finds each caller's line of source as well, among
all modules that are loaded: half of the time that a kernel takes. Half of the rest goes into
finding the function's own text and parsing it, which all shapes of a kernel have in common.

TVM 0.27 has no supported way to spare that, so parts of its parser are replaced while one of ours
is parsed. ``T.prim_func`` and ``T.inline`` always take the frames and the text; ``T.jit`` takes no
frames, but finds and parses the text anew for each shape.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator
from types import CodeType, FrameType
from typing import Any, TypeAlias

from tvm import tirx
from tvm.script.parser.core import diagnostics, doc, evaluator, utils


def parsed_once(make: Callable[..., tirx.PrimFunc]) -> Callable[..., tirx.PrimFunc]:
    """``make``, which writes a kernel, called once for the same arguments."""

    @functools.cache
    @functools.wraps(make)
    def kept(*args: object, **options: object) -> tirx.PrimFunc:
        with _quick_parser():
            return make(*args, **options)

    return kept


@contextlib.contextmanager
def _quick_parser() -> Iterator[None]:
    """Meanwhile TVM's parser keeps what a function's text says, and sees frames without theirs."""
    with contextlib.ExitStack() as stack:
        for owner, name, quick in (
            (inspect, "getouterframes", _frames_without_source),
            (diagnostics.Source, "__init__", _kept_source),
            (diagnostics.Source, "as_ast", _kept_ast),
            (utils, "_collect_annotation_names", _kept_annotation_names),
            (doc, "_is_atomic_type", _is_atomic_type),
            (evaluator, "_eval_expr", _evaluated),
        ):
            stack.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, quick)
        yield


def _frames_without_source(frame: FrameType | None, context: int = 1) -> list[inspect.FrameInfo]:
    """Of a frame and its callers only what they say themselves."""
    found = []
    while frame is not None:
        code = frame.f_code
        place = (code.co_filename, frame.f_lineno, code.co_name)
        found.append(inspect.FrameInfo(frame, *place, None, None))
        frame = frame.f_back
    return found


_original_source = diagnostics.Source.__init__
_original_annotation_names = utils._collect_annotation_names
# Equal code may be that of two functions, at the same line of two files: the code of neither says
# what their buffers are.
Place: TypeAlias = tuple[str, CodeType]
_sources: dict[Place, dict[str, Any]] = {}
_annotation_names: dict[Place, set[str]] = {}


def _kept_source(self: diagnostics.Source, program: Any) -> None:
    """A function's text by its code, which all the functions that it makes have in common."""
    code = getattr(program, "__code__", None)
    if code is None:
        _original_source(self, program)
        return
    place = (code.co_filename, code)
    if place not in _sources:
        _original_source(self, program)
        _sources[place] = dict(vars(self))
    vars(self).update(_sources[place])


def _kept_ast(self: diagnostics.Source) -> Any:
    return _parse(self.source)


@functools.cache
def _parse(text: str) -> Any:
    return doc.parse(text)


def _kept_annotation_names(function: Any) -> set[str]:
    code = getattr(function, "__code__", None)
    if code is None:
        return set(_original_annotation_names(function))
    place = (code.co_filename, code)
    if place not in _annotation_names:
        _annotation_names[place] = _original_annotation_names(function)
    return _annotation_names[place]


def _is_atomic_type(node: object) -> bool:
    """What TVM's own says, which compares every node of a tree with three values first."""
    return node is None or node is ... or isinstance(node, _ATOMIC)


_ATOMIC = (int, float, str, bool, bytes, complex)
_original_eval = evaluator._eval_expr


def _evaluated(node: Any, names: dict[str, Any] | None) -> Any:
    """An expression's value; where it is a name, or an attribute or item of one, by looking it up.

    TVM's own compiles each part of each expression for that.
    """
    known = names or {}
    if isinstance(node, doc.Constant):
        return node.value
    if isinstance(node, doc.Name) and node.id in known:
        return known[node.id]
    if isinstance(node, doc.Attribute | doc.Subscript):
        owner = node.value
        if isinstance(owner, doc.Name) and owner.id in known:
            value = known[owner.id]
            if isinstance(node, doc.Attribute):
                return getattr(value, node.attr)
            if isinstance(node.slice, doc.Name) and node.slice.id in known:
                return value[known[node.slice.id]]
    return _original_eval(node, names)
