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


def first_line(error: BaseException) -> str:
    """The first line of an error's text; where it has none, the name of its type."""
    lines = str(error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__
