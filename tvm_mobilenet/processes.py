"""Child processes of ours: Python at the other end of a pipe, which may crash, hang or print.

A child is started with ``python -m MODULE ARGUMENTS… FD``; its module's main calls
``connect_to_parent``. It ends with its parent, however that ends, and Ctrl-C is the parent's alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pickle
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

from tvm_mobilenet import files
from tvm_mobilenet.errors import RunFailed, last_line

P = ParamSpec("P")
R = TypeVar("R")

PR_SET_PDEATHSIG = 1
EXIT_TIMEOUT_S = 5.0  # for a child that has closed its pipe
WORDS = 200  # characters, of what a child printed last


class ChildDied(Exception):
    """A child ended, or closed its pipe, before it answered; the text says how.

    ``by`` is the signal that ended it, if one did.
    """

    def __init__(self, how: str, by: signal.Signals | None = None) -> None:
        super().__init__(how)
        self.by = by

    @property
    def of_memory(self) -> bool:
        """Whether it was killed, as Linux does with a process where memory is short."""
        return self.by == signal.SIGKILL


class NoAnswer(Exception):
    """A child did not answer in time. It runs on."""


class Child:
    """One child process and the pipe to it.

    What it prints goes to ``log``, None for where this process prints.
    """

    def __init__(
        self,
        module: str,
        arguments: Sequence[str] = (),
        log: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._log = log
        ours, theirs = socket.socketpair()
        paths = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        with theirs, contextlib.ExitStack() as stack:
            output = None if log is None else stack.enter_context(log.open("wb"))
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **paths, **(environment or {})},
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C is the parent's
            )
        self.connection = Connection(ours.detach())

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, message: object) -> None:
        """Send a message; where the child has died, ``receive`` says so."""
        with contextlib.suppress(OSError):
            self.connection.send(message)

    def receive(self, timeout_s: float | None = None) -> Any:
        """Its next message, waited for at most so long, None for as long as it lives.

        Raises ChildDied and NoAnswer.
        """
        try:
            if self.connection.poll(timeout_s):
                return self.connection.recv()
        except (EOFError, OSError):
            raise self._death() from None
        raise NoAnswer

    def last_words(self) -> str:
        """The last line it printed into its log; empty where it printed none."""
        try:
            return last_line(self._log.read_text(errors="replace"))[:WORDS] if self._log else ""
        except OSError:
            return ""

    def close_pipe(self) -> None:
        """Let it end by itself; ``kill`` is to follow."""
        self.connection.close()

    def wait(self, timeout_s: float) -> int | None:
        """Wait so long at most for its end; its exit status, None where it still runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(max(timeout_s, 0.0))
        return None

    def kill(self) -> None:
        """End it at once, whatever it is doing."""
        self._process.kill()
        self._process.wait()
        self.connection.close()

    def _death(self) -> ChildDied:
        status = self.wait(EXIT_TIMEOUT_S)
        if status is None:
            return ChildDied("closed its pipe")
        if status < 0:
            by = signal.Signals(-status)
            return ChildDied(f"was ended by {by.name}", by)
        return ChildDied(f"ended with status {status}")


def connect_to_parent() -> Connection:
    """In a child: the pipe to its parent, with whom it ends from now on."""
    if sys.platform == "linux":
        # not even kill -9 of the parent may leave a child behind, looping in what it runs
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    return Connection(int(sys.argv[-1]))


def call(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call a function, by its name in its module, in a fresh process that ends with it.

    What it raises is raised here; RunFailed where its process dies. Its temporary files go with it.
    """
    with files.temporary_folder() as scratch:
        child = Child("tvm_mobilenet.processes", environment={"TMPDIR": str(scratch)})
        try:
            child.send((function, args, kwargs))
            result, error = child.receive()
        except ChildDied as died:
            name = function.__name__.strip("_")
            advice = "; is memory short?" if died.of_memory else ""
            raise RunFailed(f"the process for {name} {died}{advice}") from None
        finally:
            child.kill()
    if error is not None:
        raise error
    return cast(R, result)


def main() -> None:
    """The child of ``call``."""
    connection = connect_to_parent()
    try:
        function, args, kwargs = connection.recv()
    except EOFError:  # the parent was interrupted before it could ask
        return
    answer: tuple[Any, Exception | None]
    try:
        answer = (function(*args, **kwargs), None)
    except Exception as error:  # the parent's to handle
        answer = (None, _make_portable(error))
    connection.send(answer)


def _make_portable(error: Exception) -> Exception:
    """The error where another process can be given it, else its last line."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RunFailed(f"{type(error).__name__}: {last_line(error)}")
    return error


if __name__ == "__main__":
    main()
