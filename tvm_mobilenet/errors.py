"""The exceptions of this package: one base, two kinds, each with the exit status it stands for."""

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


METADATA = "# Metadata omitted"  # begins the last line of what TVM prints of IR


def last_line(told: BaseException | str) -> str:
    """The line that says something of an error, or of what a program printed: the last not blank.

    Of an error without text its type's name; empty for empty text.
    """
    lines = [line.strip() for line in str(told).splitlines()]
    lines = [line for line in lines if line and not line.startswith(METADATA)]
    if lines:
        return lines[-1]
    return "" if isinstance(told, str) else type(told).__name__


def first_line(told: BaseException | str) -> str:
    """As ``last_line``, the first that is not blank, of who says the cause first."""
    lines = str(told).strip().splitlines()
    if lines:
        return lines[0].strip()
    return "" if isinstance(told, str) else type(told).__name__
