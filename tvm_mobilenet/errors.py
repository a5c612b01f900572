"""The exceptions of this package: one base, two kinds, each with the exit status it stands for.

And the one line of a foreign error, or of what a program printed, that says something.
"""

from __future__ import annotations


class TvmMobilenetError(Exception):
    """Base of every error this package raises on purpose; its text is one plain line."""

    exit_status = 1


class RunFailed(TvmMobilenetError):
    """The work started and failed: nothing was measured, results differ, a device was lost."""

    exit_status = 1


class BadInput(TvmMobilenetError):
    """What the caller passed cannot be used; raised before any work is done."""

    exit_status = 2


def last_line(said: BaseException | str, otherwise: str = "no message") -> str:
    """The last line that is not blank, without blanks around it.

    Of an error without a message its type's name, of an empty text ``otherwise``.
    """
    lines = [line.strip() for line in str(said).splitlines() if line.strip()]
    if lines:
        return lines[-1]
    return type(said).__name__ if isinstance(said, BaseException) else otherwise
