"""Files that are appended to durably, replaced at once, and written by one process only."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tvm_mobilenet.errors import BadInput, RunFailed

LOCK = ".lock"


def hold_lock(directory: Path) -> int:
    """Make the folder and hold its lock; the file descriptor to close for letting go."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise BadInput(
            f"work directory {directory} cannot be written ({error.strerror}); "
            "name another with --work-dir"
        ) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.read(lock, 32).decode(errors="replace").strip()
        os.close(lock)
        raise BadInput(
            f"{directory} is being written by another tuning run (process {holder or 'unknown'}); "
            "wait for it to end, or name another --work-dir"
        ) from None
    os.ftruncate(lock, 0)
    os.write(lock, f"{os.getpid()}\n".encode())
    return lock


def append_lines(path: Path, lines: Sequence[str]) -> None:
    """Append whole lines and sync them to disk, or leave the file as it was."""
    if not lines:
        return
    data = "".join(line + "\n" for line in lines).encode()
    try:
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise RunFailed(f"{path} cannot be written: {error.strerror}") from None
    length = os.fstat(file).st_size
    try:
        written = 0
        while written < len(data):
            written += os.write(file, data[written:])
        os.fsync(file)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.ftruncate(file, length)
        if isinstance(error, OSError):
            raise RunFailed(
                f"{path} cannot be written: {error.strerror}; every earlier record is kept"
            ) from None
        raise
    finally:
        os.close(file)


def read_lines(path: Path) -> Iterator[tuple[int, str, bool]]:
    """The lines of a file from 1 with their number, and whether each is whole; none if missing."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from None
    lines = data.split(b"\n")
    for number, line in enumerate(lines, 1):
        whole = number < len(lines)
        if line or whole:
            yield number, line.decode("utf-8", errors="replace"), whole


def write_text(path: Path, text: str) -> None:
    """``replace``, for a file that people named: RunFailed where it cannot be written."""
    try:
        replace(path, text)
    except OSError as error:
        raise RunFailed(f"cannot write {path}: {error.strerror}") from None


def replace(path: Path, text: str) -> None:
    """Put a new file in the place of ``path`` at once, so that a kill leaves the old or the new."""
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as file:
        try:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
            os.chmod(file.name, 0o644)
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise
