"""How kernels in TVMScript are parsed: each once, without a look at the source of who asks for it.

TVM's parser wants the frames of its callers, for every function and every part that is inlined into
one. It gets them from ``inspect.stack``, which finds each caller's line of source as well, among
all modules that are loaded: half of the time that a kernel takes.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator
from types import FrameType

from tvm import tirx


def parsed_once(make: Callable[..., tirx.PrimFunc]) -> Callable[..., tirx.PrimFunc]:
    """``make``, which writes a kernel, called once for the same arguments."""

    @functools.cache
    @functools.wraps(make)
    def kept(*args: object, **options: object) -> tirx.PrimFunc:
        with _frames_without_source():
            return make(*args, **options)

    return kept


@contextlib.contextmanager
def _frames_without_source() -> Iterator[None]:
    """Meanwhile ``inspect`` tells of a frame only what it says itself."""

    def getouterframes(frame: FrameType | None, context: int = 1) -> list[inspect.FrameInfo]:
        found = []
        while frame is not None:
            code = frame.f_code
            place = (code.co_filename, frame.f_lineno, code.co_name)
            found.append(inspect.FrameInfo(frame, *place, None, None))
            frame = frame.f_back
        return found

    original = inspect.getouterframes
    inspect.getouterframes = getouterframes
    try:
        yield
    finally:
        inspect.getouterframes = original
