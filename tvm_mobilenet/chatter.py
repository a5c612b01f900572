"""What TVM prints and says of a failure, made fit for the one line that a person gets."""

from __future__ import annotations

import contextlib
import gc
import io
import os
import tempfile
import traceback
from collections.abc import Iterator

STDERR = 2  # the file descriptor
MOST_OF_REASON = 200  # characters of somebody else's error that are worth showing


def reason(error: BaseException) -> str:
    """The first line of an error that says something; more of TVM's is the program it was at."""
    lines = [line.strip() for line in str(error).splitlines()]
    told = next((line for line in lines if line and not line.startswith("#")), "")
    return told[:MOST_OF_REASON] or type(error).__name__


def let_go(error: BaseException | None) -> None:
    """Free what the frames of an error hold, and keep the lines that a traceback shows.

    TVM's block builder warns when it goes half done, which otherwise is as the process ends. It
    goes here, and its warning nowhere.
    """
    with kept_back():
        while error is not None:
            traceback.clear_frames(error.__traceback__)
            for frame, _ in traceback.walk_tb(error.__traceback__):
                _ = frame.f_locals  # brings the dict that was once read up to date: now empty
            error = error.__cause__ or error.__context__
        gc.collect()


@contextlib.contextmanager
def kept_back() -> Iterator[io.StringIO]:
    """Keep back what is printed meanwhile; where nothing is raised, its stderr is in the result.

    TVM's C++ writes to the file descriptor, past ``sys.stderr``.
    """
    told = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.ExitStack() as restore:
        file = None
        with contextlib.suppress(OSError):  # no stderr to write to, or nowhere to keep it
            file = restore.enter_context(tempfile.TemporaryFile())
            kept = os.dup(STDERR)
            restore.callback(os.close, kept)
            restore.callback(os.dup2, kept, STDERR)
            os.dup2(file.fileno(), STDERR)
        yield told
        if file is not None:
            file.seek(0)
            told.write(file.read().decode(errors="replace"))
