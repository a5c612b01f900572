"""How a command ends: its exit status, and one plain line on stderr for whatever was raised.

Only the standard library is imported here, so that ``--help`` answers at once.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, TextIO, cast

from tvm_mobilenet import extras
from tvm_mobilenet.chatter import reason
from tvm_mobilenet.errors import BadInput, RunFailed, TvmMobilenetError

FAILED = RunFailed.exit_status
BAD_INPUT = BadInput.exit_status
INTERRUPTED = 130  # the shell's status for a command that ended on Ctrl-C

# What asks a command to end. All unwind it as Ctrl-C does, so that no temporary folder is left.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


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


class Interruption:
    """Whether a signal has asked the command to end, whatever became of the exception it raised.

    TVM turns a KeyboardInterrupt inside a pass into a RuntimeError without a text, and PyTorch's
    exporter into an error of its own: what was raised does not tell.
    """

    def __init__(self) -> None:
        self.asked = False
        self._process = os.getpid()

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a forked child ends as it would without this handler
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        self.asked = True
        raise KeyboardInterrupt


def run(body: Callable[[], int], *, debug: bool) -> int:
    """Run ``body`` and return its exit status, or the status of what it raised after telling it.

    ``debug`` shows the traceback as well. A SystemExit, such as argparse's, passes through.
    """
    if sys.stdout is None:  # Python's way to say that it was closed before the start
        return _tell("error: stdout is closed; send it to a file, or to /dev/null", BAD_INPUT)
    with _interruptible() as interruption, _checked_stdout():
        try:
            status = _run_and_flush(body)
        except KeyboardInterrupt as error:
            # Raised inside an exec(), it is noted down, and Python ends itself by the signal.
            exec("")
            return _tell("interrupted", INTERRUPTED, error, debug=debug)
        except Exception as error:
            if interruption.asked:
                return _tell("interrupted", INTERRUPTED, error, debug=debug)
            return _tell(f"error: {describe(error)}", status_of(error), error, debug=debug)
    return status


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
        return one_line(advice or f"{error.name} is not installed, and this stage needs it")
    if isinstance(error, OSError) and error.filename is not None:
        return one_line(f"{os.fsdecode(error.filename)}: {error.strerror}")
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


def _tell(
    line: str, status: int, error: BaseException | None = None, *, debug: bool = False
) -> int:
    with contextlib.suppress(Exception):  # one line is enough; it may well be about stdout
        sys.stdout.flush()
    if debug and error is not None:
        say("".join(traceback.format_exception(error)).rstrip("\n"))
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


def _give_up(stream: TextIO) -> None:
    """Let a stream that cannot be written lose its text: Python would try again as it exits."""
    with contextlib.suppress(OSError, ValueError):
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, stream.fileno())
        os.close(nothing)


@contextlib.contextmanager
def _checked_stdout() -> Iterator[None]:
    before = sys.stdout
    sys.stdout = cast(TextIO, Stdout(before))
    try:
        yield
    finally:
        sys.stdout = before


@contextlib.contextmanager
def _interruptible() -> Iterator[Interruption]:
    """Meanwhile the signals that ask a command to end raise KeyboardInterrupt.

    Those that the process ignores, as under nohup or in a script's background, stay ignored.
    """
    interruption = Interruption()
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                before[number] = signal.signal(number, interruption)
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
