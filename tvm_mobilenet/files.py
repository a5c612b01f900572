"""Files that are appended to durably, replaced at once, written by one process only, or for now."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import resource
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tvm_mobilenet import signals
from tvm_mobilenet.errors import BadInput, RunFailed

LOCK = ".lock"
# what an OSError says where a disk, a quota or ``ulimit -f`` leaves no room
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
PREFIX = "tvm-mobilenet-"  # of what lies in the temporary folder while a command runs


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


def check_file(path: Path, name: str) -> None:
    """Raise BadInput where a file that people named, ``name`` for them, is none that is readable.

    Asked before any work. A pipe is none either: such files are read more than once.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode):
            path.open("rb").close()
    except (FileNotFoundError, NotADirectoryError):
        raise BadInput(f"{name}: no such file") from None
    except OSError as error:
        raise BadInput(f"{name}: cannot be read: {error.strerror}") from None
    if stat.S_ISDIR(mode):
        raise BadInput(f"{name}: expected a file, got a folder")
    if not stat.S_ISREG(mode):
        raise BadInput(f"{name}: expected a regular file, got a device or a pipe")


def read_text(path: Path, name: str) -> str:
    """The text of a file that people named, ``name`` for them. Raises BadInput where it is none."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{name}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BadInput(f"{name}: not UTF-8 text") from None


def write_text(path: Path, text: str) -> None:
    """``replace``, for a file that people named: RunFailed where it cannot be written."""
    try:
        replace(path, text)
    except OSError as error:
        raise RunFailed(f"cannot write {path}: {error.strerror}") from None


def replace(path: Path, content: str | bytes) -> None:
    """Put a new file in the place of ``path`` at once, so that a kill leaves the old or the new."""
    data = content.encode() if isinstance(content, str) else content
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        try:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            os.chmod(file.name, 0o644)
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise


def check_writable(path: Path, what: str) -> None:
    """Raise BadInput, before any work, where a file cannot be written; what is there stays."""
    existed = os.path.lexists(path)
    try:
        # a trial, since permission bits tell nothing on a read-only file system
        path.open("ab").close()
        if not existed:
            path.unlink()
    except OSError as error:
        raise BadInput(f"{what} {path}: cannot be written: {error.strerror}") from error


def check_replaceable(path: Path, what: str) -> None:
    """Raise BadInput, before any work, where a new file could not take the place of this one."""
    if path.exists() and not path.is_file():  # a device, say, which none should take the place of
        raise BadInput(f"{what} {path}: expected a regular file, or a name that is new")
    try:
        with tempfile.TemporaryFile(dir=path.absolute().parent):
            pass
    except OSError as error:
        raise BadInput(f"{what} {path}: cannot be written: {error.strerror}") from error


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """A new folder that goes, with what is in it, as the block ends. Raises as the next one."""
    folder = make_temporary_folder()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def own_temporary_folder() -> Iterator[None]:
    """Meanwhile the temporary folder, of this process and of those it starts, is one of its own.

    So that nothing is left: PyTorch, ONNX Runtime and compilers leave files of theirs there. Where
    no folder can be made, nothing changes, and who needs one says so.
    """
    try:
        folder = tempfile.mkdtemp(prefix=PREFIX)
    except OSError:
        yield
        return
    before, variable = tempfile.tempdir, os.environ.get("TMPDIR")
    try:
        tempfile.tempdir = os.environ["TMPDIR"] = folder
        yield
    finally:
        with signals.ignored():  # a second Ctrl-C would leave the folder there
            tempfile.tempdir = before
            # libraries note down places of theirs in the environment too
            for name in [name for name, value in os.environ.items() if value.startswith(folder)]:
                del os.environ[name]
            if variable is not None:
                os.environ["TMPDIR"] = variable
            shutil.rmtree(folder, ignore_errors=True)


def make_temporary_folder() -> Path:
    """A new folder for the caller to remove. Raises BadInput where none can be made."""
    try:
        return Path(tempfile.mkdtemp(prefix=PREFIX))
    except OSError as error:
        raise BadInput(
            f"no temporary folder can be made: {error.strerror}; set TMPDIR to a folder that can "
            "be written"
        ) from error


def temporary_root() -> Path:
    """The temporary folder as it was before ``own_temporary_folder``."""
    folder = Path(tempfile.gettempdir())
    while folder.name.startswith(PREFIX):
        folder = folder.parent
    return folder


def check_temporary_room(needed: int) -> None:
    """Raise BadInput where the temporary folder cannot be written, or has no room for so much.

    Asked before a compilation: LLVM ends the process where its file cannot be written.
    """
    with temporary_folder() as folder:
        free = shutil.disk_usage(folder).free
    most = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    if most != resource.RLIM_INFINITY and most < needed:
        raise BadInput(
            f"files of {most / 2**20:.0f} MiB at most may be written, expected "
            f"{needed / 2**20:.0f}; raise the limit: ulimit -f unlimited"
        )
    if free < needed:
        raise BadInput(
            f"temporary folder {temporary_root()}: expected {needed / 2**20:.0f} MiB free, got "
            f"{free / 2**20:.0f}; make room, or set TMPDIR to another folder"
        )
