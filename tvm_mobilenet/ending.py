"""How a command ends: its exit status, and one plain line on stderr for whatever was raised.

Only the standard library is imported here, so that ``--help`` answers at once.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, TextIO, cast

from tvm_mobilenet import extras, files
from tvm_mobilenet.chatter import let_go, reason
from tvm_mobilenet.errors import BadInput, RunFailed, TvmMobilenetError
from tvm_mobilenet.signals import SIGNALS, Interruption, interruptible

FAILED = RunFailed.exit_status
BAD_INPUT = BadInput.exit_status


class OutputLost(RunFailed):
    """Standard output did not take what was printed, as on a full disk or after ``| head``."""


class Stdout:
    """Standard output, but for what it raises: OutputLost.

    A bare OSError of a print could be anybody's, argparse ignores it, and on a broken pipe rich
    ends the process without a word.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with self._losing_output():
            written = self._stream.write(text)
        return written

    def flush(self) -> None:
        with self._losing_output():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @contextlib.contextmanager
    def _losing_output(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            _give_up(self._stream)
            raise OutputLost(f"stdout cannot be written: {error.strerror}") from error


def run(body: Callable[[], int], *, debug: bool) -> int:
    """Run ``body`` and return its exit status, or the status of what it raised after telling it.

    ``debug`` shows the traceback as well. A SystemExit, such as argparse's, passes through.
    """
    if sys.stdout is None:  # Python's way to say that it was closed before the start
        return _tell("error: stdout is closed; send it to a file, or to /dev/null", BAD_INPUT)
    _fill_standard_descriptors()
    interruption = Interruption()
    try:
        with interruptible(interruption), checked_stdout():
            return _end_of(body, interruption, debug=debug)
    except KeyboardInterrupt as error:  # as the one or the other began or ended
        return _tell("interrupted", interruption.status, error, debug=debug)


@contextlib.contextmanager
def checked_stdout() -> Iterator[None]:
    """Meanwhile ``sys.stdout`` is a ``Stdout``; what its encoding lacks is escaped."""
    before = sys.stdout
    with contextlib.ExitStack() as restore:
        if isinstance(before, io.TextIOWrapper) and before.errors == "strict":
            restore.callback(before.reconfigure, errors="strict")
            before.reconfigure(errors="backslashreplace")
        restore.callback(setattr, sys, "stdout", before)
        sys.stdout = cast(TextIO, Stdout(before))
        yield


def leave(status: int) -> NoReturn:
    """End the process, whose work is done: what asks it to end now is late, and changes nothing."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    sys.exit(status)


def status_of(error: Exception) -> int:
    """The exit status that an error stands for."""
    if isinstance(error, TvmMobilenetError):
        return error.exit_status
    missing = isinstance(error, ModuleNotFoundError) and extras.advice_for(error.name)
    return BAD_INPUT if missing else FAILED


def describe(error: Exception) -> str:
    """One line on what was raised: what it says itself where this package raised it on purpose."""
    if isinstance(error, TvmMobilenetError):
        return one_line(str(error))
    text = reason(error).rstrip(".")
    if isinstance(error, MemoryError):
        return one_line("out of memory" if text == "MemoryError" else f"out of memory: {text}")
    if isinstance(error, ModuleNotFoundError) and error.name:
        advice = extras.advice_for(error.name)
        return one_line(advice or f"{error.name} is not installed, and this command needs it")
    if isinstance(error, OSError) and error.filename is not None:
        return one_line(f"{os.fsdecode(error.filename)}: {error.strerror}")
    if isinstance(error, FileNotFoundError) and not _has_working_directory():
        return "the working directory was removed; change to another"
    if isinstance(error, OSError) and error.errno in files.NO_ROOM:
        return f"{error.strerror}; make room, or set TMPDIR to another folder"
    kind = type(error).__name__
    what = kind if text == kind else f"{kind}: {text}"
    return one_line(f"unexpected {what}; --debug shows where it was raised")


def one_line(text: str) -> str:
    """``text`` with what would break or garble a line, such as a name with a newline, escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def say(text: str) -> None:
    """A line on stderr, where there is one that takes it."""
    if sys.stderr is None:
        return
    try:
        print(text, file=sys.stderr, flush=True)
    except (OSError, ValueError):
        _give_up(sys.stderr)


def say_all(lines: str) -> None:
    """As ``say``, of what may be several lines or none."""
    if lines.strip():
        say(lines.rstrip())


def _end_of(body: Callable[[], int], interruption: Interruption, *, debug: bool) -> int:
    """The status of ``body``, or of what it raised, which has been told."""
    try:
        status = _run_and_flush(body)
    except KeyboardInterrupt as error:
        interruption.over = True
        # Raised inside an exec(), it is noted down, and Python ends itself by the signal.
        exec("")
        return _tell("interrupted", interruption.status, error, debug=debug)
    except Exception as error:
        interruption.over = True
        if interruption.by is not None:
            return _tell("interrupted", interruption.status, error, debug=debug)
        return _tell(f"error: {describe(error)}", status_of(error), error, debug=debug)
    return status


def _tell(
    line: str, status: int, error: BaseException | None = None, *, debug: bool = False
) -> int:
    with contextlib.suppress(Exception):  # one line is enough; it may well be about stdout
        sys.stdout.flush()
    if debug and error is not None:
        say("".join(traceback.format_exception(error)).rstrip("\n"))
    if error is not None:
        let_go(error)  # TVM's warnings are not to follow the line
    say(line)
    return status


def _run_and_flush(body: Callable[[], int]) -> int:
    """What ``body`` returns, or its SystemExit, once all that it printed has been written."""
    try:
        status = body()
    except SystemExit:
        sys.stdout.flush()
        raise
    sys.stdout.flush()
    return status


def _has_working_directory() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return False
    return True


def _fill_standard_descriptors() -> None:
    """So that no file is given the number of a stderr that is closed, to which libraries print."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest that is free


def _give_up(stream: TextIO) -> None:
    """Let a stream that cannot be written lose its text: Python would try again as it exits."""
    with contextlib.suppress(OSError, ValueError):
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, stream.fileno())
        os.close(nothing)
