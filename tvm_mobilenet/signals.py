"""The signals that ask a command to end: Ctrl-C, SIGTERM and SIGHUP, which unwind it alike."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

# All unwind a command as Ctrl-C does, so that no temporary folder is left.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

BY_SIGNAL = 128  # a shell's status for a command that a signal ended is this and its number
INTERRUPTED = BY_SIGNAL + signal.SIGINT  # on Ctrl-C


class Interruption:
    """Whether a signal has asked the command to end, whatever became of the exception it raised.

    TVM turns a KeyboardInterrupt inside a pass into a RuntimeError without a text, and PyTorch's
    exporter into an error of its own: what was raised does not tell.
    """

    def __init__(self) -> None:
        self.by: int | None = None  # the signal
        self.over = False  # what asks the command to end from now on is late
        self._process = os.getpid()

    @property
    def status(self) -> int:
        """The exit status by which a shell knows the signal."""
        return INTERRUPTED if self.by is None else BY_SIGNAL + self.by

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a forked child ends as it would without this handler
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        if not self.over:
            self.by = number
            raise KeyboardInterrupt


@contextlib.contextmanager
def interruptible(interruption: Interruption) -> Iterator[None]:
    """Meanwhile the signals that ask a command to end raise KeyboardInterrupt.

    Those that the process ignores, as under nohup or in a script's background, stay ignored.
    """
    before = {}
    try:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                handler = signal.getsignal(number)
                if handler not in (signal.SIG_IGN, None):
                    before[number] = handler
                    signal.signal(number, interruption)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def ignored() -> Iterator[None]:
    """Meanwhile nothing asks the command to end: it is about to, and puts things in order."""
    before = {}
    try:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                before[number] = signal.signal(number, signal.SIG_IGN)
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)
